"""A broker never starts on the data of an older series: 3.10, which is Debian 12's, under 4.0, which is Debian 13's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

DATA = "/var/tmp/older-broker"
testinfra_hosts = ["ansible://rabbitmq"]


def release(host) -> str:
    return host.check_output(". /etc/os-release; echo $VERSION_ID")


@pytest.fixture
def older_data(host, fleet, fleet_inputs) -> Iterator[str]:
    """On Debian 13, the data of a broker on Debian 12."""
    brokers = [fleet[name] for name, inputs in fleet_inputs.items() if "rabbitmq_listeners_ssl" in inputs]
    older = [broker for broker in brokers if release(broker) == "12"]
    if release(host) != "13" or not older:
        pytest.skip("needs brokers on Debian 12 and on Debian 13")
    packed = older[0].check_output("tar -C /var/lib/rabbitmq -cz mnesia | base64 --wrap=0")
    host.run_test(f"mkdir -m 700 {DATA}")
    # In chunks, because command lines are limited.
    for start in range(0, len(packed), 100_000):
        host.run_test(f"printf %s {packed[start : start + 100_000]} >> {DATA}/packed")
    host.run_test(f"base64 -d {DATA}/packed | tar -C {DATA} -xz")
    yield DATA
    host.run_test(f"rm -r {DATA}")


@pytest.mark.once
@pytest.mark.disruptive
def test_data_of_3_x_is_never_upgraded_in_place(older_data: str, converge) -> None:
    run = converge("playbooks/rabbitmq.yml", "-e", f"__rabbitmq_data_dir={older_data}")
    refusal = f"{older_data} holds the data of a broker older than 3.13, with which 4.0 does not boot"
    run.assert_refused(refusal, "Build a broker on a fresh host of the same group")
