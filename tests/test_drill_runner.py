"""How a row runs, on a simulated fleet whose database has done every accepted job at once."""

import itertools
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from lab.demo.fleet import Fleet, Host
from lab.drill import load, runner
from lab.drill.faults import APART, FAULTS, HA_FAULTS, SHORT, WITHIN_S, Fault
from lab.drill.faults import fault as faults
from lab.drill.faults.secrets import CUTS, MIDST
from lab.drill.ledger import Ledger
from lab.drill.proof import Done, Trace
from lab.drill.scene import Scene
from lab.machine import REPOSITORY, Refusal

HOST = Host("worker1", ("producers", "celery_workers"), "", "", "", "ledger", "", "", "")


class Book:
    """Every accepted job is done at once, except those in `lost`."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.application, self.lost = ledger, "ledger", set()

    def done_since(self, at: float) -> list[Done]:
        done = [job for job in self.ledger.accepted if job.at >= at and job.job.key not in self.lost]
        return [Done(job.job.key, "worker1", job.at + 1e-6, job.at + 2e-6) for job in done]

    def traces(self) -> dict[str, Trace]:
        return {job.job.key: Trace(job.at, 1, (job.at,)) for job in self.ledger.accepted if job.job.key not in self.lost}


@dataclass
class Drill:
    """`pid`: what the reading of the fault reads."""

    scene: Scene
    pid: int = 1

    def run(self, fault: Fault):
        return runner.run(fault, self.scene, 40.0, 0.0)[0]

    def strike(self, scene: Scene) -> float:
        self.pid += 1
        return time.time()


@pytest.fixture
def drill(monkeypatch) -> Drill:
    monkeypatch.setattr(load, "post", lambda producer, job: 202)
    for name, value in {"AFTER_S": 0.2, "LATE_S": 0.5, "DRAIN_S": 0.5}.items():
        monkeypatch.setattr(runner, name, value)
    monkeypatch.setattr(runner, "dead_letters", lambda scene: set())
    ledger = Ledger()
    drill = Drill(Scene(Fleet([HOST]), "inventory", Book(ledger), ledger, itertools.count(1)))
    monkeypatch.setattr(faults, "shell", lambda host, script: str(drill.pid))
    return drill


def killed(drill: Drill, **more: object) -> Fault:
    pid = faults.Reading("MainPID", lambda fleet: HOST, "pid")
    return replace(Fault("killed", "process", drill.strike, readings=(pid,)), **more)


def test_a_row_that_struck_and_recovered_keeps_the_promise(drill):
    row = drill.run(killed(drill))
    assert row.problems == () and row.accepted == row.done > 0
    assert row.evidence == {"MainPID on worker1": "1 → 2"}


def test_a_row_whose_fault_did_nothing_fails(drill):
    """Review finding H6."""
    row = drill.run(killed(drill, hurt=lambda scene: time.time()))
    assert row.problems == ("MainPID on worker1 was 1 all the time: the fault struck nobody",)


def test_a_figure_of_a_fault_is_evidence_only_if_it_is_not_0(drill):
    row = drill.run(killed(drill, shows=("repeated",)))
    assert row.problems == ("0 answers other than 202: the fault struck nobody",)


def test_a_row_that_ends_in_a_refusal_is_counted_too(drill):
    """Review finding H6: its accepted jobs were not counted, and the verdict was that 0 were lost."""

    def hurt(scene: Scene) -> float:
        drill.scene.book.lost.add(drill.scene.ledger.accepted[0].job.key)
        raise Refusal("the playbook failed")

    row = drill.run(killed(drill, hurt=hurt))
    assert row.accepted > 0 and row.lost == 1
    assert row.problems[0] == "the playbook failed"
    assert f"1 of {row.accepted} accepted jobs are lost" in row.problems


def test_a_row_that_ends_in_an_unexpected_error_is_counted_too(drill):
    def hurt(scene: Scene) -> float:
        raise KeyError("unforeseen")

    row = drill.run(killed(drill, hurt=hurt))
    assert row.accepted == row.done > 0 and row.problems[0] == "KeyError: 'unforeseen'"


def test_a_fault_is_healed_even_after_a_refusal(drill):
    healed = []

    def hurt(scene: Scene) -> float:
        raise Refusal("half of it was done")

    drill.run(killed(drill, hurt=hurt, heal=lambda scene: healed.append(1) or time.time()))
    assert healed == [1]


def test_what_was_staged_is_restored_before_the_row_is_counted(drill):
    order = []

    @contextmanager
    def stage(scene: Scene):
        order.append("staged")
        yield
        order.append("restored")

    traces = drill.scene.book.traces
    drill.scene.book.traces = lambda: order.append("counted") or traces()
    drill.run(killed(drill, stage=stage))
    assert order == ["staged", "restored", "counted"]


def test_a_client_that_dies_fails_the_row(drill, monkeypatch):
    """Review finding H6."""
    numbers = itertools.count()

    def post(producer: Host, job: object) -> int:
        if next(numbers) == 30:
            raise ValueError("unforeseen")
        return 202

    monkeypatch.setattr(load, "post", post)
    assert "a client died: ValueError: unforeseen" in drill.run(killed(drill)).problems


def test_jobs_of_an_earlier_row_that_a_later_fault_loses_are_found_at_the_end(drill):
    """Review finding H6: each row was counted once, right after it."""
    row = drill.run(killed(drill))
    accepted = drill.scene.ledger.accepted
    drill.scene.book.lost.add(accepted[0].job.key)
    (final,), problems = runner.recount([(row, accepted)], drill.scene)
    assert row.problems == () and problems == [] and final.lost == 1
    assert final.problems == (f"counted again at the end: 1 of {row.accepted} accepted jobs are lost",)


def test_jobs_of_a_row_that_could_not_be_counted_are_counted_at_the_end(drill):
    drill.run(killed(drill))
    accepted = drill.scene.ledger.accepted
    assert runner.recount([(None, accepted)], drill.scene) == ([], [])
    drill.scene.book.lost.add(accepted[0].job.key)
    assert runner.recount([(None, accepted)], drill.scene)[1] == ["of a row that was not settled, 1 jobs are lost, 0 done twice"]


# The rows


def test_the_faults_have_different_names_and_each_has_its_limit():
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    assert set(SHORT) < set(names)
    assert {fault.kind for fault in FAULTS} == set(WITHIN_S)


@pytest.mark.parametrize("fault", (*FAULTS, *HA_FAULTS, *APART), ids=lambda fault: fault.name)
def test_each_fault_has_figures_or_readings_as_evidence(fault):
    """Review finding H6: 6 of 18 rows did."""
    assert fault.shows or fault.readings
    assert set(fault.shows) <= set(runner.FIGURES)
    assert not {"cut", "repeated"} & set(fault.shows) or not fault.seamless


@pytest.mark.parametrize("fault", (*FAULTS, *HA_FAULTS, *APART), ids=lambda fault: fault.name)
def test_each_fault_has_a_maximum_duration(fault):
    assert (fault.ends_within_s > fault.hold_s) == bool(fault.heal)


def test_each_task_at_which_a_rotation_is_interrupted_exists():
    """The row once interrupted nothing, after its task had been renamed."""
    names = "\n".join(path.read_text() for home in ("roles", "playbooks") for path in (REPOSITORY / home).rglob("*.yml"))
    assert [task for task, _ in (*CUTS, (MIDST, 1)) if f"name: {task}\n" not in names] == []
