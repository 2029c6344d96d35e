"""Reads jobs from the broker's queues."""

from __future__ import annotations

from amqp_probe import Connection, Refused
from deadline import until


def take_job(connect, login: dict[str, str], queue: str) -> str:
    """Take one job out of the queue. After a start the broker refuses access until the queue is recovered."""

    def look() -> str | None:
        try:
            with connect(**login) as connection:
                if (delivery := connection.get(queue)) is None:
                    return None
                connection.ack(delivery[0])
                return delivery[1]
        except (Refused, OSError):
            return None

    return until("the job in its queue", look)


def dead_letter(reader: Connection, body: str, keep: bool = False) -> bool:
    """Whether the dead letters hold this job. Takes it out unless `keep`; puts all others back."""
    unacknowledged: list[int] = []

    def look() -> bool:
        while (delivery := reader.get("dead_letters")) is not None:
            tag, letter = delivery
            if letter == body and not keep:
                reader.ack(tag)
                return True
            unacknowledged.append(tag)
            if letter == body:
                return True
        return False

    try:
        return until("the dead letter", look)
    finally:
        for tag in unacknowledged:
            reader.put_back(tag)
