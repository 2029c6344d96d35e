"""A broker never starts on the data of an older series: 3.10, which is Debian 12's, under 4.0, which is Debian 13's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

DATA = "/var/tmp/older-broker"
# What a 3.10 broker writes into its data, in the file that the role reads.
FLAGS = "[classic_mirrored_queue_version,implicit_default_bindings,maintenance_mode_status,quorum_queue,stream_queue]."
testinfra_hosts = ["ansible://rabbitmq"]


@pytest.fixture
def older_data(host, inputs) -> Iterator[str]:
    host.run_test(f"mkdir -m 700 -p {DATA}/mnesia")
    host.run_test(f"echo '{FLAGS}' > {DATA}/mnesia/{inputs['rabbitmq_nodename']}-feature_flags")
    yield DATA
    host.run_test(f"rm -r {DATA}")


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.only_on(lambda variables: variables.get("lab_release", "13") == "13")
def test_data_of_3_x_is_never_upgraded_in_place(older_data: str, converge) -> None:
    run = converge("playbooks/rabbitmq.yml", "-e", f"__rabbitmq_data_dir={older_data}")
    refusal = f"{older_data} holds the data of a broker older than 3.13, with which 4.0 does not boot"
    run.assert_refused(refusal, "Build a broker on a fresh host of the same group")
