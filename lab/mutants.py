"""Break each role on purpose, one line at a time, and see its tests notice.

Each role's faults stand in molecule/<role>/mutants.yml. They are made in a scratch copy of the working tree, on the hosts of the
role's own scenario: the copy's role is converged as it is, the named tests pass; then for each fault the line is broken, the
role converged again, and the named test must fail. What caught which fault is written to build/mutants.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from lab.ci.counts import BUILD, count
from lab.ci.running import environment
from lab.machine import REPOSITORY

BIN = Path(sys.executable).parent
SIDE_BY_SIDE = 2


@dataclass(frozen=True)
class Fault:
    """fault: a few words; file, find, replace: the line that is broken, where `find` stands exactly once.

    test: the test that must notice, a name within molecule/<role>/tests, or a file of tests/ that needs no host.
    after: the scenario's edit of the inventory that is converged before the test is asked, `change` or `removal`; none without.
    playbook: what brings the line to the hosts, if that is another role's than the one whose test it is.
    blank: the fault meets hosts on which nothing was built before, since what is there already would hide it.
    """

    fault: str
    file: str
    find: str
    replace: str
    test: str
    after: str | None = None
    playbook: str | None = None
    blank: bool = False


@dataclass(frozen=True)
class Verdict:
    role: str
    fault: str
    caught_by: str | None


def faults_of(role: str) -> list[Fault]:
    text = (REPOSITORY / f"molecule/{role}/mutants.yml").read_text(encoding="utf-8")
    return [Fault(**entry) for entry in yaml.safe_load(text)]


def mutate(text: str, fault: Fault) -> str:
    """The text with the fault in it; refuses a fault that no longer fits, since it would test nothing."""
    if text.count(fault.find) != 1:
        raise SystemExit(
            f"mutants: '{fault.find}' stands {text.count(fault.find)} times in {fault.file}, not once; edit the fault."
        )
    return text.replace(fault.find, fault.replace)


class Scratch:
    """A copy of the working tree in which a role may be broken, with the hosts of its scenario."""

    def __init__(self, role: str) -> None:
        self.role = role
        self.home = BUILD / "mutants" / role
        self.log = BUILD / "mutants" / f"{role}.log"
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir(parents=True)
        self.log.write_text("", encoding="utf-8")
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
        files = subprocess.run(listed, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout.split("\0")
        for name in filter(None, files):
            source, target = REPOSITORY / name, self.home / name
            if not source.exists() and not source.is_symlink():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
        shutil.copy2(REPOSITORY / ".vault-password", self.home / ".vault-password")
        (self.home / ".venv").symlink_to(REPOSITORY / ".venv")
        (self.home / "build").mkdir()
        # The key of the lab's hosts, and whom they are known to be.
        (self.home / "build/lab").symlink_to(BUILD / "lab")
        self.ephemeral = self.home / "build/molecule"

    def run(self, *command: str, **more: str) -> bool:
        settings = {"MOLECULE_EPHEMERAL_DIRECTORY": str(self.ephemeral), "MOLECULE_COMMAND_BORDERS": "0", "NO_COLOR": "1"}
        settings |= {"MOLECULE_PROJECT_DIRECTORY": str(self.home), **more}
        with self.log.open("a", encoding="utf-8") as log:
            print(f"\n$ {' '.join(command)}", file=log, flush=True)
            done = subprocess.run(
                command,
                cwd=self.home,
                env=environment() | settings,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=False,
            )
        return done.returncode == 0

    def molecule(self, action: str, *arguments: str) -> bool:
        return self.run(str(BIN / "molecule"), action, "--scenario-name", self.role, *arguments)

    def lay_out(self) -> bool:
        """The scenario's inventory as it is before any edit."""
        scenario, fleet, state = self.home / f"molecule/{self.role}", self.ephemeral / "fleet", self.home / "build/lab"
        return self.run(str(self.home / "molecule/shared/lay_out.py"), str(scenario), str(fleet), str(state))

    def converge(self, playbook: str | None = None, edit: str | None = None) -> bool:
        if edit:
            shutil.copytree(self.home / f"molecule/{self.role}/{edit}", self.ephemeral / "fleet", dirs_exist_ok=True)
        return self.run(
            str(BIN / "ansible-playbook"), "-i", str(self.ephemeral / "fleet"), f"playbooks/{playbook or self.role}.yml"
        )

    def bring(self, fault: Fault) -> bool:
        """Whether the hosts take the fault; one that refuses it has noticed it."""
        if fault.blank:
            made = self.molecule("destroy") and self.molecule("converge")
        else:
            made = self.lay_out() and self.converge(fault.playbook)
        return made and (fault.after is None or self.converge(edit=fault.after))

    def ask(self, test: str) -> bool:
        """Whether the test passes. One that finds nothing to ask, or skips all of it, does not."""
        report = self.home / "build/asked.xml"
        pytest = [str(BIN / "pytest"), "-q", "-x", "-p", "no:cacheprovider", f"--junitxml={report}"]
        if not test.startswith("tests/"):
            pytest += [f"--ansible-inventory={self.ephemeral / 'fleet'}", f"molecule/{self.role}/tests", "-k"]
        # As Molecule tells a verifier: some tests are for its own hosts alone.
        passes = self.run(*pytest, test, MOLECULE_SCENARIO_NAME=self.role)
        return passes and count(0, report.read_text(encoding="utf-8")).passed > 0


def judge_role(role: str) -> list[Verdict]:
    faults = faults_of(role)
    scratch = Scratch(role)
    verdicts = []
    try:
        scratch.molecule("destroy")
        sound = scratch.molecule("converge") and all(scratch.ask(test) for test in sorted({fault.test for fault in faults}))
        if not sound:
            print(f"  {role}: the role does not pass as it is; see {scratch.log.relative_to(REPOSITORY)}", flush=True)
            return [Verdict(role, fault.fault, None) for fault in faults]
        for fault in faults:
            verdicts.append(judge_fault(scratch, fault))
    finally:
        scratch.molecule("destroy")
    return verdicts


def judge_fault(scratch: Scratch, fault: Fault) -> Verdict:
    file = scratch.home / fault.file
    whole = file.read_text(encoding="utf-8")
    file.write_text(mutate(whole, fault), encoding="utf-8")
    try:
        converged = fault.test.startswith("tests/") or scratch.bring(fault)
        caught = not converged or not scratch.ask(fault.test)
        by = (fault.test if converged else "the role itself, which refuses it") if caught else None
    finally:
        file.write_text(whole, encoding="utf-8")
    print(f"  {'caught' if caught else 'MISSED':6}  {scratch.role}: {fault.fault}", flush=True)
    return Verdict(scratch.role, fault.fault, by)


def write_down(verdicts: list[Verdict]) -> None:
    """Keep them in build/mutants.json; roles that this run left out stay there from before."""
    path = BUILD / "mutants.json"
    asked = {verdict.role for verdict in verdicts}
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    report = [entry for entry in before if entry["role"] not in asked] + [asdict(verdict) for verdict in verdicts]
    path.write_text(json.dumps(sorted(report, key=lambda entry: entry["role"]), indent=2) + "\n", encoding="utf-8")


def main() -> None:
    known = sorted(path.parent.name for path in (REPOSITORY / "molecule").glob("*/mutants.yml"))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("roles", nargs="*", metavar="ROLE", help=f"{', '.join(known)}; all of them if none is named")
    roles = parser.parse_args().roles or known
    if unknown := set(roles) - set(known):
        parser.error(f"there is no molecule/{sorted(unknown)[0]}/mutants.yml")
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        verdicts = [verdict for found in pool.map(judge_role, roles) for verdict in found]
    write_down(verdicts)
    missed = [verdict for verdict in verdicts if verdict.caught_by is None]
    print(f"\n{len(verdicts) - len(missed)} of {len(verdicts)} faults caught; build/mutants.json", flush=True)
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
