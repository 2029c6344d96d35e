"""The audit: what counts as weak, as failed and as an exposed secret, and how the auditors reach a port."""

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust.pki import certificate_of, new_authority
from cryptography.hazmat.primitives import serialization

from lab.audit import client, lynis, secrets, ssh, tls
from lab.audit.__main__ import owed_ports, reachable_ports
from lab.audit.relay import relay
from lab.audit.report import objections, table


@pytest.mark.parametrize(
    ("name", "weak"),
    [
        ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", False),
        ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", False),
        ("TLS_DHE_RSA_WITH_AES_256_GCM_SHA384", False),
        ("TLS_RSA_WITH_AES_128_GCM_SHA256", True),
        ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384", True),
        ("TLS_ECDH_anon_WITH_AES_128_CBC_SHA", True),
        ("TLS_DHE_anon_WITH_AES_128_GCM_SHA256", True),
        ("TLS_RSA_WITH_NULL_MD5", True),
    ],
)
def test_a_suite_without_forward_secrecy_or_authentication_is_weak(name, weak):
    assert tls.weak_suite(name) is weak


def scan_of(**changes):
    done = {"status": "COMPLETED", "error_reason": None}
    scan = {
        f"{protocol}_cipher_suites": {**done, "result": {"accepted_cipher_suites": []}}
        for protocol in (*tls.OLD, "tls_1_2", "tls_1_3")
    }
    scan |= {hole: {**done, "result": {key: wanted}} for hole, (key, wanted) in tls.HOLES.items()}
    scan["robot"] = {**done, "result": {"robot_result": "NOT_VULNERABLE_NO_ORACLE"}}
    return scan | changes


def accepting(*names):
    suites = [{"cipher_suite": {"name": name}} for name in names]
    return {"status": "COMPLETED", "error_reason": None, "result": {"accepted_cipher_suites": suites}}


NOT_ASKED = {"status": "ERROR", "error_reason": "CONNECTIVITY_ISSUE", "result": None}


@pytest.mark.parametrize(
    ("changes", "weaknesses"),
    [
        ({}, []),
        ({"tls_1_0_cipher_suites": accepting("TLS_RSA_WITH_AES_128_CBC_SHA")}, ["tls_1_0 is spoken"]),
        (
            {"tls_1_2_cipher_suites": accepting("TLS_RSA_WITH_AES_128_CBC_SHA", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256")},
            ["tls_1_2 accepts TLS_RSA_WITH_AES_128_CBC_SHA"],
        ),
        ({"tls_1_2_cipher_suites": NOT_ASKED}, ["tls_1_2 could not be checked: CONNECTIVITY_ISSUE"]),
        ({"heartbleed": NOT_ASKED}, ["heartbleed could not be checked: CONNECTIVITY_ISSUE"]),
        ({"robot": NOT_ASKED}, ["robot: CONNECTIVITY_ISSUE"]),
    ],
)
def test_weak_protocols_and_failed_scans_both_count(changes, weaknesses):
    assert tls.weaknesses(scan_of(**changes)) == weaknesses


def test_the_auditor_has_a_certificate_of_the_authority_and_removes_it_afterwards():
    authority = new_authority("first")
    with client.identities({"first": authority}) as ((certificate, key),):
        shown = certificate_of(certificate.read_text())
        shown.verify_directly_issued_by(certificate_of(authority["certificate"]))
        assert serialization.load_pem_private_key(key.read_bytes(), None).public_key() == shown.public_key()
        assert key.parent.stat().st_mode & 0o077 == 0
    assert not key.exists()


def test_a_failure_of_ssh_audit_counts_and_a_warning_does_not():
    report = {
        "kex": [{"algorithm": "ecdh-sha2-nistp256", "notes": {"fail": ["suspected curve"], "warn": ["not post-quantum"]}}],
        "mac": [{"algorithm": "umac-64@openssh.com", "notes": {"warn": ["small tag"]}}],
    }
    assert ssh.failures(report) == ["kex ecdh-sha2-nistp256: suspected curve"]


def test_the_report_of_lynis_is_read():
    report = lynis.read_report(
        "lynis_version=3.1.4\nsuggestion[]=SSH-7408|Consider it|Port (set 22 to )|-|\nhardening_index=83\n"
    )
    assert (report["index"], report["version"], report["suggestions"]) == (
        83,
        "3.1.4",
        ["SSH-7408 Consider it (Port (set 22 to ))"],
    )
    assert lynis.read_report("")["index"] == 0


KEY = "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMGByqGSM49\n-----END PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("output", "names"),
    [
        ("nothing of it", []),
        ('password: it\'s "long" enough', ["passwords.newsroom"]),
        ('{"password": "it\'s \\"long\\" enough"}', ["passwords.newsroom"]),
        ("amqps://newsroom:it%27s%20%22long%22%20enough@broker1:5671/", ["passwords.newsroom"]),
        ("aXQncyAibG9uZyIgZW5vdWdo", ["passwords.newsroom"]),
        ('"key": "-----BEGIN PRIVATE KEY-----\\nMIGHAgEAMBMGByqGSM49\\n', ["authority.key"]),
        ("-----BEGIN CERTIFICATE-----\npublic-certificate", []),
    ],
)
def test_a_secret_is_found_in_plain_and_encoded_output(output, names):
    vault = {
        "passwords": {"newsroom": 'it\'s "long" enough'},
        "authority": {"key": KEY, "certificate": "-----BEGIN CERTIFICATE-----\npublic-certificate\n"},
    }
    assert secrets.leaked(vault, output) == names


def test_a_host_must_use_tls_where_a_declared_flow_of_an_application_ends():
    flow = {"purpose": "amqp", "protocol": "tcp", "port": 5671, "destination": {"kind": "host", "name": "broker1"}}
    ssh_flow = {**flow, "purpose": "ssh", "port": 22}
    host = {"name": "broker1", "flows": [flow, ssh_flow, {**flow, "destination": {"name": "broker2"}, "port": 5672}]}
    assert owed_ports(host) == {5671}


def test_only_listeners_on_loopback_are_unreachable():
    listening = ["0.0.0.0:22", "[::]:22", "*:80", "127.0.0.1:6432", "127.0.0.53%lo:53", "[::1]:25", "10.77.0.11:5671"]
    assert reachable_ports(listening, "10.77.0.11") == [("10.77.0.11", port) for port in (22, 80, 5671)]


def verdict(**changes):
    entry = {"host": "a", "port": 5671, "begins": "tls", "weak": []}
    return {
        "hosts": ["a"],
        "ssh_audit": {"a": []},
        "tls": [entry],
        "lynis": {"a": {"index": 80}},
        "secrets_said": [],
        "secrets_lines": 9,
    } | changes


@pytest.mark.parametrize(
    ("changes", "objection"),
    [
        ({"ssh_audit": {"a": ["kex x: broken"]}}, "a: ssh-audit: kex x: broken"),
        ({"tls": [{"host": "a", "port": 1, "begins": "tls", "weak": ["tls_1_0 is spoken"]}]}, "a:1: tls_1_0 is spoken"),
        ({"tls": []}, "no port of the fleet speaks TLS: nothing was audited"),
        ({"lynis": {"a": {"index": 79}}}, "a: lynis's index is 79, and must be 80 at least"),
        ({"secrets_said": ["x.y"]}, "Ansible's output holds the secret x.y"),
    ],
)
def test_each_bad_result_is_an_objection(changes, objection):
    assert objections(verdict()) == []
    assert objections(verdict(**changes)) == [objection]
    assert "\na " in table(verdict(**changes))


def test_the_table_has_each_port_and_each_figure_with_its_limit():
    ports = [
        {"host": "db1", "port": 5432, "begins": "postgres", "weak": []},
        {"host": "db1", "port": 80, "begins": None, "weak": ["a"]},
    ]
    report = {"hosts": ["a", "db1"], "tls": ports, "tls_weak": 1, "seconds": {"tls": 3.2}}
    report |= {"lynis": {"a": {"index": 80}}, "lynis_index": 80}
    assert table(report).splitlines() == [
        "host  ssh-audit fails  lynis index  port  speaks                weak",
        "a                   -           80     -                           -",
        "db1                 -            -  5432  PostgreSQL, then TLS     0",
        "                                      80  no TLS                   1",
        "",
        "auditor  figure           limit        seconds",
        "sslyze   tls_weak      1  0                  3",
        "lynis    lynis_index  80  at least 80        -",
    ]


class Echo(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_port_of_a_host_is_reached_through_its_ssh_session():
    """The program of the host: parallel connections, more bytes than a frame, a port without a listener."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    body = bytes(range(256)) * 1200

    async def answer(port, request=b""):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        response = await reader.read()
        writer.close()
        return response.partition(b"\r\n\r\n")[2] if request else response

    async def everything():
        async with relay([]) as through:
            port, nowhere = await through.port("127.0.0.1", server.server_port), await through.port("127.0.0.1", 1)
            request = b"POST / HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % len(body) + body
            return await asyncio.wait_for(asyncio.gather(*(answer(port, request) for _ in range(5)), answer(nowhere)), 20)

    try:
        *bodies, nothing = asyncio.run(everything())
    finally:
        server.shutdown()
    assert bodies == [body] * 5 and nothing == b""
