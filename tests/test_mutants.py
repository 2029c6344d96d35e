"""The harness of the mutants: what counts as caught, and what a fault leaves on the hosts. Review finding H5."""

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lab.machine import in_turn
from lab.mutants import __main__ as program
from lab.mutants import faults, scratch
from lab.mutants.answers import Answer, answer
from lab.mutants.faults import Fault
from lab.mutants.scratch import Run
from lab.mutants.trial import Verdict, try_fault

FAULT = Fault("the fault's words", "roles/x/vars/main.yml", "right", "wrong", "test_right")
REFUSED = Fault("a refused fault", "roles/x/vars/main.yml", "right", "wrong", "test_right", refused="The value is wrong.")
PASSED, FAILED, NONE = Answer("passed"), Answer("failed", "assert 1 == 2"), Answer("none", "RuntimeError: ssh: connection closed")

ASKED = """
import pytest
from helper import lost, only

@pytest.fixture
def broken():
    assert False, "the host is not there"

@pytest.fixture
def broken_afterwards():
    yield
    assert False, "the host is not there"

def test_passes(): pass
def test_asserts(): assert 1 == 2
def test_asserts_with_words(): assert 1 == 2, "one is not two"
def test_fails(): pytest.fail("it may not")
def test_expects_a_refusal():
    with pytest.raises(OSError): pass
def test_counts_what_it_unpacks(): (sentence,) = []
def test_in_a_helper_that_unpacks(): only([])
def test_loses_its_connection(): lost()
def test_has_a_broken_fixture(broken): pass
def test_has_a_fixture_that_breaks_afterwards(broken_afterwards): pass
def test_is_skipped(): pytest.skip("not here")
@pytest.mark.parametrize("host", ["a", "b"])
def test_asserts_on_one_host(host): assert host == "a"
def test_asserts_on(): pass
"""
HELPER = """
def lost(): raise RuntimeError("ssh: connection closed")
def only(items): (item,) = items
"""
VERDICTS = {
    "test_passes": "passed",
    "test_asserts": "failed",
    "test_asserts_with_words": "failed",
    "test_fails": "failed",
    "test_expects_a_refusal": "failed",
    "test_counts_what_it_unpacks": "failed",
    "test_in_a_helper_that_unpacks": "none",
    "test_loses_its_connection": "none",
    "test_has_a_broken_fixture": "none",
    "test_has_a_fixture_that_breaks_afterwards": "none",
    "test_is_skipped": "none",
    "test_asserts_on_one_host": "failed",
    "test_asserts_on": "passed",
    "test_that_does_not_exist": "none",
}


def report_of(directory: Path, test: str) -> str:
    (directory / "test_asked.py").write_text(test)
    (directory / "helper.py").write_text(HELPER)
    options = ["-q", "-p", "no:cacheprovider", "--rootdir=.", "--junitxml=report.xml"]
    command = [sys.executable, "-m", "pytest", *options, "test_asked.py"]
    subprocess.run(command, cwd=directory, capture_output=True, check=False)
    return (directory / "report.xml").read_text()


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> str:
    return report_of(tmp_path_factory.mktemp("asked"), ASKED)


@pytest.mark.parametrize(("name", "verdict"), VERDICTS.items())
def test_only_an_assertion_of_the_named_test_is_a_failure(report, name, verdict):
    assert answer(report, f"test_asked.py::{name}").verdict == verdict


def test_a_test_that_cannot_be_imported_does_not_count_as_failed(tmp_path):
    result = answer(report_of(tmp_path, "import nothing_of_this_name\ndef test_passes(): pass"), "test_asked.py::test_passes")
    assert result.verdict == "none" and "collection failure" in result.message


def test_a_missing_report_does_not_count_as_failed():
    assert answer(None, "test_asked.py::test_passes").verdict == "none"


@dataclass
class Rehearsed:
    """A scratch copy with prepared results of converges and tests; `did`: the actions, each on a fault or a sound role."""

    brings: list[bool]
    answers: list[Answer]
    output: str = ""
    role: str = "x"
    fault: bool = False
    did: list[str] = field(default_factory=list)

    @contextmanager
    def broken(self, fault):
        self.fault = True
        yield
        self.fault = False

    def note(self, action: str) -> None:
        self.did.append(f"{action} {'fault' if self.fault else 'sound'}")

    def bring(self, fault, blank=False):
        self.note("bring blank" if blank else "bring")
        return Run(self.brings.pop(0), self.output)

    def ask(self, fault):
        self.note("ask")
        return self.answers.pop(0), "what the test printed"


CASES = {
    "its test asserts": (FAULT, [True, True], [FAILED, PASSED], "", True),
    "its test passes": (FAULT, [True, True], [PASSED, PASSED], "", False),
    "its test lost the host": (FAULT, [True, True], [NONE, PASSED], "", False),
    "the converge breaks": (FAULT, [False, True], [PASSED], "The value is wrong.", False),
    "the role refuses it as foreseen": (REFUSED, [False, True], [PASSED], "fatal: The value\n   is wrong. Edit it.", True),
    "the converge breaks otherwise": (REFUSED, [False, True], [PASSED], "no space left on device", False),
    "a host is gone": (REFUSED, [False, True], [PASSED], "fatal: [a]: UNREACHABLE! The value is wrong.", False),
    "the role takes what it was to refuse": (REFUSED, [True, True], [PASSED], "The value is wrong.", False),
    "the sound role fails the test too": (FAULT, [True] * 3, [FAILED] * 3, "", False),
    "the sound role no longer converges": (FAULT, [True, False, False], [FAILED], "", False),
    "what it left behind goes with its hosts": (FAULT, [True] * 3, [FAILED, FAILED, PASSED], "", True),
}


@pytest.mark.parametrize("case", CASES)
def test_only_its_test_or_the_expected_refusal_catches_a_fault(case):
    fault, brings, answers, output, caught = CASES[case]
    verdict = try_fault(Rehearsed(list(brings), list(answers), output), fault)
    assert verdict.caught == caught and bool(verdict.by) >= caught


def test_after_each_fault_the_sound_role_is_converged_and_tested():
    hosts = Rehearsed([True] * 3, [FAILED, FAILED, PASSED])
    assert try_fault(hosts, FAULT).rebuilt
    assert hosts.did == ["bring fault", "ask fault", "bring sound", "ask sound", "bring blank sound", "ask sound"]


def test_a_missed_fault_is_printed_with_its_details(capsys):
    try_fault(Rehearsed([True, True], [PASSED, PASSED]), FAULT)
    printed = capsys.readouterr().out
    for part in ("MISSED", "the fault's words", FAULT.file, "'right'", "'wrong'", FAULT.test, "what the test printed"):
        assert part in printed


@pytest.fixture
def copied(tmp_path, monkeypatch):
    """A scratch copy of a small repository."""
    repository = tmp_path / "repository"
    module = repository / "plugins/plugin_utils/value.py"
    module.parent.mkdir(parents=True)
    module.write_text("VALUE = 'right'\n")
    (module.parent / "__init__.py").touch()
    (repository / ".vault-password").write_text("secret")
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    monkeypatch.setattr(scratch, "REPOSITORY", repository)
    monkeypatch.setattr(scratch, "BUILD", tmp_path / "build")
    return scratch.Scratch(faults.UNIT)


def test_commands_in_the_copy_import_the_copy(copied):
    """The collection in .venv is the sound one, which would hide every fault."""
    script = "import ansible_collections.grunnfjell.platform.plugins.plugin_utils.value as value; print(value.VALUE)"
    fault = Fault("", "plugins/plugin_utils/value.py", "right", "wrong", "")
    for _ in range(2):  # each within a second, and no version longer than the other
        assert copied.run(sys.executable, "-c", script).output == "right\n"
        with copied.broken(fault):
            assert copied.run(sys.executable, "-c", script).output == "wrong\n"
    assert (scratch.REPOSITORY / fault.file).read_text() == "VALUE = 'right'\n"


def test_ansible_in_the_copy_reads_the_copy(copied):
    """By the first path of its collections, which no ansible.cfg of the repository overrules."""
    dump = copied.run(str(scratch.BIN / "ansible-config"), "dump", "--only-changed").output
    assert f"'{copied.collections}'" in dump
    assert (copied.collections / "ansible_collections/grunnfjell/platform").samefile(copied.home)


def test_a_fault_fits_exactly_once():
    assert faults.mutate("a right b", FAULT) == "a wrong b"
    for text in ("a b", "right right"):
        with pytest.raises(SystemExit, match="not once; edit the fault"):
            faults.mutate(text, FAULT)


def test_a_missing_or_ambiguous_test_is_refused(tmp_path):
    tests = tmp_path / "molecule/x/tests"
    tests.mkdir(parents=True)
    (tests / "test_one.py").write_text("def test_right_or_not(): ...")
    with pytest.raises(SystemExit, match="0 tests are called test_right"):
        faults.node("x", FAULT, tmp_path)
    for name in ("test_two.py", "test_three.py"):
        (tests / name).write_text("def test_right(): ...")
    with pytest.raises(SystemExit, match="2 tests"):
        faults.node("x", FAULT, tmp_path)
    (tests / "test_two.py").unlink()
    assert faults.node("x", FAULT, tmp_path) == "molecule/x/tests/test_three.py::test_right"


def test_the_record_has_the_commit_the_date_and_the_figures_of_each_role(tmp_path):
    verdicts = [
        Verdict("x", FAULT, by="assert 1 == 2", seconds=30),
        Verdict("x", REFUSED, problem="the test passes with the fault"),
    ]
    kept = tmp_path / "mutants.json"
    kept.write_text(json.dumps({"y": {"commit": "0ld"}}))
    program.keep("x", program.record(verdicts, 90, "c0ffee"), kept)
    known = json.loads(kept.read_text())
    assert known["y"] == {"commit": "0ld"}
    entry = known["x"]
    assert (entry["commit"], entry["count"], entry["caught"], entry["minutes"]) == ("c0ffee", 2, 1, 1.5)
    assert entry["date"] and [fault["caught_by"] for fault in entry["faults"]] == ["assert 1 == 2", None]


def test_every_fault_belongs_to_one_share():
    unit_faults = faults.faults_of(faults.UNIT)
    shares = [in_turn(unit_faults, f"{number:x}", 8) for number in range(8)]
    assert sorted(fault.fault for share in shares for fault in share) == sorted(fault.fault for fault in unit_faults)
    assert in_turn(unit_faults, "c0ffee", 1) == unit_faults


def test_every_role_occurs_in_the_rotation():
    roles = faults.roles()
    assert {program.in_rotation(roles, f"{number:x}") for number in range(len(roles))} == set(roles)
