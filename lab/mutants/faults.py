"""The faults and the tests that must notice them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from lab.machine import REPOSITORY

# The faults that need no host, and the name by which they are asked for.
UNIT = "unit"


@dataclass(frozen=True)
class Fault:
    """fault: a few words; file, find, replace: the place that is broken, where `find` occurs exactly once.

    test: the test that must fail: its name in molecule/<role>/tests; in tests/mutants its file and name, tests/x.py::test_y.
    refused: the sentence with which the role itself must refuse the fault while it converges; the test is then asked only of
    the sound role.
    after: the scenario's edit of the inventory that is converged before the test is asked, `change` or `removal`.
    playbook: what brings the line to the hosts, if that is another role's than the one whose test it is.
    blank: the fault meets hosts on which nothing was built before, since what is there already would hide it.
    """

    fault: str
    file: str
    find: str
    replace: str
    test: str
    refused: str | None = None
    after: str | None = None
    playbook: str | None = None
    blank: bool = False


def files(role: str) -> list[Path]:
    return sorted(REPOSITORY.glob("tests/mutants/*.yml" if role == UNIT else f"molecule/{role}/mutants.yml"))


def roles() -> list[str]:
    return [UNIT, *sorted(path.parent.name for path in (REPOSITORY / "molecule").glob("*/mutants.yml"))]


def faults_of(role: str) -> list[Fault]:
    return [Fault(**entry) for path in files(role) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))]


def mutate(text: str, fault: Fault) -> str:
    """The text with the fault in it. A fault that does not fit exactly once is an error, since it would test nothing."""
    if text.count(fault.find) != 1:
        raise SystemExit(
            f"mutants: '{fault.find}' occurs {text.count(fault.find)} times in {fault.file}, not once; edit the fault."
        )
    return text.replace(fault.find, fault.replace)


def node(role: str, fault: Fault, repository: Path = REPOSITORY) -> str:
    """What pytest calls the test: exactly one, with all its hosts and parameters."""
    file, _, name = fault.test.rpartition("::")
    places = [repository / file] if role == UNIT else sorted((repository / f"molecule/{role}/tests").glob("test_*.py"))
    defines = re.compile(rf"^def {re.escape(name)}\(", re.MULTILINE)
    found = [path for path in places if path.is_file() and defines.search(path.read_text(encoding="utf-8"))]
    if len(found) != 1:
        raise SystemExit(f"mutants: {len(found)} tests are called {fault.test}, not one; edit '{fault.fault}' of {role}.")
    return f"{found[0].relative_to(repository)}::{name}"
