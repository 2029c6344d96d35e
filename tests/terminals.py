"""ansible-playbook in a terminal that a test can read: the screen, and every byte of the output."""

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DEADLINE_S = 120
SEQUENCE = re.compile(r"\033\[([0-9;]*)([A-Za-z])")


class Screen:
    """Knows the sequences that the callback and Ansible use: cursor up, clear to the end of the line, colours."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.lines: list[str] = [""]
        self.continued: set[int] = set()  # rows that continue the row above
        self.row = self.column = 0

    def feed(self, text: str) -> None:
        at = 0
        while at < len(text):
            if sequence := SEQUENCE.match(text, at):
                self._obey(*sequence.groups())
                at = sequence.end()
                continue
            self._put(text[at])
            at += 1

    def _obey(self, number: str, letter: str) -> None:
        if letter == "A":
            self.row = max(0, self.row - int(number or 1))
        elif letter == "K":
            self.lines[self.row] = self.lines[self.row][: self.column]
            if self.column == 0:
                self.continued.discard(self.row)
        else:
            assert letter == "m", f"a sequence that not every terminal knows: {number}{letter}"

    def _put(self, sign: str) -> None:
        if sign == "\r":
            self.column = 0
            return
        if sign == "\n" or self.column == self.columns:
            self.row += 1
            self.lines += [""] * (self.row + 1 - len(self.lines))
            (self.continued.discard if sign == "\n" else self.continued.add)(self.row)
            self.column = self.column if sign == "\n" else 0
        if sign != "\n":
            line = self.lines[self.row].ljust(self.column)
            self.lines[self.row] = line[: self.column] + sign + line[self.column + 1 :]
            self.column += 1

    @property
    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.lines).rstrip()

    @property
    def unwrapped(self) -> str:
        """What was printed, without the breaks at the terminal's edge."""
        return "".join(
            line if row in self.continued or not row else f"\n{line}" for row, line in enumerate(self.lines)
        ).rstrip()  # fmt: skip


class Session:
    """A command with a terminal that it controls: a typed Ctrl-C interrupts the command."""

    def __init__(self, command: Sequence[str | Path], columns: int, cwd: Path, environment: Mapping[str, str]) -> None:
        self._master, self._terminal = pty.openpty()
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self.settings = termios.tcgetattr(self._terminal)
        self.screen = Screen(columns)
        self.raw = ""
        self._rest = b""
        terminal = self._terminal
        self.process = subprocess.Popen(
            command, cwd=cwd, env=dict(environment), stdin=terminal, stdout=terminal, stderr=terminal,
            start_new_session=True, preexec_fn=lambda: fcntl.ioctl(terminal, termios.TIOCSCTTY, 0),
        )  # fmt: skip

    def until(self, condition: Callable[[str], bool]) -> str:
        """The screen, as soon as it fulfils the condition."""
        deadline = time.monotonic() + DEADLINE_S
        while not condition(self.screen.text):
            assert time.monotonic() < deadline and self.process.poll() is None, self.screen.text
            self._read(0.1)
        return self.screen.text

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def end(self) -> int:
        deadline = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline, self.screen.text
            self._read(0.1)
        while self._read(0):
            pass
        return self.process.returncode

    def settings_now(self) -> list:
        return termios.tcgetattr(self._terminal)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)
        os.close(self._terminal)

    def _read(self, timeout_s: float) -> bool:
        if not select.select([self._master], [], [], timeout_s)[0]:
            return False
        read = self._rest + os.read(self._master, 65536)
        text = read.decode(errors="ignore")
        self._rest = read[len(text.encode()) :]
        # An incomplete sequence waits for its end.
        if (start := text.rfind("\033")) >= 0 and not SEQUENCE.match(text, start):
            self._rest = text[start:].encode() + self._rest
            text = text[:start]
        self.raw += text
        self.screen.feed(text)
        return True


@dataclass
class Kit:
    """A playbook in a separate directory. Its first task waits for the file `gate`."""

    home: Path

    def command(self, *arguments: str) -> list[str | Path]:
        return [Path(sys.executable).parent / "ansible-playbook", "-i", "hosts", "site.yml", *arguments]

    def environment(self, **more: str) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name not in ("CI", "NO_COLOR", "ANSIBLE_NOCOLOR")}
        return kept | {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0", "TERM": "xterm"} | more

    def pipe(self, *arguments: str, **more: str) -> subprocess.CompletedProcess:
        return subprocess.run(
            self.command(*arguments), cwd=self.home, env=self.environment(**more), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip

    def session(self, *arguments: str, columns: int = 100, **more: str) -> Session:
        return Session(self.command(*arguments), columns, self.home, self.environment(**more))

    def open_gate(self) -> None:
        (self.home / "gate").touch()
