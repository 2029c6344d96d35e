"""A trial of firewall rules that is killed anywhere: the host is never open, and the next run ends with the new rules.

The program runs from its own text, with its paths below a directory of the test; the kernel and systemd are stand-ins in files,
since each kill ends a real process.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

PROGRAM = Path(__file__).resolve().parents[1] / "plugins/module_utils/firewall_program.py"
FORMER, NEW, FALLBACK = (f"table inet grunnfjell {{ {name} }}" for name in ("former", "new", "fallback"))
KILLED = 9


class Host:
    """The program on a host with a kernel that has tables, and a systemd that has timers."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.history = home / "tables"
        self.history.touch()
        (home / "run").mkdir()
        (home / "etc/systemd/system").mkdir(parents=True)
        self.program = ModuleType("firewall_program")
        text = PROGRAM.read_text(encoding="utf-8").replace('Path("/', f'Path("{home}/')
        exec(compile(text, str(PROGRAM), "exec"), vars(self.program))
        self.program.command = self.command
        # Words that nft refuses, and whether systemd sets up timers.
        self.refused, self.timers = "nothing", True
        self.steps, self.dies_at = 0, None
        write = self.program.write

        def counted(path: Path, text: str, mode: int = 0o644) -> None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.step()
            write(path, text, mode)

        self.program.write = counted

    def step(self) -> None:
        """Between two of these nothing changes on the host."""
        if self.steps == self.dies_at:
            os._exit(KILLED)
        self.steps += 1

    @property
    def table(self) -> str:
        """What the kernel has; empty for no table, which lets everything pass."""
        return json.loads(self.history.read_text().splitlines()[-1])

    @table.setter
    def table(self, text: str) -> None:
        with self.history.open("a") as file:
            file.write(json.dumps(text.partition("add rule")[0].strip()) + "\n")

    @property
    def was_open(self) -> bool:
        return '""' in self.history.read_text().splitlines()

    def command(self, *argv: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        self.step()
        code, out = self.answer(argv, stdin or "")
        return subprocess.CompletedProcess(argv, code, out, "refused" if code else "")

    def answer(self, argv: tuple[str, ...], stdin: str) -> tuple[int, str]:
        units = self.home / "etc/systemd/system/sysinit.target.wants"
        match argv:
            case ["nft", *_, "-f", "-"]:
                if self.refused in stdin:
                    return 1, ""
                if "-c" not in argv and "delete table" in stdin:
                    self.table = stdin.partition("delete table inet grunnfjell\n")[2]
            case ["nft", "list", *_]:
                return (0, self.table) if self.table else (1, "")
            case ["nft", "-j", *_]:
                return (0, json.dumps({"nftables": [{"table": {"name": self.table}}]})) if self.table else (1, "")
            case ["systemctl", "enable", *_]:
                units.mkdir(exist_ok=True)
                if not (units / self.program.SERVICE).is_symlink():
                    (units / self.program.SERVICE).symlink_to("/dev/null")
            case ["systemd-run", *_] if not self.timers:
                return 1, ""
        return 0, ""

    # A run, as module firewall and its action do it.

    @property
    def files(self) -> dict[str, tuple[str, int]]:
        rules, fallback = self.program.instead(NEW), self.program.instead(FALLBACK)
        return {str(self.program.RULES): (rules, 0o644), str(self.program.FALLBACK): (fallback, 0o644)}

    def begin(self) -> dict[str, Any]:
        return self.program.begin(self.program.instead(NEW), {}, self.files, "# the program\n", 60)

    def converge(self) -> None:
        self.program.confirm(self.begin()["token"])

    def killed_in(self, what: Callable[[], object], step: int) -> bool:
        """Whether it was killed before this step; else it has come to its end."""
        self.steps, self.dies_at = 0, step
        child = multiprocessing.get_context("fork").Process(target=what)
        child.start()
        child.join()
        self.dies_at = None
        assert child.exitcode in (0, KILLED)
        return child.exitcode == KILLED

    def steps_of(self, what: Callable[[], object]) -> int:
        self.steps = 0
        what()
        return self.steps


@pytest.fixture
def host(tmp_path: Path) -> Host:
    fake = Host(tmp_path)
    fake.table = FORMER
    return fake


BEGIN, CONFIRM = range(9), range(9)


def test_a_run_has_the_steps_at_which_the_tests_below_kill_it(host: Host) -> None:
    token: dict[str, Any] = {}
    assert host.steps_of(lambda: token.update(host.begin())) == len(BEGIN)
    assert host.table == NEW
    assert host.steps_of(lambda: host.program.confirm(token["token"])) == len(CONFIRM)
    assert host.table == NEW and host.program.differing(host.files, False) == []


@pytest.mark.parametrize("step", BEGIN)
def test_a_trial_whose_beginning_is_killed_is_completed_by_the_next_run(host: Host, step: int) -> None:
    assert host.killed_in(host.begin, step)
    assert host.table in (FORMER, NEW)
    host.converge()
    assert host.table == NEW and not host.was_open
    assert not host.program.TRIAL.exists() and host.program.differing(host.files, False) == []


@pytest.mark.parametrize("step", BEGIN)
def test_the_timer_of_a_trial_whose_run_was_killed_brings_the_former_rules_back(host: Host, step: int) -> None:
    host.killed_in(host.begin, step)
    host.program.back()
    assert host.table == FORMER and not host.was_open and not host.program.TRIAL.exists()


@pytest.mark.parametrize("step", CONFIRM)
def test_a_confirmation_that_is_killed_goes_back_and_the_next_run_completes(host: Host, step: int) -> None:
    token = host.begin()["token"]
    assert host.killed_in(lambda: host.program.confirm(token), step)
    host.program.back()  # by the timer
    assert host.table in (FORMER, NEW)
    host.converge()
    assert host.table == NEW and not host.was_open and host.program.differing(host.files, False) == []


@pytest.mark.parametrize("step", CONFIRM)
def test_after_a_power_cut_in_a_confirmation_the_next_run_sees_what_is_missing(host: Host, step: int) -> None:
    token = host.begin()["token"]
    host.killed_in(lambda: host.program.confirm(token), step)
    (host.home / "run").rename(host.home / "before-the-cut")
    (host.home / "run").mkdir()
    host.table = (host.program.read(host.program.RULES) or "").partition("delete table inet grunnfjell\n")[2]
    assert host.table in ("", NEW)
    if host.program.differing(host.files, False):
        host.converge()
    assert host.table == NEW and host.program.differing(host.files, False) == []


def test_what_is_written_is_on_the_disk_before_it_takes_the_place_of_the_old(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules that are empty after a power cut would leave the host open."""
    order, fsync, replace = [], os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda file: (order.append("synced"), fsync(file))[1])
    monkeypatch.setattr(Path, "replace", lambda path, target: (order.append("replaced"), replace(path, target))[1])
    host.program.write(host.program.RULES, NEW)
    assert order == ["synced", "replaced"] and host.program.RULES.read_text() == NEW


def test_former_rules_that_no_longer_load_leave_the_fallback_and_not_an_open_host(host: Host) -> None:
    host.converge()
    host.table = FORMER
    host.begin()
    host.refused = "former"
    with pytest.raises(host.program.FirewallError, match="nft refuses the rules"):
        host.program.back()
    assert host.table == FALLBACK and not host.was_open and not host.program.TRIAL.exists()
    host.converge()
    assert host.table == NEW


def test_without_a_timer_nothing_is_loaded(host: Host) -> None:
    host.timers = False
    with pytest.raises(
        host.program.FirewallError, match="No timer could be set to restore the former rules, so nothing was loaded"
    ):
        host.begin()
    assert host.table == FORMER and not host.program.TRIAL.exists()


def test_a_confirmation_after_the_end_of_the_trial_changes_nothing(host: Host) -> None:
    token = host.begin()["token"]
    host.program.back()
    with pytest.raises(host.program.FirewallError, match="the trial is over"):
        host.program.confirm(token)
    assert host.table == FORMER and not host.program.RULES.exists()
