"""The members of each cluster, and how to run a playbook on all of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from amqp_probe import Connection
from brokers import Broker
from playbook_runner import PlaybookRun, play


def names(inventory: str) -> dict[str, list[str]]:
    """Debian's release to the hosts with it."""
    hosts = yaml.safe_load(Path(inventory, "hosts.yml").read_text(encoding="utf-8"))["all"]["hosts"]
    by_release: dict[str, list[str]] = {}
    for name, values in sorted(hosts.items()):
        by_release.setdefault((values or {}).get("lab_release", "13"), []).append(name)
    return by_release


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "release" in metafunc.fixturenames:
        metafunc.parametrize("release", sorted(names(metafunc.config.option.ansible_inventory)), scope="module")


@pytest.fixture(scope="module")
def brokers(release: str, inventory: str, fleet, fleet_inputs) -> list[Broker]:
    """The members of one cluster, sorted by name."""
    found = []
    for name in names(inventory)[release]:
        inputs = fleet_inputs[name]
        address, _, port = inputs["rabbitmq_listeners_ssl"][0].rpartition(":")
        found.append(Broker(name, inputs["rabbitmq_nodename"], fleet[name], (address, int(port))))
    return found


@pytest.fixture(scope="module")
def nodes(brokers: list[Broker]) -> list[str]:
    return sorted(broker.node for broker in brokers)


@pytest.fixture(scope="module")
def connect(brokers, fleet_inputs, authority) -> Callable[[tuple[str, int]], Connection]:
    """Log in to a broker at a place as the application."""
    inputs = fleet_inputs[brokers[0].name]
    login = {"user": "news", "password": inputs["rabbitmq_user_passwords"]["news"], "vhost": "news"}
    client = authority.context(authority.issue("client"))
    return lambda place: Connection(*place, tls=client, timeout=10, **login)


@pytest.fixture(scope="module")
def run(brokers: list[Broker], inventory: str) -> Callable[..., PlaybookRun]:
    """Run the role's playbook on the whole cluster, or on those of it that `only` names."""

    def converge(*, only: list[Broker] | None = None, **overrides: Any) -> PlaybookRun:
        limit = ",".join(broker.name for broker in only or brokers)
        return play(inventory, "playbooks/rabbitmq.yml", "--limit", limit, variables=overrides or None)

    return converge


@pytest.fixture(scope="module")
def rebuild(inventory: str) -> Callable[[], None]:
    """Blank machines in place of those that have burnt."""

    def create() -> None:
        for playbook in ("molecule/shared/create.yml", "molecule/shared/prepare.yml"):
            done = play(inventory, playbook)
            assert done.returncode == 0, done.output

    return create
