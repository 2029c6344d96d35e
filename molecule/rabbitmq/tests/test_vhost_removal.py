"""A virtual host with jobs in it goes only where the inventory names it for removal, and takes no job of another one along."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import pytest
from playbook_runner import PlaybookRun, play

testinfra_hosts = ["ansible://rabbitmq"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]


@pytest.fixture
def converge(hostname, inventory) -> Callable[..., PlaybookRun]:
    return lambda **variables: play(inventory, "playbooks/rabbitmq.yml", "--limit", hostname, variables=variables)


@pytest.fixture
def leaving(ctl, connect, queue) -> Iterator[str]:
    """A virtual host that no inventory declares, with a job in it."""
    name, password = f"leaves-{secrets.token_hex(4)}", secrets.token_hex(16)
    ctl("add_vhost", name)
    ctl("add_user", name, password)
    ctl("set_permissions", "-p", name, name, ".*", ".*", ".*")
    with connect(user=name, password=password, vhost=name) as connection:
        connection.declare(queue, **{"x-queue-type": "quorum"})
        assert connection.publish(queue, "goes") == "ack"
    yield name
    for remove in (["delete_vhost", name], ["delete_user", name]):
        if name in ctl("list_vhosts" if remove[0] == "delete_vhost" else "list_users"):
            ctl(*remove)


def test_a_virtual_host_named_for_removal_goes_with_its_jobs_and_no_other_loses_any(ctl, leaving, session, queue, converge):
    body = f"stays {secrets.token_hex(8)}"
    assert session.publish(queue, body) == "ack"
    refused = converge()
    sentence = "to rabbitmq_vhosts_removed to delete it with all its contents"
    assert refused.returncode != 0 and sentence in refused.text, refused.output
    assert leaving in ctl("list_vhosts") and refused.changed == {}, refused.output
    run = converge(rabbitmq_vhosts_removed=[leaving])
    assert run.returncode == 0 and run.changed, run.output
    assert leaving not in ctl("list_vhosts")
    delivery = session.get(queue)
    assert delivery is not None and delivery[1] == body
    session.ack(delivery[0])
    again = converge(rabbitmq_vhosts_removed=[leaving])
    assert again.returncode == 0 and again.changed == {}, again.output
