"""A data disk that fills up: no upload is accepted falsely, and no accepted job is lost."""

from __future__ import annotations

import json

import pytest
from deadline import until
from machines import RESUME_S, SHORT, assert_work_resumes, ended

pytestmark = pytest.mark.disruptive

FILLER = "/var/lib/rabbitmq/filler"
STATUS = "rabbitmqctl --quiet status --formatter json </dev/null"
# How far below the limit the test fills the disk, which leaves it far from full.
BELOW_LIMIT = 64 * 2**20


def test_a_full_data_disk_means_503_and_work_resumes_when_it_is_freed(machines, send):
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
        # A disk alarm blocks publishers, not consumers.
        assert ended(before)["state"] == "done"
    finally:
        broker.run(f"rm {FILLER}")
    assert_work_resumes(send)
    assert json.loads(broker.run(STATUS))["alarms"] == []
