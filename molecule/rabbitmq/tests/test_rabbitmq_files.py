"""Whether the readers of role rabbitmq's files accept them: a running broker may have a file that it cannot boot with."""

from __future__ import annotations

import pytest

testinfra_hosts = ["ansible://rabbitmq"]

# The parser of rabbitmq.conf, in the running broker. It returns the settings, or {error, ...}.
READ = (
    # A plugin's keys are in its own schema.
    "D = [P || {{A, _, _}} <- application:loaded_applications(), P <- [code:priv_dir(A)], is_list(P)], "
    'S = cuttlefish_schema:files(lists:append([filelib:wildcard(P ++ "/schema/*.schema") || P <- D])), '
    'C = cuttlefish_conf:files(["{path}"]), '
    "case cuttlefish_generator:map(S, C) of {{error, _, E}} -> E; M when is_list(M) -> understood end."
)


def test_the_broker_can_boot_with_its_file(ctl):
    assert ctl("eval", READ.format(path="/etc/rabbitmq/rabbitmq.conf")) == "understood"


@pytest.mark.disruptive
def test_a_wrong_file_is_found_before_a_boot(host, ctl):
    wrong = "/run/grunnfjell-test-rabbitmq.conf"
    host.check_output(f"sed 's/^heartbeat = .*/heartbeats = 20/' /etc/rabbitmq/rabbitmq.conf | install -m 644 /dev/stdin {wrong}")
    try:
        assert "heartbeats" in ctl("eval", READ.format(path=wrong))
    finally:
        host.check_output(f"rm -f {wrong}")


@pytest.mark.parametrize("unit", ["rabbitmq-server.service", "epmd.socket"])
def test_systemd_understands_every_line_of_the_units(host, unit):
    assert "grunnfjell.conf" not in host.run(f"systemd-analyze verify {unit}").stderr
    assert host.check_output(f"systemctl show -p NeedDaemonReload --value {unit}") == "no"
