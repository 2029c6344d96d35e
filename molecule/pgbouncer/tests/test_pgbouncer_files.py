"""Whether the readers of role pgbouncer's files accept them."""

from __future__ import annotations

testinfra_hosts = ["ansible://pgbouncer"]

UNIT = "pgbouncer.service"


def test_systemd_understands_every_line_of_the_unit(host):
    assert "grunnfjell.conf" not in host.run(f"systemd-analyze verify {UNIT}").stderr
    assert host.check_output(f"systemctl show -p NeedDaemonReload --value {UNIT}") == "no"
