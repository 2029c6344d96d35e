"""How a row runs: a fleet of this test's making, whose database has done every accepted job as soon as it is asked."""

import itertools
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace

import pytest

from lab.demo.fleet import Fleet, Host
from lab.drill import load, runner
from lab.drill.faults import FAULTS, SHORT, WITHIN_S, Fault
from lab.drill.faults import fault as faults
from lab.drill.faults.secrets import CUTS, MIDST
from lab.drill.ledger import Ledger
from lab.drill.proof import Done, Trace
from lab.drill.scene import Scene
from lab.machine import REPOSITORY, Refusal

HOST = Host("worker1", ("producers", "celery_workers"), "", "", "", "ledger", "", "", "")


class Book:
    """Every accepted job is done at once, but for those that `lost` names."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.application, self.lost = ledger, "ledger", set()

    def done_since(self, at: float) -> list[Done]:
        done = [each for each in self.ledger.accepted if each.at >= at and each.job.key not in self.lost]
        return [Done(each.job.key, "worker1", each.at + 1e-6, each.at + 2e-6) for each in done]

    def traces(self) -> dict[str, Trace]:
        return {each.job.key: Trace(each.at, 1, (each.at,)) for each in self.ledger.accepted if each.job.key not in self.lost}


@dataclass
class Stand:
    """`pid` is what the fault's reading reads."""

    scene: Scene
    pid: int = 1

    def run(self, fault: Fault):
        return runner.run(fault, self.scene, 200.0, 0.0)[0]

    def strike(self, scene: Scene) -> float:
        self.pid += 1
        return time.time()


@pytest.fixture
def stand(monkeypatch) -> Stand:
    monkeypatch.setattr(load, "post", lambda producer, job: 202)
    for name, value in {"AFTER_S": 0.2, "LATE_S": 0.5, "DRAIN_S": 0.5}.items():
        monkeypatch.setattr(runner, name, value)
    monkeypatch.setattr(runner, "dead_letters", lambda scene: set())
    ledger = Ledger()
    stand = Stand(Scene(Fleet([HOST]), "inventory", Book(ledger), ledger, itertools.count(1)))
    monkeypatch.setattr(faults, "shell", lambda host, script: str(stand.pid))
    return stand


def killed(stand: Stand, **more: object) -> Fault:
    pid = faults.Reading("MainPID", lambda fleet: HOST, "pid")
    return replace(Fault("killed", "process", stand.strike, readings=(pid,)), **more)


def test_a_row_that_struck_and_recovered_keeps_the_promise(stand):
    row = stand.run(killed(stand))
    assert row.problems == () and row.accepted == row.done > 0
    assert row.evidence == {"MainPID on worker1": "1 → 2"}


def test_a_row_whose_fault_did_nothing_fails(stand):
    """Review finding H6."""
    row = stand.run(killed(stand, hurt=lambda scene: time.time()))
    assert row.problems == ("MainPID on worker1 was 1 all the time: the fault struck nobody",)


def test_a_figure_that_a_fault_must_show_is_evidence_only_if_it_is_not_0(stand):
    row = stand.run(killed(stand, shows=("repeated",)))
    assert row.problems == ("0 answers other than 202: the fault struck nobody",)


def test_a_row_that_ends_in_a_refusal_is_settled_too(stand):
    """Review finding H6: its accepted jobs were in no count, and the verdict said that 0 were lost."""

    def hurt(scene: Scene) -> float:
        stand.scene.book.lost.add(stand.scene.ledger.accepted[0].job.key)
        raise Refusal("the playbook failed")

    row = stand.run(killed(stand, hurt=hurt))
    assert row.accepted > 0 and row.lost == 1
    assert row.problems[0] == "the playbook failed"
    assert f"1 of {row.accepted} accepted jobs are lost" in row.problems


def test_an_unforeseen_end_of_a_row_is_settled_too(stand):
    def hurt(scene: Scene) -> float:
        raise KeyError("unforeseen")

    row = stand.run(killed(stand, hurt=hurt))
    assert row.accepted == row.done > 0 and row.problems[0] == "KeyError: 'unforeseen'"


def test_a_fault_is_healed_whatever_happens_after_it(stand):
    healed = []

    def hurt(scene: Scene) -> float:
        raise Refusal("half of it was done")

    stand.run(killed(stand, hurt=hurt, heal=lambda scene: healed.append(1) or time.time()))
    assert healed == [1]


def test_what_was_staged_is_put_back_before_the_row_is_settled(stand):
    order = []

    @contextmanager
    def stage(scene: Scene):
        order.append("staged")
        yield
        order.append("put back")

    traces = stand.scene.book.traces
    stand.scene.book.traces = lambda: order.append("settled") or traces()
    stand.run(killed(stand, stage=stage))
    assert order == ["staged", "put back", "settled"]


def test_a_client_that_dies_fails_the_row(stand, monkeypatch):
    """Review finding H6."""
    numbers = itertools.count()

    def post(producer: Host, job: object) -> int:
        if next(numbers) == 30:
            raise ValueError("unforeseen")
        return 202

    monkeypatch.setattr(load, "post", post)
    assert "a client died: ValueError: unforeseen" in stand.run(killed(stand)).problems


def test_what_a_later_fault_loses_of_an_earlier_row_is_found_at_the_end(stand):
    """Review finding H6: each row was counted once, right after it."""
    row = stand.run(killed(stand))
    accepted = stand.scene.ledger.accepted
    stand.scene.book.lost.add(accepted[0].job.key)
    (final,), problems = runner.recount([(row, accepted)], stand.scene)
    assert row.problems == () and problems == [] and final.lost == 1
    assert final.problems == (f"counted again at the end: 1 of {row.accepted} accepted jobs are lost",)


def test_jobs_of_a_row_that_could_not_be_settled_are_counted_at_the_end(stand):
    stand.run(killed(stand))
    accepted = stand.scene.ledger.accepted
    assert runner.recount([(None, accepted)], stand.scene) == ([], [])
    stand.scene.book.lost.add(accepted[0].job.key)
    assert runner.recount([(None, accepted)], stand.scene)[1] == ["of a row that was not settled, 1 jobs are lost, 0 done twice"]


# The rows


def test_the_faults_have_different_names_and_each_has_its_limit():
    names = [fault.name for fault in FAULTS]
    assert len(set(names)) == len(names)
    assert set(SHORT) < set(names)
    assert {fault.kind for fault in FAULTS} == set(WITHIN_S)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_row_says_what_shows_that_it_struck(fault):
    """Review finding H6: 6 of 18 rows did."""
    assert fault.shows or fault.readings
    assert set(fault.shows) <= set(runner.FIGURES)
    assert not {"cut", "repeated"} & set(fault.shows) or not fault.seamless


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_each_row_says_how_long_its_fault_may_last(fault):
    assert (fault.ends_within_s > fault.hold_s) == bool(fault.heal)


def test_each_task_in_which_a_rotation_is_cut_off_exists():
    """The row cut off nothing once its task had another name."""
    names = "\n".join(path.read_text() for home in ("roles", "playbooks") for path in (REPOSITORY / home).rglob("*.yml"))
    assert [task for task, _ in (*CUTS, (MIDST, 1)) if f"name: {task}\n" not in names] == []
