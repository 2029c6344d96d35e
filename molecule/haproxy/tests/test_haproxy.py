"""What role haproxy promises of the running service."""

from __future__ import annotations

import hashlib
import ipaddress

import pytest

testinfra_hosts = ["ansible://haproxy"]

CONFIGURATION = "/etc/haproxy/grunnfjell.cfg"
RUN = "/run/grunnfjell-haproxy"


@pytest.fixture
def info(host):
    """What the running process reports in `show info`."""
    lines = host.check_output(f"echo 'show info' | socat stdio {RUN}/admin.sock").splitlines()
    return dict(line.split(": ", 1) for line in lines if ": " in line)


def open_ports(host) -> set[str]:
    return set(host.check_output("ss -ltnH | awk '{print $4}'").split())


def test_the_service_runs_and_comes_back_at_boot_and_after_a_crash(host):
    service = host.service("haproxy")
    assert service.is_running and service.is_enabled, host.run("journalctl --no-pager -n 20 -u haproxy").stdout
    assert service.systemd_properties["Restart"] == "always"


def test_each_listener_is_on_loopback_and_open(host, inputs):
    declared = {listener["bind"] for listener in inputs["haproxy_listeners"]}
    assert declared <= open_ports(host)
    assert all(ipaddress.ip_address(bind.rpartition(":")[0].strip("[]")).is_loopback for bind in declared)


def test_the_running_process_has_read_its_file(host, info):
    settings, _, recorded = host.file(CONFIGURATION).content_string.partition("\nglobal\n    description ")
    assert recorded, "the file has no digest"
    digest = hashlib.sha256(settings.encode()).hexdigest()
    assert recorded.strip() == digest == info["description"]


def test_only_the_declared_listeners_and_servers_run(host, inputs):
    lines = host.check_output(f"echo 'show servers state' | socat stdio {RUN}/admin.sock").splitlines()
    fields = lines[1].removeprefix("# ").split()
    rows = [dict(zip(fields, line.split(), strict=True)) for line in lines[2:]]
    running = {(row["be_name"], row["srv_name"], f"{row['srv_addr']}:{row['srv_port']}") for row in rows}
    assert running == {
        (listener["name"], server, endpoint)
        for listener in inputs["haproxy_listeners"]
        for server, endpoint in listener["servers"].items()
    }


def test_the_process_has_descriptors_for_all_promised_connections(host, inputs, info):
    connections = sum(listener.get("maxconn", 1000) for listener in inputs["haproxy_listeners"]) or 1000
    assert int(info["Maxconn"]) == connections
    soft = int(host.check_output(f"awk '/^Max open files/ {{print $4}}' /proc/{info['Pid']}/limits"))
    assert soft >= int(info["Ulimit-n"]) >= 2 * connections


@pytest.mark.once
def test_only_root_can_control_haproxy(host):
    assert host.file(RUN).mode == 0o700 and host.file(RUN).user == "root"
    for name in ("admin.sock", "master.sock"):
        assert host.file(f"{RUN}/{name}").mode == 0o600
    for account in ("haproxy", "nobody"):
        assert host.run(f"runuser -u {account} -- socat /dev/null UNIX-CONNECT:{RUN}/admin.sock").rc


@pytest.mark.once
def test_the_account_that_serves_clients_reads_no_key(host, info):
    status = host.check_output(f"cat /proc/{info['Pid']}/status")
    uid = host.user("haproxy").uid
    assert f"Uid:\t{uid}\t{uid}\t{uid}\t{uid}" in status and "CapEff:\t0000000000000000" in status
    assert host.run("runuser -u haproxy -- cat /etc/haproxy/grunnfjell.key").rc


@pytest.mark.once
def test_the_vendor_s_configuration_is_as_shipped(host):
    assert "/etc/" not in host.run("dpkg --verify haproxy").stdout


def test_systemd_understands_every_line_of_the_unit(host):
    assert "grunnfjell" not in host.run("systemd-analyze verify haproxy.service").stderr
    assert host.check_output("systemctl show -p NeedDaemonReload --value haproxy") == "no"


@pytest.mark.scenario
def test_an_edit_restarts_nothing(host, runs):
    """One edit of the scenario needs more descriptors than the process had, another removes a listener."""
    began = host.check_output("systemctl show haproxy --timestamp=unix --property=ActiveEnterTimestamp --value")
    assert float(began.lstrip("@")) < runs[-1].began
