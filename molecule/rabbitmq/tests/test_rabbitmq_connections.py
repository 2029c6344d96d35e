"""Where the broker listens, and whom it trusts."""

from __future__ import annotations

import contextlib
import json
import ssl

import pytest
from amqp_probe import Connection, Refused
from authority import unknown_authority
from broker_tunnel import Dial

testinfra_hosts = ["ansible://rabbitmq"]

EVERYWHERE = ("0.0.0.0", "*", "[::]")
PORTS_OF_NODES = ("4369", "25672")


def listening(host) -> list[tuple[str, str]]:
    """Address and port of everything that listens."""
    return [tuple(line.split()[3].rsplit(":", 1)) for line in host.check_output("ss -ltnH").splitlines()]


def test_the_broker_never_listens_on_every_address(host, inputs):
    ports = {*PORTS_OF_NODES, *(listener.rsplit(":", 1)[1] for listener in inputs["rabbitmq_listeners_ssl"])}
    assert [(address, port) for address, port in listening(host) if port in ports and address in EVERYWHERE] == []


def test_clients_are_served_only_on_the_declared_listeners(host, inputs):
    listeners = json.loads(host.check_output("rabbitmq-diagnostics --quiet listeners --formatter json </dev/null"))["listeners"]
    amqp_listeners = {
        f"{listener['interface']}:{listener['port']}" for listener in listeners if listener["protocol"].startswith("amqp")
    }
    # An IPv6 address may be declared with brackets or without.
    declared = {listener.replace("[", "").replace("]", "") for listener in inputs["rabbitmq_listeners_ssl"]}
    assert {listener.replace("[", "").replace("]", "") for listener in amqp_listeners} == declared


def test_plain_text_amqp_is_refused(dial, place):
    """On the broker's port, and on the usual port of plain-text AMQP."""
    with dial(place, timeout=10) as raw:
        raw.sendall(b"AMQP\x00\x00\x09\x01")
        with contextlib.suppress(ConnectionError):
            assert raw.recv(7)[:1] in (b"", b"\x15")  # the end, or a TLS alert: no AMQP frame
    with pytest.raises(ConnectionRefusedError):
        dial((place[0], 5672), timeout=10)


def test_nodes_and_tools_are_served_only_on_the_distribution_address(host, inputs):
    places = {address for address, port in listening(host) if port in PORTS_OF_NODES}
    assert places <= {"127.0.0.1", inputs["rabbitmq_distribution_address"]}


def shut_out(dial: Dial, place: tuple[str, int], application: dict[str, str], tls: ssl.SSLContext) -> str:
    """The error that stops a client before its login."""
    with pytest.raises((ssl.SSLError, ConnectionError, Refused)) as refusal:
        Connection(*place, **application, tls=tls, timeout=10, dial=dial)
    assert "ACCESS_REFUSED" not in str(refusal.value)
    return str(refusal.value)


def test_a_client_without_a_valid_certificate_is_refused_before_its_login(dial, place, application, authority, invalid_identity):
    shut_out(dial, place, application, authority.context(invalid_identity))


def test_a_broker_of_another_authority_is_not_trusted(dial, place, application, authority, tmp_path):
    other = unknown_authority(tmp_path / "unknown")
    assert "certificate verify failed" in shut_out(dial, place, application, other.context(authority.issue("client")))


def test_the_broker_is_trusted_only_by_its_name_and_address(host, dial, place, authority, inputs):
    """Trusted by its inventory name and its address, but not as another host of the fleet."""
    context, (address, port) = authority.context(authority.issue("client")), place
    for name in (address, host.backend.get_hostname()):
        with dial((address, port), timeout=10) as raw, context.wrap_socket(raw, server_hostname=name):
            pass
    for name in ("10.255.255.254", "another-host"):
        refused = pytest.raises(ssl.SSLCertVerificationError, match=r"mismatch|not valid for")
        with dial((address, port), timeout=10) as raw, refused:
            context.wrap_socket(raw, server_hostname=name)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_both_current_tls_versions_are_supported(dial, place, authority, version):
    context = authority.context(authority.issue("client"))
    context.minimum_version = context.maximum_version = version
    with dial(place, timeout=10) as raw, context.wrap_socket(raw, server_hostname=place[0]) as wrapped:
        assert wrapped.version() == version.name.replace("_", ".")
        assert "GCM" in wrapped.cipher()[0] or "CHACHA20" in wrapped.cipher()[0]


def test_old_tls_versions_are_refused(dial, place, authority):
    context = authority.context(authority.issue("client"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with dial(place, timeout=10) as raw, pytest.raises((ssl.SSLError, ConnectionError)):
        context.wrap_socket(raw, server_hostname=place[0])


@pytest.mark.once
@pytest.mark.disruptive
def test_a_renewed_certificate_is_used_at_once_and_cuts_no_connection(converge, dial, place, session, queue, client):
    def shown() -> bytes:
        with dial(place, timeout=10) as raw, client.wrap_socket(raw, server_hostname=place[0]) as wrapped:
            return wrapped.getpeercert(binary_form=True)

    before = shown()
    run = converge("playbooks/pki.yml", "-e", "pki_renew=true")
    assert run.returncode == 0, run.output
    assert shown() != before
    assert session.publish(queue, "on the older connection") == "ack"
