"""A broker never starts on the data of an older series: 3.10, which is Debian 12's, under 4.0, which is Debian 13's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import testinfra
from playing import play

DATA = "/var/tmp/older-broker"
testinfra_hosts = ["ansible://rabbitmq"]


def release(host) -> str:
    return host.check_output(". /etc/os-release; echo $VERSION_ID")


@pytest.fixture
def older_data(host, request: pytest.FixtureRequest) -> Iterator[str]:
    """On a host of Debian 13, the data that a broker of Debian 12 wrote."""
    inventory = request.config.option.ansible_inventory
    brokers = testinfra.get_hosts(["rabbitmq"], connection="ansible", ansible_inventory=inventory)
    older = [broker for broker in brokers if release(broker) == "12"]
    if release(host) != "13" or not older:
        pytest.skip("needs a broker on Debian 12 beside one on Debian 13")
    packed = older[0].check_output("tar -C /var/lib/rabbitmq -cz mnesia | base64 --wrap=0")
    host.run_test(f"mkdir -m 700 {DATA}")
    # In pieces, since a command line is no place for a megabyte.
    for start in range(0, len(packed), 100_000):
        host.run_test(f"printf %s {packed[start : start + 100_000]} >> {DATA}/packed")
    host.run_test(f"base64 -d {DATA}/packed | tar -C {DATA} -xz")
    yield DATA
    host.run_test(f"rm -r {DATA}")


@pytest.mark.once
@pytest.mark.disruptive
def test_data_of_3_x_is_never_upgraded_in_place(host, older_data: str, request: pytest.FixtureRequest) -> None:
    inventory = request.config.option.ansible_inventory
    name = host.backend.get_pytest_id().removeprefix("ansible://")
    done = play(inventory, "playbooks/rabbitmq.yml", "--limit", name, "-e", f"__rabbitmq_data_dir={older_data}")
    said = done.said
    assert done.returncode != 0, said
    assert f"{older_data} holds the data of a broker older than 3.13, with which 4.0 does not boot" in said, said
    assert "Build a broker on a fresh host of the same group" in said, said
    assert done.counts and done.changed == {}, said
