"""What role etcd promises of the running members."""

from __future__ import annotations

import json
import shlex
from itertools import pairwise
from pathlib import Path

import pytest
from etcd_client import AUTHORITIES, ask, command, healthy, members, own_endpoint, put, value

testinfra_hosts = ["ansible://etcd"]

ENVIRONMENT = "/etc/etcd/grunnfjell.env"
BOOTSTRAP = ("ETCD_INITIAL_CLUSTER", "ETCD_INITIAL_CLUSTER_STATE", "ETCD_INITIAL_CLUSTER_TOKEN")


def variables(text: str) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in text.splitlines() if line.startswith("ETCD_"))
    return {key: text for key, text in pairs if key not in BOOTSTRAP}


def environment(host) -> dict[str, str]:
    """etcd's variables in the running process. A container's root may not read them; its account may."""
    pid = host.check_output("systemctl show etcd --property=MainPID --value")
    return variables(host.check_output(f"runuser -u etcd -- cat /proc/{pid}/environ | tr '\\0' '\\n'"))


@pytest.fixture
def endpoints(inputs) -> dict[str, str]:
    """Member to its URL for clients."""
    return {name: f"https://{address}:{inputs['etcd_client_port']}" for name, address in inputs["etcd_members"].items()}


@pytest.fixture
def on_host(host, tmp_path):
    """Copies a certificate and its key to the host, and removes them afterwards."""
    directory = host.check_output("mktemp -d")

    def copy(identity: tuple[str, str]) -> tuple[str, str]:
        places = []
        for number, path in enumerate(identity):
            place = f"{directory}/{number}.pem"
            host.check_output(f"printf %s {shlex.quote(Path(path).read_text(encoding='utf-8'))} > {place}")
            places.append(place)
        return places[0], places[1]

    yield copy
    host.check_output(f"rm -r {directory}")


def test_the_member_runs_and_comes_back_at_boot_and_after_a_crash(host):
    service = host.service("etcd")
    assert service.is_running and service.is_enabled, host.run("journalctl --no-pager -n 20 -u etcd").stdout
    assert service.systemd_properties["Restart"] == "on-failure"
    assert service.systemd_properties["NeedDaemonReload"] == "no"


def test_every_member_is_healthy_and_knows_exactly_the_members_of_the_inventory(host, inputs):
    assert healthy(host, inputs)
    assert set(members(host, inputs)) == set(inputs["etcd_members"])


def test_all_members_follow_one_leader(host, inputs, endpoints):
    states = json.loads(host.check_output(command(",".join(endpoints.values()), "--write-out=json", "endpoint", "status")))
    assert len(states) == len(endpoints)
    assert len({state["Status"]["leader"] for state in states}) == 1 and states[0]["Status"]["leader"]


@pytest.mark.disruptive
def test_what_one_member_takes_every_member_has(host, hostname, inputs, endpoints):
    key = f"/grunnfjell-test/{hostname}"
    put(host, inputs, key, "kept")
    for endpoint in endpoints.values():
        assert host.check_output(command(endpoint, "get", "--print-value-only", key)) == "kept"
    host.check_output(command(own_endpoint(inputs), "del", key))
    assert value(host, inputs, key) == ""


def test_the_member_listens_on_its_own_address_only(host, inputs):
    ports = (inputs["etcd_client_port"], inputs["etcd_peer_port"])
    listening = host.check_output(f"ss -ltnH sport = :{ports[0]} or sport = :{ports[1]} | awk '{{print $4}}'").split()
    assert sorted(listening) == sorted(f"{inputs['etcd_listen_address']}:{port}" for port in ports)


def test_the_running_member_has_read_its_file(host):
    running = environment(host)
    assert running == variables(host.file(ENVIRONMENT).content_string)


@pytest.mark.once
@pytest.mark.disruptive
def test_a_client_without_a_valid_certificate_is_refused(host, inputs, on_host, invalid_identity):
    identity = on_host(invalid_identity) if invalid_identity else None
    assert host.run(command(own_endpoint(inputs), "member", "list", identity=identity)).rc != 0
    assert healthy(host, inputs)  # it refuses, and is not just down


@pytest.mark.once
@pytest.mark.disruptive
def test_only_members_speak_on_the_port_of_the_members(host, hostname, inputs, on_host, authority):
    """The certificate of another service of the same host is not one of a member."""
    url = f"https://{inputs['etcd_listen_address']}:{inputs['etcd_peer_port']}/members"
    names = [hostname, inputs["etcd_listen_address"]]

    program = shlex.quote((Path(__file__).parent / "members_request.py").read_text(encoding="utf-8"))

    def opens(identity: tuple[str, str] | None) -> bool:
        return host.run(f"printf %s {program} | python3 - {url} {AUTHORITIES} {' '.join(identity or ())}").rc == 0

    assert not opens(None)
    assert not opens(on_host(authority.issue("client", names=names)))
    assert opens(on_host(authority.issue("member", names=["etcd-peer.grunnfjell.internal", *names])))


@pytest.mark.once
def test_only_its_account_reads_key_and_data(host):
    assert host.run("runuser -u nobody -- cat /etc/grunnfjell/pki/etcd/key.pem").rc != 0
    assert host.run("runuser -u nobody -- ls /var/lib/etcd/grunnfjell/member").rc != 0
    pid = host.check_output("systemctl show etcd --property=MainPID --value")
    assert host.check_output(f"ps -o user= -p {pid}") == "etcd"


@pytest.mark.once
def test_the_vendor_s_configuration_is_as_shipped(host):
    assert "/etc/" not in host.run("dpkg --verify etcd-server etcd-client").stdout


def test_the_members_agree_on_the_declared_limit_of_their_data(host, inputs):
    running = environment(host)
    assert int(running["ETCD_QUOTA_BACKEND_BYTES"]) == inputs["etcd_quota_backend_bytes"]
    assert ask(host, inputs, "alarm", "list").get("alarms") is None


@pytest.mark.scenario
def test_an_edit_restarts_the_members_one_at_a_time(fleet, runs):
    """Each began only once the one before it had found a majority. On the first run they begin together."""

    def since(member, name: str) -> float:
        return float(member.check_output(f"systemctl show etcd --timestamp=unix --property={name} --value").lstrip("@"))

    times = sorted((since(member, "ExecMainStartTimestamp"), since(member, "ActiveEnterTimestamp")) for member in fleet.values())
    if len(runs) > 3:
        assert all(began > runs[-2].began for began, _ in times), "the edit restarted not every member"
        assert all(ready <= began for (_, ready), (began, _) in pairwise(times)), times
    else:
        assert times[-1][0] < runs[2].began
