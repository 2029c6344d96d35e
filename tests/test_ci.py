"""The order of `make test`: what runs beside Molecule's scenarios, what is left out, and what counts."""

import json
import subprocess
import sys

import pytest

from lab.ci import __main__ as ci
from lab.ci import counts, scenarios, steps
from lab.ci.counts import Count
from lab.ci.runner import LAST_LINES, Step, excerpt


def step(name: str, part: str, code: str = "", **more) -> Step:
    return Step(name, part, lambda inventory: [sys.executable, "-c", code], **more)


@pytest.fixture
def judged(monkeypatch, tmp_path):
    """Run CI upon some steps; answers build/test.json and how it ended."""
    for module in (ci, counts, scenarios):
        monkeypatch.setattr(module, "BUILD", tmp_path)
    monkeypatch.setattr(scenarios, "scenarios", lambda: ["one", "two"])
    monkeypatch.setattr(scenarios, "run_scenario", lambda name: Count(passed=1))
    monkeypatch.setattr(ci, "show_logs", lambda: None)

    def run(*those: Step) -> tuple[dict[str, dict], int]:
        monkeypatch.setattr(ci, "STEPS", those)
        monkeypatch.setattr(ci, "DEFAULT_PARTS", tuple(each.part for each in those))
        monkeypatch.setattr(sys, "argv", ["ci"])
        with pytest.raises(SystemExit) as ended:
            ci.main()
        return json.loads((tmp_path / "test.json").read_text()), ended.value.code

    return run


MOLECULE = step("molecule", "molecule")


def test_what_bears_it_runs_beside_the_scenarios_and_the_rest_afterwards(judged, tmp_path):
    after = f"import pathlib; assert pathlib.Path({str(tmp_path / 'molecule/demo.log')!r}).exists()"
    told, code = judged(MOLECULE, step("demo", "demo", parallel=True), step("drill", "drill", after))
    assert (set(told), code) == ({"molecule one", "molecule two", "demo", "drill"}, 0)
    assert all(count["passed"] == 1 for count in told.values())


def test_without_scenarios_nothing_is_aside(judged, tmp_path):
    told, code = judged(step("demo", "demo", parallel=True), step("verify", "verify", parallel=True, needs="demo"))
    assert (set(told), code) == ({"demo", "verify"}, 0)
    assert not (tmp_path / "molecule").exists()


@pytest.mark.parametrize("with_scenarios", [(MOLECULE,), ()])
def test_what_needs_a_step_that_failed_is_left_out_and_counts_as_failed(judged, with_scenarios):
    failing = step("demo", "demo", "raise SystemExit(1)", parallel=True)
    told, code = judged(
        *with_scenarios, failing, step("verify", "verify", parallel=True, needs="demo"), step("job", "v", needs="demo")
    )
    assert code == 1
    assert [told[name]["failed"] for name in ("demo", "verify", "job")] == [1, 1, 1]
    assert told["verify"]["seconds"] == 0


def test_every_step_comes_after_what_it_needs_and_the_drill_has_the_machine_for_itself():
    names = [each.name for each in steps.STEPS]
    for each in steps.STEPS:
        assert not each.needs or names.index(each.needs) < names.index(each.name)
    # Its limits of recovery are seconds.
    assert not any(each.parallel for each in steps.STEPS if each.part in ("drill", "kvm", "operations"))


def test_the_reason_of_a_failure_is_shown_though_a_journal_follows_it():
    journal = [f"line {number}" for number in range(3 * LAST_LINES)]
    shown = excerpt(["before", "E   assert 1 == 2", "FAILED molecule/x/test_x.py::test_it", *journal])
    assert shown == ["E   assert 1 == 2", "FAILED molecule/x/test_x.py::test_it", "[...]", *journal[-LAST_LINES:]]


def test_a_short_log_is_shown_once():
    assert excerpt(["E   assert 1 == 2", "1 failed"]) == ["E   assert 1 == 2", "1 failed"]


def test_a_step_that_should_leave_a_report_and_left_none_counts_as_failed(judged, tmp_path):
    """Review finding H9."""
    told, code = judged(step("unit", "unit", report=tmp_path / "junit.xml"))
    assert (told["unit"]["failed"], told["unit"]["passed"], code) == (1, 0, 1)


def test_a_scenario_that_asked_nothing_counts_as_failed(monkeypatch, tmp_path):
    """Review finding H9."""
    (tmp_path / "molecule").mkdir()
    monkeypatch.setattr(scenarios, "BUILD", tmp_path)
    monkeypatch.setattr(scenarios.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0))
    assert scenarios.run_scenario("host") == Count(failed=1)
