"""Descriptor limits in force, where no surrounding machine lowers them."""

from __future__ import annotations

testinfra_hosts = ["ansible://supervisor"]


def allowed(host, service: str) -> int:
    pid = host.check_output(f"systemctl show --property=MainPID --value {service}")
    return int(host.check_output(f"awk '/^Max open files/ {{ print $4 }}' /proc/{pid}/limits"))


def test_pgbouncer_has_a_descriptor_for_each_client_and_server(host):
    clients = int(host.check_output("awk -F '= *' '/^max_client_conn/ { print $2 }' /etc/pgbouncer/pgbouncer.ini"))
    # systemd's default of 1024 does not reach the thousandth client.
    assert allowed(host, "pgbouncer") > max(1024, clients)


def test_supervisord_and_its_programs_have_their_descriptors(host):
    assert allowed(host, "supervisor") == 16384
    for program in host.check_output("supervisorctl pid all").split():
        assert int(host.check_output(f"awk '/^Max open files/ {{ print $4 }}' /proc/{program}/limits")) == 16384
