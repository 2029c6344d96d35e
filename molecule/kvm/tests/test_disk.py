"""A data disk that fills up: nothing is accepted falsely, nothing that was accepted is lost."""

from __future__ import annotations

import json

import pytest
from conftest import SHORT
from machines import RESUME_S, ended, until

pytestmark = pytest.mark.disruptive

FILLER = "/var/lib/rabbitmq/filler"
STATUS = "rabbitmqctl --quiet status --formatter json </dev/null"
# Left above what is free at the limit, so that the alarm is the limit's and not a full disk's.
BELOW_LIMIT = 64 * 2**20


def test_a_full_data_disk_means_503_and_a_freed_one_goes_on_by_itself(machines, send):
    (broker,) = machines["rabbitmq"]
    before = send(SHORT)
    limit = json.loads(broker.run(STATUS))["disk_free_limit"]
    free = int(broker.run("df --block-size=1 --output=avail /var/lib/rabbitmq | tail -n 1"))
    assert free > limit, "the disk is full before the test fills it"
    broker.run(f"fallocate --length {free - limit + BELOW_LIMIT} {FILLER}")
    try:
        until("the broker's alarm", lambda: "disk" in str(json.loads(broker.run(STATUS))["alarms"]), RESUME_S)
        for _ in range(3):
            assert send(SHORT).status == 503
        # What was accepted before is done all the same: an alarm stops those who publish, not those who work.
        assert ended(before)["state"] == "done"
    finally:
        broker.run(f"rm {FILLER}")

    def accepted():
        answer = send(SHORT)
        return answer if answer.status == 202 else None

    assert ended(until("a 202", accepted, RESUME_S))["state"] == "done"
    assert json.loads(broker.run(STATUS))["alarms"] == []
