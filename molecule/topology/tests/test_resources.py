"""What resource_facts says of a host is what the host's own tools say."""

from __future__ import annotations

import json
import re

testinfra_hosts = ["ansible://all"]


def resources(host) -> dict:
    return host.ansible("grunnfjell.platform.resource_facts", check=True)["ansible_facts"]["resources"]


def test_it_names_every_listening_socket(host) -> None:
    told = {(each["address"], each["port"]) for each in resources(host)["listening"]}
    seen = set()
    for line in host.check_output("ss -Hltn").splitlines():
        address, _, port = line.split()[3].rpartition(":")
        seen.add((re.sub(r"%.*|[][]", "", address).replace("*", "::"), int(port)))
    assert told == seen and told


def test_it_names_the_unit_that_listens(host) -> None:
    (ssh, *_) = [each for each in resources(host)["listening"] if each["port"] == 22]
    assert (ssh["program"], ssh["unit"]) == ("sshd", "ssh.service")


def test_an_account_exists_with_its_group_or_it_does_not(host) -> None:
    """Review finding 36."""
    host.check_output("getent group adm && ! getent passwd adm")
    asked = host.ansible(
        "grunnfjell.platform.resource_facts", json.dumps({"accounts": ["www-data", "adm", "nobody-of-this-name"]}), check=True
    )
    assert asked["ansible_facts"]["resources"]["accounts"] == {"www-data": True, "adm": False, "nobody-of-this-name": False}


def test_the_clocks_agree_within_the_round_trip(host) -> None:
    assert abs(resources(host)["clock_offset_seconds"]) < 5


def test_descriptors_are_what_a_service_is_granted(host) -> None:
    most = resources(host)["descriptors_max"]
    asked = f"systemd-run --quiet --wait --pipe --property=LimitNOFILE={most} sh -c 'ulimit -Hn'"
    assert int(host.check_output(asked)) == most
