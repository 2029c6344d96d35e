"""The guests of test-kvm: which hypervisor they get, what stands together, and definitions that libvirt takes."""

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
def test_hardware_is_used_where_a_guest_boots_under_it_and_not_because_a_device_is_there(device, boots, kind):
    assert probe.choose(device, boots) == kind


def test_a_console_that_says_the_guest_is_up_ends_the_probe(tmp_path):
    console = tmp_path / "console.log"
    console.write_text(f"[    0.000000] Linux version\n{probe.BOOTED} and waits.\n", encoding="utf-8")
    assert probe.watch(console)


@pytest.mark.parametrize("text", [None, "[    0.000000] Linux version\n"], ids=["never spoke", "fell silent"])
def test_a_guest_that_hangs_ends_the_probe_by_its_silence(tmp_path, text):
    console = tmp_path / "console.log"
    if text:
        console.write_text(text, encoding="utf-8")
    assert not probe.watch(console, silence_s=0.3, probe_s=60)


def test_a_guest_that_goes_on_talking_and_never_boots_ends_the_probe_too(tmp_path):
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


def test_guests_that_cannot_stand_together_are_refused_by_name():
    sentences = guests.check([guest("a"), guest("b"), guest("c", "192.0.2.1"), guest("d", "10.78.0.1"), guest("e", "db.example")])
    assert [sentence.split(":")[0].split(" ")[0] for sentence in sentences] == ["b", "c", "d", "e"]


@given(st.sets(st.integers(2, 254), min_size=2, max_size=20))
def test_any_set_of_different_addresses_can_stand_and_each_has_a_card_of_its_own(last):
    fleet = [guest(f"h{number}", f"10.78.0.{number}") for number in last]
    assert guests.check(fleet) == []
    assert len({one.mac for one in fleet}) == len(fleet)


def test_the_inventory_is_a_fleet_that_can_stand_and_has_every_part():
    groups = yaml.safe_load((ROOT / "inventories/kvm/hosts.yml").read_text(encoding="utf-8"))["all"]["children"]
    members = {name: group.get("hosts", {}) for name, group in groups.items()}
    assert all(members[name] for name in ("rabbitmq", "postgresql", "celery_workers", "producers"))
    # A host of two groups has its address in one of them.
    hosts = {name: values["ansible_host"] for hosts in members.values() for name, values in hosts.items() if values}
    assert len(hosts) >= 3
    assert guests.check([guest(name, address) for name, address in hosts.items()]) == []


def test_the_inventory_differs_from_the_example_in_its_hosts_and_how_they_are_reached_alone():
    own = {
        "hosts.yml",
        "group_vars/all/connection.yml",
        "group_vars/all/kvm.yml",
        "group_vars/all/places.yml",
        "group_vars/all/vault.yml",
    }
    place = ROOT / "inventories/kvm"
    plain = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file() and not path.is_symlink()}
    through_links = {name for name in plain if any((place / parent).is_symlink() for parent in Path(name).parents)}
    assert plain - through_links <= own
    for path in place.rglob("*"):
        if path.is_symlink():
            assert path.resolve() == (ROOT / "inventories/example" / path.relative_to(place)).resolve()


def test_the_connection_holds_no_jinja_because_testinfra_reads_it_as_it_stands():
    assert "{{" not in (ROOT / "inventories/kvm/group_vars/all/connection.yml").read_text(encoding="utf-8")


# Definitions


SCHEMAS = Path("/usr/share/libvirt/schemas")
# Debian's Python has lxml wherever it has libvirt's binding; the tools' own has no use for it.
VALIDATE = """
import sys
from lxml import etree
schema = etree.RelaxNG(etree.parse(sys.argv[1]))
sys.exit(None if schema.validate(etree.fromstring(sys.stdin.buffer.read()).getroottree()) else str(schema.error_log))
"""


def valid(kind: str, text: str) -> None:
    schema = SCHEMAS / f"{kind}.rng"
    if not schema.exists():
        pytest.skip("libvirt's schemas are not here; `make test-kvm` installs them")
    command = ["/usr/bin/python3", "-c", VALIDATE, str(schema)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr + text


@pytest.mark.parametrize("kind", ["kvm", "qemu"])
@pytest.mark.parametrize("data_gib", [0, 4])
def test_libvirt_takes_the_definition_of_a_guest(kind, data_gib):
    text = probe.rendered("domain.xml.j2", guest=guest(data_gib=data_gib).described(kind))
    assert f"<domain type='{kind}'>" in text
    assert text.count("<disk ") == (2 if data_gib else 1)
    valid("domain", text)


def test_libvirt_takes_the_definition_of_the_network_with_every_guests_address():
    fleet = [guest(), guest("web1", "10.78.0.41")]
    text = probe.rendered("network.xml.j2", kvm_network=guests.network([one.described("kvm") for one in fleet]))
    assert all(f"mac='{one.mac}' name='{one.name}' ip='{one.ip}'" in text for one in fleet)
    valid("network", text)


def test_the_guests_network_is_not_the_containers():
    assert not any(guests.NETWORK.overlaps(network) for network in addresses.NETWORKS.values())
    assert ipaddress.ip_address("10.78.0.1") == guests.NETWORK[1]


# Daemons


def test_only_a_daemon_that_was_started_here_counts_as_ours(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "STATE", tmp_path)
    assert machine.running("libvirtd") == 0
    child = subprocess.Popen(["true"])
    # Not waited for: where PID 1 reaps nobody, a daemon that ended keeps its number and its name.
    (tmp_path / "true.pid").write_text(f"{child.pid}\n", encoding="utf-8")
    with Path(f"/proc/{child.pid}/stat").open(encoding="utf-8") as stat:
        while " Z " not in stat.read():
            stat.seek(0)
    assert machine.running("true") == 0
    child.wait()
    # The number lives on as another program's.
    (tmp_path / "libvirtd.pid").write_text("1\n", encoding="utf-8")
    assert machine.running("libvirtd") == 0


# The count


def test_guests_are_tested_on_demand_alone():
    assert "kvm" not in steps.DEFAULT_PARTS
    assert {step.part for step in steps.STEPS} - set(steps.DEFAULT_PARTS) == {"kvm", "operations", "cloud"}
