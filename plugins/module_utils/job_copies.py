"""Copies of jobs in another queue: what they keep, and how many are moved at once."""

from __future__ import annotations

from .amqp_wire import PERSISTENT, Message

# user_id must be the publisher's.
NOT_KEPT = ("user_id", "cluster_id")
# A confirm of a quorum queue waits for its disk, so several jobs wait together.
BATCH, BATCH_BYTES = 200, 16 * 2**20


def copy(job: Message) -> Message:
    """The same job: its body and headers byte for byte."""
    properties = {name: raw for name, raw in job.properties.items() if name not in NOT_KEPT}
    headers = {name: raw for name, raw in job.headers.items() if name not in ("x-delivery-count", "CC", "BCC")}
    return Message(job.body, properties | {"delivery_mode": PERSISTENT}, headers)


def full(jobs: list[Message]) -> bool:
    return len(jobs) >= BATCH or sum(len(job.body) for job in jobs) >= BATCH_BYTES
