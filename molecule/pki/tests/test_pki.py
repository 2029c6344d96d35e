"""What role pki promises of a host's keys and certificates, asked by real handshakes and by the files themselves."""

from __future__ import annotations

import base64
import functools
import json
import os
import socket
import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import testinfra
import yaml
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.services import carried
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust.pki import AUTHORITY_YEARS, certificate_of, new_authority
from authority import REPOSITORY, stranger
from jinja2 import Template
from playing import play

testinfra_hosts = ["ansible://all"]

HOME = "/etc/grunnfjell/pki"
PORT = 4433
IN_ITS_SCENARIO = os.environ.get("MOLECULE_SCENARIO_NAME") == "pki"


@pytest.fixture(scope="module")
def name(host) -> str:
    return host.backend.get_hostname()


@pytest.fixture(scope="module")
def in_its_scenario() -> None:
    if not IN_ITS_SCENARIO:
        pytest.skip("shows, spoils and changes identities of nobody's: for the scenario's own hosts")


@pytest.fixture(scope="module")
def declared(host, inputs, name) -> dict[str, dict[str, Any]]:
    """What the host is to show of itself: the scenario's hosts by their inventory, all others by the roles that they carry."""
    if IN_ITS_SCENARIO:
        return inputs["pki_identities"]
    found = {}
    for role in carried(inputs["topology_roles"], host.backend.ansible_runner.get_variables(name)["group_names"]):
        constants = REPOSITORY / f"roles/{role}/vars/main.yml"
        if constants.exists():
            identity = yaml.safe_load(constants.read_text(encoding="utf-8")).get(f"__{role}_identity")
            if identity:
                found[role] = {"group": Template(identity["group"]).render(inputs)}
    return found


@pytest.fixture
def shows(host, in_its_scenario):
    """A server on the host that shows an identity, as often as a test asks for one."""
    started = []

    def serve(identity: str) -> None:
        files = f"-cert {HOME}/{identity}/certificate.pem -key {HOME}/{identity}/key.pem"
        verify = f"-CAfile {HOME}/authorities.pem -Verify 1 -verify_return_error"
        command = f"systemd-run --quiet --unit=door openssl s_server -quiet -accept {PORT} {files} {verify}"
        assert host.run(command).rc == 0
        started.append(identity)
        for _ in range(50):
            if host.run(f"ss -ltnH sport = :{PORT}").stdout:
                return
            time.sleep(0.1)  # between two looks
        raise AssertionError("the server did not come up")

    yield serve
    for _ in started:
        host.run("systemctl stop door")


def handshake(address: str, context: ssl.SSLContext, server_name: str) -> dict:
    """The certificate that the host shows; by TLS 1.2, in which a client learns at once whether its own is believed."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((address, PORT), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=server_name) as tls,
    ):
        return tls.getpeercert()


@pytest.fixture
def address(inputs, host) -> str:
    return host.backend.ansible_runner.get_variables(host.backend.get_hostname())["ansible_host"]


def test_a_host_is_believed_by_its_name_and_its_address_and_believes_the_fleet(shows, authority, address, name):
    shows("journal")
    context = authority.context(authority.issue("client"))
    for server_name in (name, address, "journal.example.no"):
        try:
            shown = handshake(address, context, server_name)
        except ssl.SSLError as refusal:
            pytest.fail(f"not believed as {server_name}: {refusal}")
        assert dict(pair for part in shown["subject"] for pair in part) == {
            "organizationalUnitName": "journal",
            "commonName": name,
        }


@pytest.mark.once
def test_a_host_is_not_believed_by_another_name(shows, authority, address):
    shows("journal")
    for server_name in ("10.77.0.253", "other.example.no"):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
            handshake(address, authority.context(authority.issue("client")), server_name)


@pytest.mark.once
def test_a_host_of_another_authority_is_not_believed(shows, authority, address, tmp_path):
    shows("journal")
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        handshake(address, stranger(tmp_path / "s").context(authority.issue("client")), address)


@pytest.mark.once
@pytest.mark.parametrize("who", ["nobody", "a stranger", "one whose certificate ran out"])
def test_a_host_does_not_believe(shows, authority, address, tmp_path, who):
    shows("journal")
    shown = {
        "nobody": None,
        "a stranger": stranger(tmp_path / "s").issue("client"),
        "one whose certificate ran out": authority.issue("late", days=1, ago_days=3),
    }[who]
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(address, authority.context(shown), address)


def test_a_key_is_read_by_its_own_group_alone(host, declared):
    assert declared
    for identity, wanted in declared.items():
        key = host.file(f"{HOME}/{identity}/key.pem")
        assert (key.user, key.group, oct(key.mode)) == ("root", wanted["group"], "0o640")
        readable = f"runuser -u nobody -- cat {HOME}/{identity}/key.pem"
        assert host.run(readable).rc != 0
        assert "id-ecPublicKey" in host.check_output(f"openssl x509 -noout -text -in {HOME}/{identity}/certificate.pem")


def test_identities_that_left_the_inventory_left_the_host(host, declared):
    found = host.check_output(f"ls {HOME}").split()
    assert sorted(found) == sorted([*declared, "authorities.pem"])
    versions = host.check_output(f"ls {HOME}/.versions").split()
    assert sorted(version.rpartition("-")[0] for version in versions) == sorted(declared)
    assert host.check_output(f"ls {HOME}/.pending") == ""


def run(request, *arguments: str, playbook: str = "pki") -> str:
    """The role's own playbook, as an operator would run it."""
    done = play(request.config.option.ansible_inventory, f"playbooks/{playbook}.yml", *arguments)
    assert done.returncode == 0, done.printed
    return done.printed


def serials(host, declared) -> dict[str, str]:
    return {
        identity: host.check_output(f"openssl x509 -noout -serial -in {HOME}/{identity}/certificate.pem") for identity in declared
    }


@pytest.mark.once
@pytest.mark.disruptive
def test_a_certificate_is_replaced_before_it_runs_out_and_who_shows_it_is_told(host, request, declared, name, in_its_scenario):
    host.check_output("rm -f /run/told-journal /run/told-door")
    before = serials(host, declared)
    run(request, "--limit", name, "-e", "pki_days=500", "-e", "pki_renew_days=400")
    after = serials(host, declared)
    assert {identity for identity in before if after[identity] == before[identity]} == set()
    assert host.file("/run/told-journal").exists
    assert not host.file("/run/told-door").exists, "a service that does not run was told"


@pytest.mark.once
@pytest.mark.disruptive
def test_a_spoiled_key_is_replaced_and_whoever_could_not_be_told_is_told_by_the_next_run(
    host, request, declared, name, in_its_scenario
):
    """As after a run that was cut off between the switch of the files and the reload."""
    before = serials(host, declared)
    host.check_output(f"rm -f /run/told-journal; touch {HOME}/.untold/journal")
    host.check_output(f"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {HOME}/guest/key.pem")
    run(request, "--limit", name)
    assert host.file("/run/told-journal").exists
    after = serials(host, declared)
    assert after["guest"] != before["guest"] and after["journal"] == before["journal"]


@pytest.fixture
def first_authority(request):
    """Back to the authority that the inventory names, also after a failure: the other tests know no other."""
    back = functools.cache(lambda: run(request, "-e", "pki_authority_lost=true"))
    yield back
    back()


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.scenario
def test_an_authority_in_its_last_year_still_issues_until_its_own_end(host, name, request, declared, first_authority):
    """Review finding 9."""
    if name != sorted(host.backend.ansible_runner.get_hosts())[0]:
        pytest.skip("each run is over all hosts, and one of them is asked")
    short = new_authority("short", datetime.now(UTC) - timedelta(days=365 * AUTHORITY_YEARS - 200))
    edited = {
        "pki_authorities": {"short": short},
        "pki_authority": "short",
        "pki_authorities_trusted": ["short"],
        "pki_authority_lost": True,
    }
    enddate = f"openssl x509 -noout -enddate -in {HOME}/guest/certificate.pem"
    printed = run(request, "-e", json.dumps(edited))
    assert "The authority 'short' expires in 200 days, and every certificate with it" in " ".join(printed.split())
    ends = host.check_output(enddate).strip().removeprefix("notAfter=")
    assert ssl.cert_time_to_seconds(ends) == certificate_of(short["certificate"]).not_valid_after_utc.timestamp()
    before = serials(host, declared)
    # A certificate has fewer days left than it must have, and still no run makes it again: it would not be longer.
    run(request, "-e", json.dumps(edited), "-e", "pki_renew_days=300")
    assert serials(host, declared) == before
    run(request, "-e", json.dumps(edited), "-e", "pki_renew=true")
    assert not set(serials(host, declared).values()) & set(before.values())
    first_authority()


@pytest.fixture
def peers(host, request, in_its_scenario):
    """Both hosts of the scenario, each coming to the other all the time; ends with what came of it."""
    inventory = request.config.option.ansible_inventory
    names = host.backend.ansible_runner.get_hosts()
    both = {name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in names}
    addresses = {name: one.backend.ansible_runner.get_variables(name)["ansible_host"] for name, one in both.items()}
    program = base64.b64encode((Path(__file__).parent / "peer.py").read_bytes()).decode()
    for name, one in both.items():
        (neighbour,) = addresses.keys() - {name}
        one.check_output(f"rm -f /run/peer.json; echo {program} | base64 -d > /run/peer.py")
        one.check_output(f"systemd-run --quiet --unit=peer python3 /run/peer.py {addresses[neighbour]}")
    yield lambda: {name: json.loads(one.check_output("cat /run/peer.json")) for name, one in both.items()}
    for one in both.values():
        one.run("systemctl stop peer")


@pytest.mark.once
@pytest.mark.disruptive
def test_an_authority_changes_in_three_runs_and_no_handshake_fails(host, name, request, peers, first_authority):
    if name != sorted(host.backend.ansible_runner.get_hosts())[0]:
        pytest.skip("asked of all hosts at once, from the first of them")
    issuer = f"openssl x509 -noout -issuer -in {HOME}/guest/certificate.pem"
    first = host.check_output(issuer)
    steps = [("first", ["first", "second"]), ("second", ["first", "second"]), ("second", ["second"])]
    for number, (issuing, trusted) in enumerate(steps):
        edited = json.dumps({"pki_authority": issuing, "pki_authorities_trusted": trusted})
        if number == 0:
            run(request, "-e", edited, playbook="secrets")
        run(request, "-e", edited)
    counted = peers()
    assert host.check_output(issuer) != first and "second" in host.check_output(issuer)
    assert [told["failed"] for told in counted.values()] == [[], []]
    assert min(told["done"] for told in counted.values()) >= 20
    first_authority()
    assert host.check_output(issuer) == first
