"""What role firewall promises of trials, of names and of a boot. Locks hosts and reboots them, so only in its scenario."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import paramiko
import pytest
from playbook_runner import PlaybookRun, play
from reachability import PORTS, TABLE, reached
from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

# They lock hosts, reboot them, move a name.
pytestmark = [pytest.mark.disruptive, pytest.mark.scenario]

PLAYBOOK = "playbooks/firewall.yml"
# Without counters, addresses of names, and the chain for older connections, which is emptied a minute after the first rules.
RULES = r"nft -s -t list table inet grunnfjell | sed '/^\tchain older {$/,/^\t}$/d'"
FILES = "/etc/grunnfjell/firewall/* /var/lib/grunnfjell/firewall/loaded"


@pytest.fixture(scope="module")
def hosts(fleet) -> dict[str, Host]:
    return fleet


def rules_and_files(host) -> str:
    return host.check_output(f"{RULES}; cat {FILES}")


def addresses_of_names(host) -> set[str]:
    """Addresses that names resolved to. A timer may add some at any moment; none is removed within a day."""
    sets = json.loads(host.check_output("nft -j list sets inet"))["nftables"]
    return {address for entry in sets for address in entry.get("set", {}).get("elem", [])}


def key_of(host) -> str:
    return host.ansible.get_variables()["ansible_ssh_private_key_file"]


@dataclass
class LockedOut:
    """A run whose rules let nobody in, with an older connection to each host."""

    before: dict[str, str]
    addresses: dict[str, set[str]]
    earlier: dict[str, paramiko.Channel]
    run: PlaybookRun


@pytest.fixture(scope="module")
def locked_out(hosts, fleet_inputs, inventory) -> Iterator[LockedOut]:
    # `topology` would refuse to lock the control machine out, so empty the role's flows behind it.
    before = {name: rules_and_files(host) for name, host in hosts.items()}
    addresses = {name: addresses_of_names(host) for name, host in hosts.items()}
    with ExitStack() as stack:
        earlier = {}
        for name, inputs in fleet_inputs.items():
            # Logged in, because sshd ends connections that stay unauthenticated, and penalises their source.
            transport = stack.enter_context(paramiko.Transport((inputs["topology_address"], 22)))
            transport.connect(username="root", pkey=paramiko.Ed25519Key.from_private_key_file(key_of(hosts[name])))
            earlier[name] = transport.open_session(timeout=30)
            earlier[name].settimeout(30)
            earlier[name].exec_command("cat")
        overruled = {"firewall_flows": [], "firewall_trial_seconds": 12}
        yield LockedOut(before, addresses, earlier, play(inventory, PLAYBOOK, variables=overruled))


@pytest.mark.once
def test_rules_that_lock_the_controller_out_are_reverted(host, hostname, locked_out):
    run = locked_out.run
    run.assert_failed("The former rules are in force again.")
    sentence = "The firewall's new rules were on trial, but no new connection could be opened"
    assert run.text.count(sentence) >= len(locked_out.before), run.text
    assert rules_and_files(host) == locked_out.before[hostname]
    assert addresses_of_names(host) >= locked_out.addresses[hostname]
    assert not host.file("/run/grunnfjell-firewall/trial").exists


@pytest.mark.once
def test_a_trial_cuts_no_existing_connection(hostname, locked_out):
    locked_out.earlier[hostname].sendall(b"still here\n")
    assert locked_out.earlier[hostname].recv(64) == b"still here\n"


@pytest.fixture(scope="module")
def run_after_edit(hosts, inventory) -> PlaybookRun:
    """The run after somebody opened a port by hand."""
    for host in hosts.values():
        host.check_output("nft insert rule inet grunnfjell input tcp dport 47002 accept")
    run = play(inventory, PLAYBOOK)
    assert run.returncode == 0, run.output
    return run


@pytest.mark.once
def test_a_rule_added_by_hand_is_removed(host, hostname, run_after_edit):
    assert run_after_edit.changed[hostname] == 1, run_after_edit.output
    assert "47002 accept" not in host.check_output(TABLE)


@pytest.mark.once
@pytest.mark.only_on(lambda variables: "reports.internal" in str(variables.get("topology_flows_extra")))
def test_a_name_resolves_to_its_current_address_and_keeps_it_without_a_resolver(host, inputs, controller, outside):
    hosts, look_up = host.check_output("cat /etc/hosts"), "systemctl start grunnfjell-firewall-names.service"
    assert host.check_output("systemctl is-active grunnfjell-firewall-names.timer") == "active"
    try:
        assert reached(host, {(controller, 47003)}) == set()
        host.check_output("cat > /etc/hosts <<'EOF'\n%s\nEOF", hosts.replace("192.0.2.99", controller))
        host.check_output(look_up)
        assert reached(host, {(controller, 47003)}) == {(controller, 47003)}
        host.check_output("cat > /etc/hosts <<'EOF'\n%s\nEOF", hosts.replace("192.0.2.99 reports.internal", ""))
        host.check_output(look_up)
        assert reached(host, {(controller, 47003)}) == {(controller, 47003)}
    finally:
        host.check_output("cat > /etc/hosts <<'EOF'\n%s\nEOF", hosts)


def reboot(name: str, address: str) -> None:
    """Reboot and wait until sshd answers again."""
    # podman's monitor inherits the pipes, and run() would wait for it. An open session delays the shutdown, hence --time.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(["podman", "restart", "--time", "5", f"grunnfjell-{name}"], check=True, **quiet)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((address, 22), 2) as connection:
                if connection.recv(8):
                    return
        except OSError:
            time.sleep(0.2)  # between two looks; the deadline ends them
    pytest.fail(f"{name} did not come back within a minute")


@pytest.mark.once
def test_the_rules_survive_a_reboot(host, hostname, inputs):
    before, addresses = rules_and_files(host), addresses_of_names(host)
    reboot(hostname, inputs["topology_address"])
    shown = "systemctl show --property=ActiveEnterTimestampMonotonic --value "
    assert rules_and_files(host) == before
    assert addresses_of_names(host) >= addresses
    assert int(host.check_output(f"{shown} grunnfjell-firewall.service")) < int(host.check_output(f"{shown} ssh.service"))


@pytest.mark.once
def test_a_boot_with_rules_that_nft_refuses_admits_only_administrators(host, hostname, inputs, controller, outside, converge):
    before = rules_and_files(host)
    host.check_output(
        "echo 'add rule inet grunnfjell output meta skuid nobody-of-this-name accept' >> /etc/grunnfjell/firewall/rules.nft"
    )
    reboot(hostname, inputs["topology_address"])
    assert host.run("systemctl is-failed grunnfjell-firewall.service").stdout.strip() == "failed"
    # Nothing listens on this port: a host without rules would refuse at once.
    with pytest.raises(TimeoutError):
        socket.create_connection((inputs["topology_address"], PORTS[0]), 3)
    assert reached(host, {(controller, port) for port in PORTS}) == set()
    run = converge(PLAYBOOK)
    assert run.returncode == 0, run.output
    assert rules_and_files(host) == before
    assert host.check_output("systemctl is-active grunnfjell-firewall.service") == "active"
