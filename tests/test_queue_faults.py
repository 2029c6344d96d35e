"""Queues are judged by what the broker has, whoever declared them."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils.queue_faults import faults, of_work, unconsumed
from ansible_collections.grunnfjell.platform.plugins.modules.rabbitmq_queues import findings
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals.applications import askable_brokers
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals.queues import queues_refused, queues_used
from fleets import GROUPS, HOSTS, ROLES, make_host, with_inputs

TYPE = "task_default_queue_type"
QUORUM = {
    "vhost": "shop",
    "name": "mail",
    "type": "quorum",
    "dead_letters_to": "dead_letters",
    "strategy": "at-least-once",
    "delivery_limit": 20,
    "ttl_ms": None,
    "expires_ms": None,
    "consumer_timeout_ms": None,
    "overflow": "reject-publish",
    "max_length": None,
    "priorities": None,
    "temporary": False,
    "consumers": 1,
}
CLASSIC = {"type": "classic", "dead_letters_to": None, "strategy": "at-most-once", "delivery_limit": None, "overflow": None}


@pytest.mark.parametrize(
    ("what", "setting", "sentence"),
    [
        (
            CLASSIC,
            "task_default_queue_type",
            "a job that fails in shop/mail is lost and never a dead letter, since it is a classic",
        ),
        (
            CLASSIC | {"dead_letters_to": "dead_letters"},
            "task_default_queue_type",
            "a job that kills its process runs in shop/mail for",
        ),
        (CLASSIC | {"priorities": 3}, "task_queue_max_priority", "since it is a classic queue with 3 priorities"),
        (
            CLASSIC | {"priorities": 3, "dead_letters_to": "dead_letters"},
            "task_queue_max_priority",
            "a job that kills its process runs in shop/mail for ever, since it is a classic queue with 3 priorities",
        ),
        (
            CLASSIC | {"dead_letters_to": "mine"},
            TYPE,
            "goes to the exchange mine, not to dead_letters, since it is a classic queue",
        ),
        (CLASSIC | {"temporary": True}, TYPE, "are lost with its connection or a restart of the broker"),
        ({"type": "stream"}, TYPE, "since it is a stream queue"),
        ({"dead_letters_to": None}, TYPE, "since no policy with a dead-letter exchange applies to it"),
        ({"dead_letters_to": "mine"}, TYPE, "goes to the exchange mine, not to dead_letters"),
        ({"strategy": "at-most-once"}, TYPE, "can be lost on its way (at-most-once)"),
        ({"delivery_limit": -1}, TYPE, "since it has no delivery limit"),
        ({"ttl_ms": 60000}, TYPE, "waits in shop/mail for more than 60 s is not run"),
        ({"expires_ms": 1500}, TYPE, "is deleted when it is unused for 1.5 s"),
        ({"max_length": 9, "overflow": "drop-head"}, TYPE, "is not run when more than 9 of them wait"),
    ],
)
def test_each_way_to_lose_a_job_is_named_with_what_to_do(what: dict[str, Any], setting: str, sentence: str) -> None:
    (fault,) = faults(QUORUM | what, "4.0.5")
    assert fault["setting"] == setting and sentence in fault["text"] and ": " in fault["text"]
    answer = {"version": "4.0.5", "queues": [QUORUM | what]}
    (refusal,) = findings(answer, ["mail"], [], {}, {})
    assert refusal == f"{fault['text']}, or name mail with a reason in application_waived_queues."
    assert findings(answer, ["mail"], [], {}, {setting: "a cache may forget"}) == []
    assert findings(answer, ["other"], [], {}, {}) == [], "a queue that nobody uses is not refused"


def test_a_waived_queue_is_the_only_one_that_may_lose_jobs() -> None:
    answer = {"version": "4.0.5", "queues": [QUORUM | CLASSIC | {"name": name} for name in ("mail", "cache")]}
    (refusal,) = findings(answer, ["mail", "cache"], [], {}, {}, {"cache": "each worker empties its cache"})
    assert "in shop/mail is lost" in refusal
    # It still needs a consumer.
    answer["queues"][1]["consumers"] = 0
    (refusal,) = findings(answer, [], ["cache"], {}, {}, {"cache": "each worker empties its cache"})
    assert "should consume the queue cache, which has no consumer" in refusal


def test_a_broadcast_is_known_by_the_exchange_that_the_code_names() -> None:
    own = {"name": "bcast.5a1e0d3c-0000-4000-8000-000000000000", "exchanges": ["cache"], "temporary": True}
    answer = {"version": "4.0.5", "queues": [QUORUM | CLASSIC | own]}
    sent = {"cache": "task_routes"}
    assert unconsumed(answer, sent, [own["name"]]) == []
    (refusal,) = findings(answer, [], [], sent, {})
    assert refusal.endswith(", or name cache with a reason in application_waived_queues.")
    assert (
        findings(answer, [], [], sent, {}, {"cache": "a cache"}) == findings(answer, [], [], sent, {}, {"bcast": "a cache"}) == []
    )


def test_a_queue_that_keeps_its_jobs_has_no_fault() -> None:
    assert faults(QUORUM, "4.0.5") == faults(QUORUM | {"max_length": 9}, "3.10.8") == []
    # RabbitMQ 4 has a limit of 20 where no policy sets one; 3.10 has none.
    assert faults(QUORUM | {"delivery_limit": None}, "4.0.5") == []
    assert len(faults(QUORUM | {"delivery_limit": None}, "3.10.8")) == 1


@pytest.mark.parametrize(
    ("patience", "version", "limit", "named"),
    [
        (540_000, "4.0.5", 540, True),
        (541_000, "4.0.5", 540, False),
        (60_000, "3.10.8", 540, False),  # which ignores it
        (60_000, "4.0.5", None, False),
        (None, "4.0.5", 540, False),
    ],
)
def test_a_queue_that_takes_a_running_task_back_is_named(
    patience: int | None, version: str, limit: int | None, named: bool
) -> None:
    answer = {"version": version, "queues": [QUORUM | {"consumer_timeout_ms": patience}]}
    sentences = findings(answer, ["mail"], [], {}, {}, time_limit=limit)
    assert len(sentences) == named
    assert all("shop/mail is taken back after 540 s and runs again" in sentence for sentence in sentences)
    assert findings(answer, ["mail"], [], {}, {"task_time_limit": "it may run twice"}, time_limit=limit) == []


def test_dead_letters_and_the_queues_of_celery_itself_are_no_work() -> None:
    names = [
        "dead_letters",
        "celery_delayed_3",
        "w@h.celery.pidbox",
        "celeryev.1",
        "5a1e0d3c-0000-4000-8000-000000000000",
        "mail",
    ]
    answer = {"version": "4.0.5", "queues": [QUORUM | CLASSIC | {"name": name} for name in names]}
    assert [fault["queue"] for fault in of_work(answer)] == ["mail"]


def test_every_queue_that_jobs_go_to_needs_a_consumer() -> None:
    answer = {"version": "4.0.5", "queues": [QUORUM, QUORUM | {"name": "idle", "consumers": 0}]}
    sent = {"mail": "task_routes", "idle": "task_default_queue", "nowhere": "task_routes"}
    assert [fault["text"].partition(":")[0] for fault in unconsumed(answer, sent, ["mail", "slow"])] == [
        "a worker should consume the queue slow, which does not exist on the broker",
        "task_default_queue sends jobs to the queue idle, which has no consumer on the broker",
        "task_routes sends jobs to the queue nowhere, which does not exist on the broker",
    ]
    assert len(findings(answer, [], [], sent, {"task_routes": "another team's"})) == 1


def test_one_host_of_a_batch_asks_for_all_and_the_first_answer_counts() -> None:
    answer = {"consumed": ["a"], "sent": {"b": "task_routes"}}
    hostvars = {"w1": {"application_name": "shop", "x": answer}, "w2": {"application_name": "shop", "x": {"consumed": ["c"]}}}
    assert queues_used("shop", "w1", ["w1", "w2"], hostvars, "x") == {
        "asks": True,
        "consumed": ["a", "c"],
        "sent": answer["sent"],
    }
    assert not queues_used("shop", "w2", ["w1", "w2"], hostvars, "x")["asks"]
    assert queues_used("shop", "w1", ["w1", "w2"], hostvars, "")["consumed"] == []

    down = {"item": "b1", "unreachable": True, "msg": "No route to host"}
    stopped = {"item": "b2", "answered": False, "sentences": ["it does not run"]}
    assert queues_refused([down, stopped, {"answered": True, "sentences": ["x."]}]).endswith(":\n  * x.")
    assert queues_refused([down, {"answered": True, "sentences": []}]) == queues_refused([]) == ""
    assert "(b1: No route to host, b2: it does not run)" in queues_refused([down, stopped])
    assert queues_refused([stopped], check_mode=True) == ""


def test_the_brokers_to_ask_are_those_of_the_application_also_behind_a_load_balancer() -> None:
    worker = HOSTS["worker1"]

    def brokers(*hosts: object, address: str) -> list[str]:
        asking = with_inputs(worker, application_broker_hosts=[address])
        return askable_brokers(Fleet({host.name: host for host in (asking, *hosts)}, ROLES, ("newsroom",), GROUPS), asking)

    single = HOSTS["broker1"]
    members = [make_host(name, "rabbitmq", rabbitmq_cluster_nodes={"rabbit@a": "a"}) for name in ("b1", "b2", "b3")]
    assert brokers(single, address=single.address) == brokers(single, address="127.0.0.1") == ["broker1"]
    assert brokers(*members, address="127.0.0.1") == ["b1", "b2", "b3"]
    assert brokers(*members, address=members[1].address) == ["b1", "b2", "b3"]
    assert brokers(address="192.0.2.1") == [], "a broker outside the fleet"
