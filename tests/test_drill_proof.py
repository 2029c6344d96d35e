"""The state of each accepted job, from what the database has of its key."""

import pytest

from lab.drill import proof
from lab.drill.faults import whole_fleet
from lab.drill.ledger import Accepted, Job
from lab.drill.proof import Trace, count, state

DONE = Trace(finished=12.0, effects=1, begun=(10.0,))


def accepted(key: str, posts: int = 1, poison: bool = False) -> Accepted:
    return Accepted(Job(1, 0.1, poison, key), 9.0, "web1", posts)


@pytest.mark.parametrize(
    ("trace", "dead", "expected"),
    [
        (DONE, False, "done"),
        (Trace(finished=12.0, effects=0, begun=(10.0,)), False, "lost"),  # half of a transaction
        (Trace(finished=None, effects=1, begun=(10.0,)), False, "lost"),
        (Trace(finished=12.0, effects=2, begun=(10.0,)), False, "doubled"),
        (Trace(finished=None, effects=2, begun=(10.0,)), True, "doubled"),
        (Trace(begun=(10.0, 11.0)), True, "dead"),
        (Trace(finished=12.0, effects=0), True, "lost"),
        (Trace(), False, "lost"),
        (DONE, True, "done"),
    ],
)
def test_a_job_is_done_only_with_exactly_one_effect(trace, dead, expected):
    """Review finding H6: effects were counted and compared with nothing."""
    assert state(trace, dead) == expected


def test_each_accepted_job_is_counted_once():
    jobs = [accepted("a"), accepted("b"), accepted("poison", poison=True), accepted("nowhere")]
    traces = {"a": DONE, "b": Trace(12.0, 3, (10.0,)), "poison": Trace(begun=(10.0, 11.0, 12.0)), "unknown": DONE}
    number = count(jobs, traces, {"poison"})
    assert number == {
        "accepted": 4, "poison": 1, "done": 1, "dead": 1, "lost": 1, "doubled": 1, "double_effects": 2,
        "second_deliveries": 2, "cut": 2,
    }  # fmt: skip


def test_a_run_is_interrupted_if_the_next_one_began_before_the_job_was_done():
    again, late = Trace(12.0, 1, (10.0, 11.0)), Trace(12.0, 1, (10.0, 13.0))
    assert count([accepted("a")], {"a": again})["cut"] == 1
    assert count([accepted("a")], {"a": late})["cut"] == 0
    assert count([accepted("a")], {"a": late})["second_deliveries"] == 1


def test_a_job_that_its_client_sent_twice_was_not_interrupted():
    """Review finding H6: a client's resend, which ran in parallel with the first, counted as a run that the fault interrupted."""
    number = count([accepted("a", posts=2)], {"a": Trace(12.0, 1, (10.0, 11.0))})
    assert (number["cut"], number["second_deliveries"]) == (0, 1)


def test_keys_effects_and_accounts_must_agree():
    """Review finding H6."""
    assert proof.unbalanced({"done": 7, "effects": 7, "entries": 7}) == []
    (problem,) = proof.unbalanced({"done": 7, "effects": 7, "entries": 6})
    assert "7 jobs are done, with 7 effects and 6 entries" in problem


def test_the_answer_of_the_database_is_read():
    rows = "k1|12.5|1|10.25 11.5\nk2||0|10\nk3|12.5|1|\n"
    assert proof.traces(rows) == {
        "k1": Trace(12.5, 1, (10.25, 11.5)), "k2": Trace(None, 0, (10.0,)), "k3": Trace(12.5, 1, ()),
    }  # fmt: skip


def test_a_queue_in_which_a_program_awaited_an_answer_is_no_difference_between_two_brokers():
    arguments = {"jobs": {}, "reply": {"x-expires": 10000}}
    queues = [{"vhost": "v", "name": name, "arguments": given} for name, given in arguments.items()]
    bindings = [{"vhost": "v", "destination": name} for name in arguments]
    exported = {"queues": queues, "bindings": bindings, "vhosts": ["v"]}
    assert whole_fleet.lasting(exported) == {"queues": queues[:1], "bindings": bindings[:1], "vhosts": ["v"]}
