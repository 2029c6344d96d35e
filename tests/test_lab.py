"""The local fleet: what is read from the machine, and which hosts are created, kept and removed."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lab import access, containers, hosts, image, sources
from lab.ci.counts import count
from lab.hosts import Container, Host

ROOT = Path(__file__).parent.parent
HERE = "/srv/kit"


def host(name="db1", ip="10.77.0.21", image="localhost/grunnfjell-debian:13", memory="2g"):
    return Host(name, ip, image, memory)


def container(of, state="running", alive=True, checkout=HERE):
    return Container(of.container, state, alive, of.made_as, checkout)


# What a host gets from this machine


def test_a_host_keeps_its_network_card():
    assert host(ip="10.77.0.21").mac == "02:67:0a:4d:00:15"


def targets(*rows):
    return "\n".join("|".join(row) for row in rows)


def test_the_archive_of_the_machine_is_used_with_the_release_of_the_host():
    text = targets(
        ("http://mirror.example/debian/", "bookworm", "main", "Debian"),
        ("http://mirror.example/debian/", "bookworm", "contrib", "Debian"),
        ("http://mirror.example/debian/", "bookworm-updates", "main", "Debian"),
        ("http://mirror.example/security/", "bookworm-security", "main", "Debian"),
    )
    assert sources.archives(text, "bookworm", "trixie") == [
        "deb http://mirror.example/debian/ trixie main",
        "deb http://mirror.example/debian/ trixie-updates main",
        "deb http://mirror.example/security/ trixie-security main",
    ]


def test_archives_of_vendors_and_backports_stay_out_of_the_image():
    text = targets(
        ("http://vendor.example/apt/", "bookworm", "main", "A vendor"),
        ("http://vendor.example/apt/", "nodistro", "main", "A vendor"),
        ("http://mirror.example/debian/", "bookworm-backports", "main", "Debian backports"),
        ("http://mirror.example/debian/", "bookworm-backports", "main", "Debian"),
        ("http://mirror.example/debian/", "bookworm", "contrib", "Debian"),
    )
    assert sources.archives(text, "bookworm", "bookworm") == []


def test_the_archive_is_found_before_the_first_apt_update_made_its_origin_known():
    text = targets(("http://mirror.example/debian/", "trixie", "main", "$(ORIGIN)"))
    assert sources.archives(text, "trixie", "bookworm") == ["deb http://mirror.example/debian/ bookworm main"]


def test_a_host_gets_only_the_settings_that_it_needs_to_reach_the_archive():
    dump = "\n".join(
        [
            'Acquire "";',
            'Acquire::http::Proxy "http://proxy.example:3128";',
            'Acquire::https::Proxy::mirror.example "DIRECT";',
            'Acquire::Check-Valid-Until "false";',
            'Acquire::Languages "none";',
            'APT::Install-Recommends "0";',
            'Dir::Cache::pkgcache "";',
        ]
    )
    assert sources.apt_options(dump) == [
        'Acquire::http::Proxy "http://proxy.example:3128";',
        'Acquire::https::Proxy::mirror.example "DIRECT";',
        'Acquire::Check-Valid-Until "false";',
    ]


def pem(text):
    return f"-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n"


def test_only_additional_authorities_of_the_machine_are_copied():
    assert sources.added_authorities(pem("a") + pem("mine") + pem("b"), pem("b") + pem("a")) == [pem("mine")]


def test_the_package_index_is_copied_and_paths_on_this_machine_are_not():
    weak = "[global]\nindex-url = http://weak.example/simple\nfind-links = /opt/wheels\ntimeout = 60\n"
    strong = "[global]\nindex-url = http://strong.example/simple\nextra-index-url = file:///opt/a http://more.example/simple\n"
    assert sources.pip_settings([weak, strong], {"PIP_TIMEOUT": "180", "PIP_CERT": "/etc/ca.crt"}) == {
        "index-url": "http://strong.example/simple",
        "extra-index-url": "http://more.example/simple",
        "timeout": "180",
    }


def test_the_image_is_rebuilt_only_when_its_definition_changes():
    command, files = ["mmdebstrap", "trixie"], {"etc/pip.conf": "x"}
    assert image.digest(command, files) == image.digest(list(command), dict(files))
    assert image.digest([*command, "--aptopt=y"], files) != image.digest(command, files)
    assert image.digest(command, files | {"etc/pip.conf": "y"}) != image.digest(command, files)


def test_the_lab_names_no_mirror_proxy_or_index():
    for path in [*ROOT.glob("lab/**/*.*"), *ROOT.glob("inventories/lab/*.yml"), ROOT / "Makefile", ROOT / ".ci/run"]:
        if path.is_file() and path.suffix != ".pyc":
            assert not re.search(r"https?://[\w-]+\.", path.read_text(encoding="utf-8")), path


# Which host is created, kept, refused


def test_a_blank_machine_gets_every_host():
    wanted = [host("a", "10.77.0.2"), host("b", "10.77.0.3")]
    assert hosts.survey(wanted, [], HERE, set()).create == wanted


def test_running_hosts_are_kept_and_so_are_those_that_left_the_inventory():
    db1, old = host(), host("worker9", "10.77.0.39")
    assert hosts.survey([db1], [container(db1), container(old)], HERE, {HERE}) == hosts.Survey()


def test_a_host_that_was_shut_down_is_kept():
    assert hosts.survey([host()], [container(host(), "exited", alive=False)], HERE, {HERE}) == hosts.Survey()


@pytest.mark.parametrize("state", ["running", "stopping", "created"])
def test_a_host_that_died_without_podman_or_never_started_is_recreated(state):
    survey = hosts.survey([host()], [container(host(), state, alive=False)], HERE, {HERE})
    assert (survey.remove, survey.create, survey.refusals) == (["grunnfjell-db1"], [host()], [])


def test_a_running_lab_of_another_checkout_is_kept():
    survey = hosts.survey([host()], [container(host(), checkout="/home/eva/kit")], HERE, {HERE, "/home/eva/kit"})
    assert not survey.create
    assert "/home/eva/kit" in survey.refusals[0] and "make demo-down" in survey.refusals[0]


@pytest.mark.parametrize(
    ("state", "alive", "lives"), [("exited", False, True), ("running", False, True), ("running", True, False)]
)
def test_an_unusable_lab_of_another_checkout_is_replaced(state, alive, lives):
    other = container(host(), state, alive, checkout="/tmp/gone")
    survey = hosts.survey([host()], [other], HERE, {"/tmp/gone"} if lives else set())
    assert (survey.remove, survey.create) == (["grunnfjell-db1"], [host()])


def test_a_host_that_changed_in_the_inventory_is_refused_with_both_values_and_the_remedy():
    (sentence,) = hosts.survey([host(memory="2g")], [container(host(memory="1g"))], HERE, {HERE}).refusals
    assert " 1g`" in sentence and " 2g`" in sentence
    assert "podman rm -f -t 0 grunnfjell-db1" in sentence


def test_hosts_with_conflicting_or_wrong_addresses_are_refused_by_name():
    addresses = {"a": "10.77.0.5", "b": "10.77.0.5", "c": "192.0.2.1", "d": "10.77.0.1", "e": "db.example", "Web_1": "10.77.0.6"}
    sentences = hosts.check([host(name, address) for name, address in addresses.items()])
    assert [sentence.split(":")[0].split(" ")[0] for sentence in sentences] == ["b", "c", "d", "e", "Web_1"]


@given(st.lists(st.integers(2, 254), unique=True, max_size=20))
def test_any_set_of_different_addresses_inside_the_network_is_accepted(last):
    assert hosts.check([host(f"h{number}", f"10.77.0.{number}") for number in last]) == []


def test_a_zombie_is_not_alive(zombie):
    assert containers.alive(1)
    assert not containers.alive(0)
    assert not containers.alive(zombie)


def test_known_hosts_keeps_the_lines_of_other_hosts(tmp_path, monkeypatch):
    monkeypatch.setattr(access, "STATE", tmp_path)
    monkeypatch.setattr(access, "KNOWN_HOSTS", tmp_path / "known_hosts")
    access.write_known_hosts({"10.77.0.2": "ssh-ed25519 A", "10.77.0.21": "ssh-ed25519 B"})
    access.write_known_hosts({"10.77.0.2": "ssh-ed25519 C"})
    assert (tmp_path / "known_hosts").read_text() == "10.77.0.21 ssh-ed25519 B\n10.77.0.2 ssh-ed25519 C\n"
    access.write_known_hosts({"10.77.0.21": ""})
    assert (tmp_path / "known_hosts").read_text() == "10.77.0.2 ssh-ed25519 C\n"


# The lab's inventory


def inventory():
    return yaml.safe_load((ROOT / "inventories/lab/hosts.yml").read_text(encoding="utf-8"))["all"]


def test_the_lab_is_the_fleet_of_the_article_and_its_addresses_are_accepted():
    groups = {name: list(group.get("hosts", {})) for name, group in inventory()["children"].items()}
    assert groups["rabbitmq"] == ["broker1"]
    assert groups["postgresql"] == ["db1"]
    assert len(groups["celery_workers"]) >= 2
    assert groups["producers"] == ["web1"]
    members = [item for group in inventory()["children"].values() for item in group.get("hosts", {}).items()]
    assert hosts.check([host(name, values["ansible_host"]) for name, values in members]) == []


def test_the_connection_contains_no_jinja_which_testinfra_would_not_render():
    text = (ROOT / "inventories/lab/group_vars/all/connection.yml").read_text(encoding="utf-8")
    values = yaml.safe_load(text)
    assert all("{{" not in str(value) for key, value in values.items() if key.startswith("ansible_"))


# The count


def report(**numbers):
    values = {"tests": 0, "failures": 0, "errors": 0, "skipped": 0} | numbers
    attributes = " ".join(f'{key}="{value}"' for key, value in values.items())
    return f"<testsuites><testsuite {attributes}/></testsuites>"


@pytest.mark.parametrize(
    ("returncode", "text", "sentence"),
    [
        (0, "", "1 passed, 0 failed"),
        (2, "", "0 passed, 1 failed"),
        (0, None, "0 passed, 1 failed"),
        (0, report(tests=7), "7 passed, 0 failed"),
        (1, report(tests=7, failures=2, errors=1, skipped=1), "3 passed, 3 failed, 1 skipped"),
        # pytest ended badly although no test failed, or ran none at all.
        (3, report(tests=7), "7 passed, 1 failed"),
        (5, report(), "0 passed, 1 failed"),
        (0, report(), "0 passed, 1 failed"),
    ],
)
def test_a_step_counts_its_report_and_never_passes_when_it_failed(returncode, text, sentence):
    """An empty text: a step that writes no report; None: one whose report is missing."""
    assert str(count(returncode, text or None, reports=text != "")) == sentence


def test_a_host_without_further_fields_can_be_removed():
    """molecule/shared/destroy.yml names hosts and nothing else."""
    assert hosts.read({"name": "db1"}).container == "grunnfjell-db1"
    cloud = hosts.read({"name": "db1", "port": "2222", "account": "debian", "inside": "10.79.0.11", "ip": "10.77.0.171"})
    assert cloud.known_as == ["[10.77.0.171]:2222", "[10.79.0.11]:2222"]
