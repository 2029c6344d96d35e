"""The order of `make test`: which steps run in parallel with Molecule, which are left out, and how they count."""

import json
import subprocess
import sys

import pytest

from lab.ci import __main__ as ci
from lab.ci import counts as ci_counts
from lab.ci import scenarios, steps
from lab.ci.counts import Count
from lab.ci.runner import LAST_LINES, Step, environment, excerpt


def make_step(name: str, part: str, code: str = "", **more) -> Step:
    return Step(name, part, lambda inventory: [sys.executable, "-c", code], **more)


@pytest.fixture
def ci_run(monkeypatch, tmp_path):
    """Runs CI with some steps; returns build/test.json and the exit status."""
    for module in (ci, ci_counts, scenarios):
        monkeypatch.setattr(module, "BUILD", tmp_path)
    monkeypatch.setattr(scenarios, "scenarios", lambda: ["one", "two"])
    monkeypatch.setattr(scenarios, "run_scenario", lambda name, release: Count(passed=1))
    monkeypatch.setattr(ci, "show_logs", lambda: None)

    def run(*chosen: Step) -> tuple[dict[str, dict], int]:
        monkeypatch.setattr(ci, "STEPS", chosen)
        monkeypatch.setattr(ci, "DEFAULT_PARTS", tuple(step.part for step in chosen))
        monkeypatch.setattr(sys, "argv", ["ci"])
        with pytest.raises(SystemExit) as ended:
            ci.main()
        return json.loads((tmp_path / "test.json").read_text()), ended.value.code

    return run


MOLECULE = make_step("molecule", "molecule")


def test_steps_that_allow_it_run_in_parallel_with_the_scenarios_and_the_rest_afterwards(ci_run, tmp_path):
    after = f"import pathlib; assert pathlib.Path({str(tmp_path / 'molecule/demo.log')!r}).exists()"
    counts, code = ci_run(MOLECULE, make_step("demo", "demo", lane="lab"), make_step("drill", "drill", after))
    assert (set(counts), code) == ({"molecule one", "molecule two", "demo", "drill"}, 0)
    assert all(count["passed"] == 1 for count in counts.values())


def test_lanes_run_side_by_side_and_the_steps_of_a_lane_in_turn(ci_run, tmp_path):
    wait = "import pathlib, time\nend = time.time() + 30\nwhile not pathlib.Path({!r}).exists():\n    assert time.time() < end"
    first = make_step("demo", "demo", wait.format(str(tmp_path / "unit")), lane="lab")
    then = make_step("unit", "unit", f"open({str(tmp_path / 'unit')!r}, 'x')", lane="checkout")
    last = make_step("verify", "verify", f"open({str(tmp_path / 'unit')!r})", lane="lab", needs="demo")
    counts, code = ci_run(MOLECULE, first, last, then)
    assert code == 0 and all(count["failed"] == 0 for count in counts.values()), counts


def test_without_scenarios_no_step_runs_in_parallel(ci_run, tmp_path):
    counts, code = ci_run(make_step("demo", "demo", lane="lab"), make_step("verify", "verify", lane="lab", needs="demo"))
    assert (set(counts), code) == ({"demo", "verify"}, 0)
    assert not (tmp_path / "molecule").exists()


NAMES = ["one", "two", "three", "four", "five"]
VERIFY = make_step("verify", "verify", lane="lab")


@pytest.mark.parametrize(
    ("chosen", "commit", "due"),
    [
        ((MOLECULE, VERIFY), "c0", {"molecule one", "molecule five", "verify"}),
        ((MOLECULE, VERIFY), "c1", {"molecule two", "verify"}),
        ((MOLECULE, VERIFY), "c2", {"molecule three", "verify"}),
        ((MOLECULE,), "c1", {f"molecule {name}" for name in NAMES}),
    ],
)
def test_consecutive_commits_take_turns_with_the_scenarios_unless_these_run_alone(ci_run, monkeypatch, chosen, commit, due):
    monkeypatch.setattr(scenarios, "scenarios", lambda: NAMES)
    monkeypatch.setattr(scenarios, "SHARE", 4)
    monkeypatch.setattr(scenarios, "git", lambda *_: f"{commit}\n")
    assert set(ci_run(*chosen)[0]) == due


def test_scenarios_that_would_begin_too_late_are_named_and_left_for_another_commit(ci_run, monkeypatch, capsys):
    monkeypatch.setattr(scenarios, "scenarios", lambda: NAMES)
    monkeypatch.setattr(scenarios, "SHARE", 1)
    monkeypatch.setattr(scenarios, "LAST_START_S", -1)
    counts, code = ci_run(MOLECULE, VERIFY)
    assert (set(counts), code) == ({"verify"}, 0)
    assert "not begun" in capsys.readouterr().out
    assert {f"molecule {name}" for name in NAMES} < set(ci_run(MOLECULE)[0])


def test_each_cluster_runs_on_both_releases_whatever_another_one_says(ci_run, monkeypatch):
    monkeypatch.setattr(scenarios, "run_scenario", lambda name, release: Count(passed=1, failed=int(release == "13")))
    counts, code = ci_run(make_step("clusters", "clusters"))
    assert set(counts) == {f"molecule {name} {release}" for name in scenarios.CLUSTERS for release in ("12", "13")}
    assert (sum(count["passed"] for count in counts.values()), sum(count["failed"] for count in counts.values()), code) == (
        8,
        4,
        1,
    )


@pytest.mark.parametrize("with_scenarios", [(MOLECULE,), ()])
def test_a_step_that_needs_a_failed_one_is_left_out_and_counts_as_failed(ci_run, with_scenarios):
    failing = make_step("demo", "demo", "raise SystemExit(1)", lane="lab")
    counts, code = ci_run(
        *with_scenarios, failing, make_step("verify", "verify", lane="lab", needs="demo"), make_step("job", "v", needs="demo")
    )
    assert code == 1
    assert [counts[name]["failed"] for name in ("demo", "verify", "job")] == [1, 1, 1]
    assert counts["verify"]["seconds"] == 0


def test_each_step_follows_those_that_it_needs_and_the_drill_runs_alone():
    names = [step.name for step in steps.STEPS]
    for step in steps.STEPS:
        assert not step.needs or names.index(step.needs) < names.index(step.name)
    # Their limits of recovery are seconds.
    assert not any(step.lane for step in steps.STEPS if step.name == "drill" or step.part in ("kvm", "operations"))


def test_the_reason_of_a_failure_is_shown_even_before_a_long_journal():
    journal = [f"line {number}" for number in range(3 * LAST_LINES)]
    shown = excerpt(["before", "E   assert 1 == 2", "FAILED molecule/x/test_x.py::test_it", *journal])
    assert shown == ["E   assert 1 == 2", "FAILED molecule/x/test_x.py::test_it", "[...]", *journal[-LAST_LINES:]]


def test_a_short_log_is_shown_once():
    assert excerpt(["E   assert 1 == 2", "1 failed"]) == ["E   assert 1 == 2", "1 failed"]


def test_a_step_without_its_report_counts_as_failed(ci_run, tmp_path):
    """Review finding H9."""
    counts, code = ci_run(make_step("unit", "unit", report=tmp_path / "junit.xml"))
    assert (counts["unit"]["failed"], counts["unit"]["passed"], code) == (1, 0, 1)


def test_a_scenario_without_tests_counts_as_failed(monkeypatch, tmp_path):
    """Review finding H9."""
    (tmp_path / "molecule").mkdir()
    monkeypatch.setattr(scenarios, "BUILD", tmp_path)
    monkeypatch.setattr(scenarios.subprocess, "run", lambda *_, **__: subprocess.CompletedProcess([], 0))
    assert scenarios.run_scenario("host") == Count(failed=1)


def test_verify_collects_its_tests_where_no_group_is_called_newsroom():
    """One parameter set without hosts ended `make verify` of any other application before its first test."""
    command = steps.testinfra("inventories/drill")
    collected = subprocess.run(
        [command[0], "--collect-only", *command[1:]], env=environment(), capture_output=True, text=True, check=False
    )
    assert collected.returncode == 0, collected.stdout[-2000:]
    assert "test_celery_knows_every_setting_of_its_file[ansible://drill-worker1]" in collected.stdout
