"""A copy of the working tree to break, and the hosts of a scenario to try it on."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab.ci.runner import environment
from lab.machine import BIN, BUILD, REPOSITORY
from lab.mutants.answers import Answer, answer
from lab.mutants.faults import Fault, mutate, node


@dataclass(frozen=True)
class Run:
    ok: bool
    output: str


class Scratch:
    """Only the copy, for unit tests."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.home = BUILD / "mutants" / role
        self.log = BUILD / "mutants" / f"{role}.log"
        self.written = 0
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        self.log.write_text("", encoding="utf-8")
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        files = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\0")
        for name in filter(None, files):
            source, target = REPOSITORY / name, self.home / name
            if source.exists() or source.is_symlink():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, target, follow_symlinks=False)
        shutil.copy2(REPOSITORY / ".vault-password", self.home / ".vault-password")
        (self.home / ".venv").symlink_to(REPOSITORY / ".venv")
        # .venv has the collection without the fault; this one is found first.
        self.collections = self.home / "build/collections"
        collection = self.collections / "ansible_collections/grunnfjell/platform"
        collection.parent.mkdir(parents=True)
        collection.symlink_to(self.home)

    def run(self, *command: str, **more: str) -> Run:
        settings = {"ANSIBLE_COLLECTIONS_PATH": str(self.collections), "PYTHONPATH": str(self.collections), "NO_COLOR": "1"}
        with self.log.open("a", encoding="utf-8") as log:
            print(f"\n$ {' '.join(command)}", file=log, flush=True)
            start = log.tell()
            done = subprocess.run(
                command,
                cwd=self.home,
                env=environment() | settings | more,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
            )
        with self.log.open(encoding="utf-8", errors="replace") as log:
            log.seek(start)
            return Run(done.returncode == 0, log.read())

    @contextmanager
    def broken(self, fault: Fault) -> Iterator[None]:
        sound, file = REPOSITORY / fault.file, self.home / fault.file
        file.write_text(mutate(sound.read_text(encoding="utf-8"), fault), encoding="utf-8")
        # Python compares bytecode with its source by size and time in seconds, so give each version another time.
        self.written += 1
        os.utime(file, (sound.stat().st_mtime + self.written,) * 2)
        try:
            yield
        finally:
            shutil.copy2(sound, file)

    def start(self) -> Run:
        """Converge blank hosts without a fault."""
        return Run(True, "")

    def bring(self, fault: Fault, blank: bool = False) -> Run:
        """Converge the hosts from the copy, in the way that the fault declares."""
        return Run(True, "")

    def ask(self, fault: Fault) -> tuple[Answer, str]:
        """The test's verdict and what it printed."""
        return self.pytest(node(self.role, fault, self.home))

    def pytest(self, test: str, *arguments: str, **settings: str) -> tuple[Answer, str]:
        report = self.home / "build/asked.xml"
        report.unlink(missing_ok=True)
        pytest = [str(BIN / "pytest"), "-q", "-x", "-p", "no:cacheprovider", f"--junitxml={report}"]
        done = self.run(*pytest, *arguments, test, **settings)
        return answer(report.read_text(encoding="utf-8") if report.exists() else None, test), done.output

    def end(self) -> None:
        """Remove what is outside the copy."""


class Hosts(Scratch):
    """The copy and the hosts of the role's scenario."""

    def __init__(self, role: str) -> None:
        super().__init__(role)
        # The lab's SSH key and known_hosts.
        (BUILD / "lab").mkdir(parents=True, exist_ok=True)
        (self.home / "build/lab").symlink_to(BUILD / "lab")
        self.ephemeral = self.home / "build/molecule"

    def run(self, *command: str, **more: str) -> Run:
        settings = {"MOLECULE_EPHEMERAL_DIRECTORY": str(self.ephemeral), "MOLECULE_COMMAND_BORDERS": "0"}
        return super().run(*command, **settings, MOLECULE_PROJECT_DIRECTORY=str(self.home), **more)

    def molecule(self, action: str) -> Run:
        return self.run(str(BIN / "molecule"), action, "--scenario-name", self.role)

    def start(self) -> Run:
        self.end()
        return self.molecule("converge")

    def lay_out(self) -> Run:
        """The scenario's inventory before any edit."""
        scenario, fleet, state = self.home / f"molecule/{self.role}", self.ephemeral / "fleet", self.home / "build/lab"
        return self.run(str(self.home / "molecule/shared/lay_out.py"), str(scenario), str(fleet), str(state))

    def converge(self, playbook: str | None = None, edit: str | None = None) -> Run:
        if edit:
            shutil.copytree(self.home / f"molecule/{self.role}/{edit}", self.ephemeral / "fleet", dirs_exist_ok=True)
        name = playbook or self.role
        return self.run(str(BIN / "ansible-playbook"), "-i", str(self.ephemeral / "fleet"), f"playbooks/{name}.yml")

    def bring(self, fault: Fault, blank: bool = False) -> Run:
        if blank:
            done = self.start()
        else:
            done = self.lay_out()
            done = self.converge(fault.playbook) if done.ok else done
        return self.converge(edit=fault.after) if done.ok and fault.after else done

    def ask(self, fault: Fault) -> tuple[Answer, str]:
        inventory = f"--ansible-inventory={self.ephemeral / 'fleet'}"
        # As Molecule sets it for a verifier: some tests run only on the scenario's hosts.
        return self.pytest(node(self.role, fault, self.home), inventory, MOLECULE_SCENARIO_NAME=self.role)

    def end(self) -> None:
        self.molecule("destroy")
