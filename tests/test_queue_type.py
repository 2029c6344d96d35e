"""Which queues may change their type, and what a moved job keeps."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils.amqp_wire import Message, text
from ansible_collections.grunnfjell.platform.plugins.module_utils.job_copies import BATCH_BYTES, copy
from ansible_collections.grunnfjell.platform.plugins.module_utils.queue_switch import refuse
from ansible_collections.grunnfjell.platform.plugins.module_utils.rabbitmq_objects import Refusal
from ansible_collections.grunnfjell.platform.plugins.modules.rabbitmq_queue_type import batch, move, sentence
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing.supervisor import programs_consuming

CLASSIC = {"type": "classic", "priorities": None, "temporary": False, "consumers": 0, "messages": 3}


def state(aside: dict[str, Any] | None = None, alarms: int = 0, **queue: object) -> dict[str, Any]:
    return {"queue": CLASSIC | queue if queue else None, "aside": aside, "alarms": alarms, "names": ["mail", "dead_letters"]}


def test_a_classic_queue_and_one_that_was_cut_off_may_be_replaced() -> None:
    refuse("shop", "mail", state(consumers=0), unused=True)
    refuse("shop", "mail", state(type="quorum", consumers=2), unused=True)
    refuse("shop", "mail", state(aside={"messages": 5}), unused=True)
    refuse("shop", "mail", state(consumers=2), unused=False)


@pytest.mark.parametrize(
    ("name", "found", "words"),
    [
        ("male", state(), "no queue shop/male. Its work queues are: mail."),
        ("dead_letters", state(consumers=0), "No job waits in shop/dead_letters"),
        ("w@h.celery.pidbox", state(consumers=0), "No job waits in"),
        ("mail", state(alarms=1, consumers=0), "The broker has an alarm"),
        ("mail", state(priorities=9), "shop/mail has 9 priorities, which a quorum queue does not know"),
        ("mail", state(temporary=True), "as reply and broadcast queues are"),
        ("mail", state(type="stream"), "shop/mail is a stream"),
        ("mail", state(consumers=2), "shop/mail still has 2 consumers"),
    ],
)
def test_a_queue_that_must_stay_as_it_is_is_refused(name: str, found: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words.replace(".", r"\.")):
        refuse("shop", name, found, unused=True)


def test_a_moved_job_keeps_all_but_what_only_its_publisher_may_say() -> None:
    properties = {"user_id": b"\x01a", "expiration": b"\x0260", "delivery_mode": b"\x01", "priority": b"\x05"}
    job = Message(b"body", properties, {"id": text("x"), "x-delivery-count": b"l\0", "x-death": b"A\0\0\0\0"})
    moved = copy(job)
    assert moved.body == b"body" and set(moved.headers) == {"id", "x-death"}
    assert moved.properties == {"expiration": b"\x0260", "delivery_mode": b"\x02", "priority": b"\x05"}


class Connection:
    """Notes what is sent, in its order."""

    def __init__(self) -> None:
        self.log: list[tuple[object, ...]] = []

    def publish(self, exchange: str, key: str, *messages: Message) -> None:
        self.log.append(("confirmed", exchange, key, len(messages)))

    def ack(self, tag: int, up_to: bool) -> None:
        self.log.append(("acknowledged", tag, up_to))


def test_jobs_leave_their_queue_only_when_the_other_one_has_them() -> None:
    connection = Connection()
    move(connection, [Message(b"a", tag=7), Message(b"b", tag=8)], "mail.moving")
    assert connection.log == [("confirmed", "", "mail.moving", 2), ("acknowledged", 8, True)]


def test_large_jobs_are_moved_in_small_batches() -> None:
    large = Message(b"x" * (BATCH_BYTES // 2))
    assert len(batch(lambda: large, 200)) == 2
    assert len(batch(lambda: Message(b"x"), 7)) == 7
    assert batch(lambda: None, 7) == []


def test_the_sentence_says_what_was_moved_and_for_how_long_publishers_waited() -> None:
    asked, result = {"vhost": "shop", "queue": "mail"}, {"changed": True, "before": 3, "moved": 4, "held_ms": 416}
    assert sentence(asked, result) == (
        "shop/mail is a quorum queue. It held 3 jobs at the beginning; 4 were moved, each confirmed before it left. "
        "Publishers waited for 0.4 s."
    )
    assert sentence(asked, {"changed": False}) == "shop/mail was a quorum queue already."
    assert "would become" in sentence(asked, {"changed": True, "before": 3})


def test_the_programs_that_stop_are_those_that_consume_the_queue() -> None:
    programs = [{"name": "usual"}, {"name": "mail", "queues": ["mail", "fax"]}, {"name": "empty", "queues": []}]
    assert programs_consuming(programs, ["shop"], "mail") == ["mail"]
    assert programs_consuming(programs, ["shop"], "shop") == ["usual", "empty"]
