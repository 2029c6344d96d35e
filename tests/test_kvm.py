"""The guests of test-kvm: their hypervisor, their addresses, and definitions that libvirt accepts."""

import ipaddress
import subprocess
import threading
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lab import addresses
from lab.ci import steps
from lab.kvm import guests, machine, probe
from lab.kvm.guests import Guest

ROOT = Path(__file__).parent.parent


def guest(name="db1", ip="10.78.0.21", release="13", memory_mib=1024, cpus=1, data_gib=0):
    return Guest(name, ip, release, memory_mib, cpus, data_gib)


# Which hypervisor


@pytest.mark.parametrize(
    ("device", "boots", "kind"),
    [(True, True, "kvm"), (True, False, "qemu"), (False, False, "qemu")],
    ids=["works", "opens and hangs", "not there"],
)
def test_hardware_is_used_only_where_a_guest_boots_under_it(device, boots, kind):
    assert probe.choose(device, boots) == kind


def test_the_console_of_a_booted_guest_ends_the_probe(tmp_path):
    console = tmp_path / "console.log"
    console.write_text(f"[    0.000000] Linux version\n{probe.BOOTED} and waits.\n", encoding="utf-8")
    assert probe.watch(console)


@pytest.mark.parametrize("text", [None, "[    0.000000] Linux version\n"], ids=["never spoke", "fell silent"])
def test_a_guest_that_hangs_ends_the_probe_by_its_silence(tmp_path, text):
    console = tmp_path / "console.log"
    if text:
        console.write_text(text, encoding="utf-8")
    assert not probe.watch(console, silence_s=0.3, probe_s=60)


def test_a_guest_that_prints_but_never_boots_ends_the_probe_too(tmp_path):
    console = tmp_path / "console.log"
    over = threading.Event()

    def talk() -> None:
        with console.open("a", encoding="utf-8") as out:
            while not over.wait(0.05):
                out.write("again\n")
                out.flush()

    talker = threading.Thread(target=talk)
    talker.start()
    try:
        assert not probe.watch(console, silence_s=30, probe_s=0.6)
    finally:
        over.set()
        talker.join()


# Which guests


def test_guests_with_conflicting_or_wrong_addresses_are_refused_by_name():
    sentences = guests.check([guest("a"), guest("b"), guest("c", "192.0.2.1"), guest("d", "10.78.0.1"), guest("e", "db.example")])
    assert [sentence.split(":")[0].split(" ")[0] for sentence in sentences] == ["b", "c", "d", "e"]


@given(st.sets(st.integers(2, 254), min_size=2, max_size=20))
def test_different_addresses_are_accepted_and_give_different_network_cards(last):
    fleet = [guest(f"h{number}", f"10.78.0.{number}") for number in last]
    assert guests.check(fleet) == []
    assert len({guest.mac for guest in fleet}) == len(fleet)


def test_the_inventory_has_every_part_and_its_addresses_are_accepted():
    groups = yaml.safe_load((ROOT / "inventories/kvm/hosts.yml").read_text(encoding="utf-8"))["all"]["children"]
    members = {name: group.get("hosts", {}) for name, group in groups.items()}
    assert all(members[name] for name in ("rabbitmq", "postgresql", "celery_workers", "producers"))
    # A host of two groups has its address in one of them.
    addresses = {name: host["ansible_host"] for group in members.values() for name, host in group.items() if host}
    assert len(addresses) >= 3
    assert guests.check([guest(name, address) for name, address in addresses.items()]) == []


def test_the_inventory_differs_from_the_example_only_in_its_hosts_and_their_connection():
    own = {"hosts.yml", *(f"group_vars/all/{name}.yml" for name in ("connection", "kvm", "sites", "vault"))}
    home = ROOT / "inventories/kvm"
    plain = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and not path.is_symlink()}
    through_links = {name for name in plain if any((home / parent).is_symlink() for parent in Path(name).parents)}
    assert plain - through_links <= own
    for path in home.rglob("*"):
        if path.is_symlink():
            assert path.resolve() == (ROOT / "inventories/example" / path.relative_to(home)).resolve()


def test_the_connection_contains_no_jinja_which_testinfra_would_not_render():
    assert "{{" not in (ROOT / "inventories/kvm/group_vars/all/connection.yml").read_text(encoding="utf-8")


# Definitions


SCHEMAS = Path("/usr/share/libvirt/schemas")
# Debian's Python has lxml along with libvirt's binding; .venv does not need it.
VALIDATE = """
import sys
from lxml import etree
schema = etree.RelaxNG(etree.parse(sys.argv[1]))
sys.exit(None if schema.validate(etree.fromstring(sys.stdin.buffer.read()).getroottree()) else str(schema.error_log))
"""


def valid(kind: str, text: str) -> None:
    schema = SCHEMAS / f"{kind}.rng"
    if not schema.exists():
        pytest.skip("libvirt's schemas are missing; `make test-kvm` installs them")
    command = ["/usr/bin/python3", "-c", VALIDATE, str(schema)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + text


@pytest.mark.parametrize("kind", ["kvm", "qemu"])
@pytest.mark.parametrize("data_gib", [0, 4])
def test_libvirt_accepts_the_definition_of_a_guest(kind, data_gib):
    text = probe.rendered("domain.xml.j2", guest=guest(data_gib=data_gib).described(kind))
    assert f"<domain type='{kind}'>" in text
    assert text.count("<disk ") == (2 if data_gib else 1)
    valid("domain", text)


def test_libvirt_accepts_the_network_with_the_address_of_every_guest():
    fleet = [guest(), guest("web1", "10.78.0.41")]
    text = probe.rendered("network.xml.j2", kvm_network=guests.network([guest.described("kvm") for guest in fleet]))
    assert all(f"mac='{guest.mac}' name='{guest.name}' ip='{guest.ip}'" in text for guest in fleet)
    valid("network", text)


def test_guests_and_containers_have_different_networks():
    assert not any(guests.NETWORK.overlaps(network) for network in addresses.NETWORKS.values())
    assert ipaddress.ip_address("10.78.0.1") == guests.NETWORK[1]


# Daemons


def test_only_a_running_daemon_that_was_started_here_counts(tmp_path, monkeypatch, zombie):
    monkeypatch.setattr(machine, "STATE", tmp_path)
    assert machine.running("libvirtd") == 0
    # Where PID 1 reaps no process, a daemon that ended keeps its number and its name.
    (tmp_path / "true.pid").write_text(f"{zombie}\n", encoding="utf-8")
    assert machine.running("true") == 0
    # Another program now has the number.
    (tmp_path / "libvirtd.pid").write_text("1\n", encoding="utf-8")
    assert machine.running("libvirtd") == 0


# The count


def test_guests_are_tested_only_on_demand():
    assert "kvm" not in steps.DEFAULT_PARTS
    assert {step.part for step in steps.STEPS} - set(steps.DEFAULT_PARTS) == {"kvm", "operations", "cloud", "clusters"}
