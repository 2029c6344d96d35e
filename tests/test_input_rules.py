"""Inputs that no file of a host holds: what the refusals and the plan make of them."""

from __future__ import annotations

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.capacity.clients import database_connections
from fleets import make_host, refused


@pytest.mark.parametrize(("batch", "works"), [([1, "25%"], True), (["0"], False), (["most"], False)])
def test_a_batch_of_producers_that_nobody_can_read_is_refused(batch: list, works: bool) -> None:
    sentences = refused(web1={"producer_batch": batch})
    assert sentences == [] if works else f"web1: producer_batch holds '{batch[0]}'" in sentences[0]


@pytest.mark.parametrize(("each", "expected"), [(None, 8), (1, 8), (3, 24)])
def test_connections_per_task_are_counted_for_each_task(each: int | None, expected: int) -> None:
    own = {} if each is None else {"application_database_connections": each}
    worker = make_host(
        "worker1", "celery_worker", celery_worker_programs=[{"name": "a"}, {"name": "b"}], celery_worker_concurrency=4, **own
    )
    assert database_connections(worker) == expected
