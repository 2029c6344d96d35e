"""TLS of PostgreSQL's clients."""

from __future__ import annotations

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import bracketed
from postgresql_client import CERTIFICATE, PKI

testinfra_hosts = ["ansible://postgresql"]

VERIFIED = f"sslmode=verify-full sslrootcert={PKI}/authorities.pem"


@pytest.fixture(scope="module")
def connect(inputs, log_in):
    """The TLS state of a session, with an application's login over the network."""
    (address,) = [address for address in inputs["postgresql_listen_addresses"] if address not in ("localhost", "127.0.0.1")]
    if address not in inputs["postgresql_client_addresses"]:
        pytest.skip("this host is no client of its PostgreSQL; the tests of pgbouncer connect from clients")
    database = inputs["postgresql_databases"][0]
    session = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
    return lambda tls, address=address: log_in(database["owner"], database["name"], session, address, tls)


@pytest.mark.disruptive
def test_an_application_logs_in_with_certificate_and_password(connect):
    result = connect(f"{VERIFIED} {CERTIFICATE}")
    assert result.stdout.strip() == "t|TLSv1.3", result.stderr


@pytest.mark.disruptive
def test_a_password_without_a_certificate_is_refused(connect):
    result = connect(f"{VERIFIED} sslcert=/nonexistent")
    assert result.rc and "valid client certificate" in result.stderr, result.stdout + result.stderr


@pytest.mark.disruptive
def test_plain_text_is_refused(connect):
    result = connect("sslmode=disable")
    assert result.rc and "no encryption" in result.stderr, result.stdout + result.stderr


@pytest.mark.disruptive
@pytest.mark.once
def test_a_certificate_of_another_authority_is_refused(host, connect):
    pair = "/run/grunnfjell-test-unknown"
    host.check_output(
        f"openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=news "
        f"-keyout {pair}.key -out {pair}.pem 2>/dev/null && chmod 0600 {pair}.key"
    )
    try:
        result = connect(f"{VERIFIED} sslcert={pair}.pem sslkey={pair}.key")
        assert result.rc and ("unknown ca" in result.stderr or "certificate" in result.stderr), result.stdout + result.stderr
    finally:
        host.check_output(f"rm -f {pair}.key {pair}.pem")


@pytest.mark.disruptive
@pytest.mark.once
def test_a_client_does_not_trust_the_server_under_another_name(connect):
    result = connect(f"{VERIFIED} {CERTIFICATE}", address="127.0.0.1")
    assert result.rc and "server certificate" in result.stderr, result.stdout + result.stderr


@pytest.mark.once
def test_old_tls_versions_and_weak_ciphers_are_refused(host, inputs):
    address = inputs["postgresql_listen_addresses"][-1]
    for offer in ("-tls1_1 -cipher ALL:@SECLEVEL=0", "-tls1_2 -cipher AES128-SHA:AES256-GCM-SHA384"):
        result = host.run(f"openssl s_client -starttls postgres -connect {bracketed(address)}:5432 {offer} </dev/null")
        assert "Cipher is (NONE)" in result.stdout, result.stdout


@pytest.mark.once
@pytest.mark.disruptive
def test_a_renewed_certificate_is_reloaded_and_no_session_ends(host, ask, cluster, inputs):
    """Installed and reloaded as role pki does it; the server process and its sessions stay."""
    version, name = cluster
    identity, renewed = f"{PKI}/postgresql", f"{PKI}/.versions/test"
    address = inputs["postgresql_listen_addresses"][-1]

    def served() -> str:
        handshake = f"openssl s_client -starttls postgres -connect {bracketed(address)}:5432 </dev/null 2>/dev/null"
        return host.check_output(f"{handshake} | openssl x509 -noout -serial")

    started = ask("SELECT pg_postmaster_start_time()")
    before, link = served(), host.check_output(f"readlink {identity}")
    host.check_output(
        f"cp -aL {identity} {renewed} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 "
        f"-subj /CN=renewed -keyout {renewed}/key.pem -out {renewed}/certificate.pem 2>/dev/null"
    )
    host.check_output(f"chgrp postgres {renewed}/* && chmod 0640 {renewed}/*")
    reload = f"systemctl reload postgresql@{version}-{name} && sleep 1"
    try:
        host.check_output(f"ln -sfn {renewed} {identity} && {reload}")
        assert served() == host.check_output(f"openssl x509 -noout -serial -in {renewed}/certificate.pem") != before
    finally:
        host.check_output(f"ln -sfn {link} {identity} && {reload} && rm -rf {renewed}")
    assert served() == before and ask("SELECT pg_postmaster_start_time()") == started
