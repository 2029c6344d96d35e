"""What role pki promises of a host's keys and certificates, tested with real handshakes and in the files."""

from __future__ import annotations

import base64
import functools
import json
import os
import socket
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.services import carried
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust.pki import AUTHORITY_YEARS, certificate_of, new_authority
from authority import REPOSITORY, unknown_authority
from deadline import until
from jinja2 import Template
from playbook_runner import play

testinfra_hosts = ["ansible://all"]

HOME = "/etc/grunnfjell/pki"
PORT = 4433
IN_ITS_SCENARIO = os.environ.get("MOLECULE_SCENARIO_NAME") == "pki"


@pytest.fixture(scope="module")
def declared(host, inputs, hostname) -> dict[str, dict[str, Any]]:
    """The identities of the host: in the scenario those of its inventory, elsewhere those of the roles that the host carries."""
    if IN_ITS_SCENARIO:
        return inputs["pki_identities"]
    identities = {}
    for role in carried(inputs["topology_roles"], host.backend.ansible_runner.get_variables(hostname)["group_names"]):
        constants = REPOSITORY / f"roles/{role}/vars/main.yml"
        if constants.exists():
            identity = yaml.safe_load(constants.read_text(encoding="utf-8")).get(f"__{role}_identity")
            if identity:
                identities[role] = {"group": Template(identity["group"]).render(inputs)}
    return identities


@pytest.fixture
def shows(host):
    """Starts a server on the host that presents an identity."""

    def serve(identity: str) -> None:
        files = f"-cert {HOME}/{identity}/certificate.pem -key {HOME}/{identity}/key.pem"
        verify = f"-CAfile {HOME}/authorities.pem -Verify 1 -verify_return_error"
        command = f"systemd-run --quiet --unit=door openssl s_server -quiet -accept {PORT} {files} {verify}"
        assert host.run(command).rc == 0
        until("a listening server", lambda: host.run(f"ss -ltnH sport = :{PORT}").stdout)

    yield serve
    host.run("systemctl stop door")


def handshake(address: str, context: ssl.SSLContext, server_name: str) -> dict:
    """The certificate that the host presents. Under TLS 1.2 a client learns during the handshake whether it is trusted."""
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((address, PORT), timeout=10) as raw,
        context.wrap_socket(raw, server_hostname=server_name) as tls,
    ):
        return tls.getpeercert()


@pytest.fixture
def address(host, hostname) -> str:
    return host.backend.ansible_runner.get_variables(hostname)["ansible_host"]


@pytest.mark.scenario
def test_a_host_is_trusted_by_name_and_address_and_trusts_the_fleet(shows, authority, address, hostname):
    shows("journal")
    context = authority.context(authority.issue("client"))
    for server_name in (hostname, address, "journal.example.no"):
        try:
            certificate = handshake(address, context, server_name)
        except ssl.SSLError as refusal:
            pytest.fail(f"not trusted as {server_name}: {refusal}")
        assert dict(pair for part in certificate["subject"] for pair in part) == {
            "organizationalUnitName": "journal",
            "commonName": hostname,
        }


@pytest.mark.once
@pytest.mark.scenario
def test_a_host_is_not_trusted_by_another_name(shows, authority, address):
    shows("journal")
    for server_name in ("10.77.0.253", "other.example.no"):
        with pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for"):
            handshake(address, authority.context(authority.issue("client")), server_name)


@pytest.mark.once
@pytest.mark.scenario
def test_a_host_of_another_authority_is_not_trusted(shows, authority, address, tmp_path):
    shows("journal")
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate verify failed"):
        handshake(address, unknown_authority(tmp_path / "unknown").context(authority.issue("client")), address)


@pytest.mark.once
@pytest.mark.scenario
def test_a_host_refuses_a_client_without_a_valid_certificate(shows, authority, address, invalid_identity):
    shows("journal")
    with pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(address, authority.context(invalid_identity), address)


def test_only_root_and_the_declared_group_read_a_key(host, declared):
    assert declared
    for identity, settings in declared.items():
        key = host.file(f"{HOME}/{identity}/key.pem")
        assert (key.user, key.group, oct(key.mode)) == ("root", settings["group"], "0o640")
        assert host.run(f"runuser -u nobody -- cat {HOME}/{identity}/key.pem").rc != 0
        assert "id-ecPublicKey" in host.check_output(f"openssl x509 -noout -text -in {HOME}/{identity}/certificate.pem")


def test_identities_removed_from_the_inventory_are_removed_from_the_host(host, declared):
    assert sorted(host.check_output(f"ls {HOME}").split()) == sorted([*declared, "authorities.pem"])
    versions = host.check_output(f"ls {HOME}/.versions").split()
    assert sorted(version.rpartition("-")[0] for version in versions) == sorted(declared)
    assert host.check_output(f"ls {HOME}/.pending") == ""


def run_playbook(inventory: str, *arguments: str, playbook: str = "pki") -> str:
    result = play(inventory, f"playbooks/{playbook}.yml", *arguments)
    assert result.returncode == 0, result.output
    return result.text


def serials(host, declared) -> dict[str, str]:
    return {
        identity: host.check_output(f"openssl x509 -noout -serial -in {HOME}/{identity}/certificate.pem") for identity in declared
    }


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.scenario
def test_a_certificate_is_renewed_in_time_and_its_service_reloaded(host, inventory, declared, hostname):
    host.check_output("rm -f /run/reloaded-journal /run/reloaded-door")
    before = serials(host, declared)
    run_playbook(inventory, "--limit", hostname, "-e", "pki_days=500", "-e", "pki_renew_days=400")
    after = serials(host, declared)
    assert {identity for identity in before if after[identity] == before[identity]} == set()
    assert host.file("/run/reloaded-journal").exists
    assert not host.file("/run/reloaded-door").exists, "a service that does not run was reloaded"


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.scenario
def test_a_damaged_key_is_replaced_and_a_missed_reload_made_up_by_the_next_run(host, inventory, declared, hostname):
    """As after a run that was cut off between replacing the files and the reload."""
    before = serials(host, declared)
    host.check_output(f"rm -f /run/reloaded-journal; touch {HOME}/.untold/journal")
    host.check_output(f"openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out {HOME}/guest/key.pem")
    run_playbook(inventory, "--limit", hostname)
    assert host.file("/run/reloaded-journal").exists
    after = serials(host, declared)
    assert after["guest"] != before["guest"] and after["journal"] == before["journal"]


@pytest.fixture
def first_authority(inventory):
    """Restores the authority that the inventory names, which the other tests need; also after a failure."""
    restore = functools.cache(lambda: run_playbook(inventory, "-e", "pki_authority_lost=true"))
    yield restore
    restore()


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.scenario
@pytest.mark.one_host
def test_an_authority_in_its_last_year_issues_certificates_until_it_expires(host, hostname, inventory, declared, first_authority):
    """Review finding 9."""
    short = new_authority("short", datetime.now(UTC) - timedelta(days=365 * AUTHORITY_YEARS - 200))
    edited = {
        "pki_authorities": {"short": short},
        "pki_authority": "short",
        "pki_authorities_trusted": ["short"],
        "pki_authority_lost": True,
    }
    enddate = f"openssl x509 -noout -enddate -in {HOME}/guest/certificate.pem"
    text = run_playbook(inventory, "-e", json.dumps(edited))
    assert "The authority 'short' expires in 200 days, and every certificate with it" in text
    ends = host.check_output(enddate).strip().removeprefix("notAfter=")
    assert ssl.cert_time_to_seconds(ends) == certificate_of(short["certificate"]).not_valid_after_utc.timestamp()
    before = serials(host, declared)
    # The certificate is due for renewal, but a new one could not be valid any longer.
    run_playbook(inventory, "-e", json.dumps(edited), "-e", "pki_renew_days=300")
    assert serials(host, declared) == before
    run_playbook(inventory, "-e", json.dumps(edited), "-e", "pki_renew=true")
    assert not set(serials(host, declared).values()) & set(before.values())
    first_authority()


@pytest.fixture
def peers(fleet):
    """Both hosts of the scenario, connecting to each other all the time. Returns a function that reads their results."""
    addresses = {name: host.backend.ansible_runner.get_variables(name)["ansible_host"] for name, host in fleet.items()}
    program = base64.b64encode((Path(__file__).parent / "peer.py").read_bytes()).decode()
    for name, host in fleet.items():
        (neighbour,) = addresses.keys() - {name}
        host.check_output(f"rm -f /run/peer.json; echo {program} | base64 -d > /run/peer.py")
        host.check_output(f"systemd-run --quiet --unit=peer python3 /run/peer.py {addresses[neighbour]}")
    yield lambda: [json.loads(host.check_output("cat /run/peer.json")) for host in fleet.values()]
    for host in fleet.values():
        host.run("systemctl stop peer")


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.scenario
@pytest.mark.one_host
def test_an_authority_is_replaced_in_three_runs_and_no_handshake_fails(host, hostname, inventory, peers, first_authority):
    issuer = f"openssl x509 -noout -issuer -in {HOME}/guest/certificate.pem"
    first = host.check_output(issuer)
    steps = [("first", ["first", "second"]), ("second", ["first", "second"]), ("second", ["second"])]
    for number, (issuing, trusted) in enumerate(steps):
        edited = json.dumps({"pki_authority": issuing, "pki_authorities_trusted": trusted})
        if number == 0:
            run_playbook(inventory, "-e", edited, playbook="secrets")
        run_playbook(inventory, "-e", edited)
    results = peers()
    assert host.check_output(issuer) != first and "second" in host.check_output(issuer)
    assert [result["failures"] for result in results] == [[], []]
    assert min(result["succeeded"] for result in results) >= 20
    first_authority()
    assert host.check_output(issuer) == first
