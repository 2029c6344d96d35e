"""What role keepalived promises of the running service."""

from __future__ import annotations

import pytest
from deadline import until
from virtual_address import held, holders

testinfra_hosts = ["ansible://keepalived"]

CHECK = "/etc/keepalived/grunnfjell-check"


def declared(inputs) -> set[str]:
    return {instance["virtual_ipaddress"] for instance in inputs["keepalived_vrrp_instances"]}


@pytest.fixture
def members(fleet, inputs):
    return {name: fleet[name] for name in inputs["keepalived_members"]}


def test_the_service_runs_and_comes_back_at_boot_and_after_a_crash(host):
    service = host.service("keepalived")
    assert service.is_running and service.is_enabled, host.run("journalctl --no-pager -n 20 -u keepalived").stdout
    assert service.systemd_properties["Restart"] == "always"
    assert service.systemd_properties["NeedDaemonReload"] == "no"


@pytest.mark.one_host
def test_each_virtual_address_is_on_exactly_one_host(members, inputs):
    for address in declared(inputs):
        until(f"one host has {address}", lambda address=address: len(holders(members, address)) == 1, 30)


def test_a_host_has_no_virtual_address_that_is_not_declared(host, inputs):
    assert held(host) <= declared(inputs)


def test_the_server_listens_on_its_own_address_only(host, inputs):
    """Connections to the virtual address are passed on, so nothing restarts when it moves."""
    port = inputs["keepalived_real_server"].rpartition(":")[2]
    listening = {line.split()[3] for line in host.check_output(f"ss -ltnH 'sport = :{port}'").splitlines()}
    assert listening == {inputs["keepalived_real_server"]}


def test_the_kernel_passes_on_what_is_for_the_declared_addresses_and_nothing_else(host, inputs):
    table = host.check_output("nft list table inet grunnfjell_keepalived")
    rules = [line.split() for line in table.splitlines() if " dnat " in line]
    assert {rule[2] for rule in rules} == declared(inputs)
    assert {rule[-1] for rule in rules} == {inputs["keepalived_real_server"]}


@pytest.mark.once
def test_the_check_runs_as_an_account_without_privileges(host):
    # Each check takes some milliseconds.
    processes = "ps -e -o euid= -o args= | grep '[g]runnfjell-check https:'"
    lines = host.check_output(f"for _ in $(seq 500); do {processes} && break; sleep 0.02; done").splitlines()
    seen = {line.split()[0] for line in lines}
    assert seen == {host.check_output("id --user keepalived_script")} and "0" not in seen
    assert host.file(CHECK).user == "root" and host.file(CHECK).mode == 0o755
    assert host.user("keepalived_script").shell.endswith("nologin")


@pytest.mark.once
@pytest.mark.scenario
def test_the_check_believes_only_the_right_server(host, inputs):
    def check(**changed: str) -> int:
        words = {
            "url": f"https://{inputs['keepalived_real_server']}{inputs['keepalived_check_path']}",
            "name": inputs["keepalived_check_host"],
            "authorities": inputs["keepalived_check_ca_file"],
        } | changed
        return host.run(f"runuser -u keepalived_script -- {CHECK} {' '.join(words.values())} 5").rc

    assert check() == 0
    assert check(authorities="/etc/ssl/certs/ca-certificates.crt"), "another authority is believed"
    assert check(name="other.example.org"), "an answer of 421 is believed"
    assert check(url=f"https://localhost:{inputs['keepalived_real_server'].rpartition(':')[2]}/healthz"), "no server is believed"


@pytest.mark.once
def test_the_vendor_s_files_are_as_shipped(host):
    assert "/etc/" not in host.run("dpkg --verify keepalived").stdout


def test_systemd_understands_every_line_of_the_unit(host):
    assert "grunnfjell" not in host.run("systemd-analyze verify keepalived.service").stderr


@pytest.mark.scenario
def test_an_edit_restarts_nothing(host, runs):
    """One edit of the scenario changes the check, another removes an address."""
    began = host.check_output("systemctl show keepalived --timestamp=unix --property=ActiveEnterTimestamp --value")
    assert float(began.lstrip("@")) < runs[-1].began
