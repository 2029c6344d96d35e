"""The facts of resource_facts agree with the host's own tools."""

from __future__ import annotations

import json
import re

testinfra_hosts = ["ansible://all"]


def resources(host) -> dict:
    return host.ansible("grunnfjell.platform.resource_facts", check=True)["ansible_facts"]["resources"]


def test_every_listening_socket_is_named(host) -> None:
    facts = {(socket["address"], socket["port"]) for socket in resources(host)["listening"]}
    sockets = set()
    for line in host.check_output("ss -Hltn").splitlines():
        address, _, port = line.split()[3].rpartition(":")
        sockets.add((re.sub(r"%.*|[][]", "", address).replace("*", "::"), int(port)))
    assert facts == sockets and facts


def test_the_unit_of_a_listening_socket_is_named(host) -> None:
    (ssh, *_) = [socket for socket in resources(host)["listening"] if socket["port"] == 22]
    assert (ssh["program"], ssh["unit"]) == ("sshd", "ssh.service")


def test_an_account_without_a_group_of_its_name_does_not_count(host) -> None:
    """Review finding 36."""
    host.check_output("getent group adm && ! getent passwd adm")
    accounts = json.dumps({"accounts": ["www-data", "adm", "nobody-of-this-name"]})
    facts = host.ansible("grunnfjell.platform.resource_facts", accounts, check=True)["ansible_facts"]
    assert facts["resources"]["accounts"] == {"www-data": True, "adm": False, "nobody-of-this-name": False}


def test_the_clocks_agree_within_the_round_trip(host) -> None:
    assert abs(resources(host)["clock_offset_seconds"]) < 5


def test_the_descriptor_limit_is_what_a_service_gets(host) -> None:
    limit = resources(host)["descriptors_max"]
    command = f"systemd-run --quiet --wait --pipe --property=LimitNOFILE={limit} sh -c 'ulimit -Hn'"
    assert int(host.check_output(command)) == limit
