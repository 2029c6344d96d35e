"""TLS of clients to PgBouncer, and of PgBouncer to PostgreSQL."""

from __future__ import annotations

import ipaddress
import shlex

import pytest
from pgbouncer_client import PASSFILE, PKI, VERIFIED, shell

testinfra_hosts = ["ansible://pgbouncer"]

OWN_SESSION = "SELECT version, client_dn, client_serial FROM pg_stat_ssl WHERE ssl AND pid = pg_backend_pid()"


def serial_of(host, identity: str) -> int:
    return int(host.check_output(f"openssl x509 -noout -serial -in {identity}/certificate.pem").partition("=")[2], 16)


@pytest.mark.disruptive
@pytest.mark.once
def test_connections_to_postgresql_are_encrypted_and_identify_their_host(host, hostname, login):
    result = login(OWN_SESSION)
    version, name, serial = result.stdout.strip().split("|")
    assert version == "TLSv1.3" and name.endswith(f"/CN={hostname}"), result.stdout
    assert int(serial) == serial_of(host, f"{PKI}/pgbouncer")


@pytest.mark.disruptive
@pytest.mark.once
@pytest.mark.parametrize(
    ("environment", "refusal"),
    [("PGSSLMODE=disable", "no encryption"), ("PGSSLMODE=require PGSSLCERT=/nonexistent", "valid client certificate")],
)
def test_postgresql_itself_refuses_a_password_alone(host, login, inputs, database, environment, refusal):
    """Past PgBouncer, but from its host and account: where there is a firewall, it lets no other account out to PostgreSQL."""
    target = inputs["pgbouncer_databases"][database["name"]]
    where = f"-h {target['host']} -p {target['port']} -U {database['login']} -d {database['name']}"
    passfile = f"{PASSFILE}-postgres"
    host.check_output(f"install -o postgres -g postgres -m 0600 {PASSFILE} {passfile}")

    def ask(environment: str):
        settings = f"PGPASSFILE={passfile} PGCONNECT_TIMEOUT=10 {environment}"
        return host.run(f"runuser -u postgres -- env {settings} psql -XqAtw {where} -c 'SELECT 1'")

    try:
        result = ask(environment)
        assert result.rc and refusal in result.stderr, result.stdout + result.stderr
        # The password is valid: with a certificate PostgreSQL accepts it.
        result = ask(shell(VERIFIED))
        assert result.stdout.strip() == "1", result.stderr
    finally:
        host.check_output(f"rm -f {passfile}")


@pytest.mark.once
@pytest.mark.disruptive
def test_a_renewed_certificate_is_reloaded_and_no_client_notices(host, console, login):
    """Another certificate of the same authority, installed and reloaded as role pki does it."""
    identity, renewed = f"{PKI}/pgbouncer", f"{PKI}/.versions/test"
    before, link = host.service("pgbouncer").systemd_properties["MainPID"], host.check_output(f"readlink {identity}")
    (other, *_) = host.check_output(f"cd {PKI} && ls -d application postgresql 2>/dev/null || true").split()
    host.check_output(f"cp -aL {PKI}/{other} {renewed} && chgrp postgres {renewed} {renewed}/*")

    def shown() -> int:
        return int(login(OWN_SESSION).stdout.strip().rpartition("|")[2])

    def install(target: str) -> None:
        host.check_output(f"ln -sfn {target} {identity} && systemctl reload pgbouncer && sleep 0.5")
        # An open server connection keeps its certificate; new ones have the new one.
        console("RECONNECT")

    original, renewal = serial_of(host, identity), serial_of(host, renewed)
    assert shown() == original != renewal
    try:
        install(renewed)
        assert shown() == renewal
    finally:
        install(link)
        host.check_output(f"rm -rf {renewed}")
    assert shown() == original
    assert host.service("pgbouncer").systemd_properties["MainPID"] == before


@pytest.mark.once
def test_only_root_and_pgbouncer_s_group_read_its_key(host):
    assert host.check_output(f"stat -L -c '%U %G %a' {PKI}/pgbouncer/key.pem") == "root postgres 640"


@pytest.mark.once
@pytest.mark.disruptive
def test_a_postgresql_with_another_name_is_not_trusted(host, database, postgresql_here):
    """PgBouncer refuses a server whose certificate is for another address before it sends a password."""
    twin = "/run/grunnfjell-test-bouncer"
    # Appended to the last section: PgBouncer resets a section that begins a second time to defaults.
    settings = (
        f"listen_addr = 127.0.0.1\nlisten_port = 6599\nclient_tls_sslmode = disable\npidfile = {twin}/pid\n"
        f"logfile = {twin}/log\nunix_socket_dir = {twin}\n"
    )
    host.check_output(f"rm -rf {twin} && install -d -o postgres -g postgres {twin}")
    redirect = f"sed 's/host=[^ ]*/host=127.0.0.1/' /etc/pgbouncer/pgbouncer.ini >{twin}/ini"
    host.check_output(f"runuser -u postgres -- sh -c {shlex.quote(redirect)}")
    host.check_output(f"printf %s {shlex.quote(settings)} >>{twin}/ini")
    host.check_output(f"runuser -u postgres -- /usr/sbin/pgbouncer -q -d {twin}/ini")
    try:
        name = database["name"]
        result = host.run(
            f"PGPASSWORD=wrong PGCONNECT_TIMEOUT=2 psql -XqAtw -h 127.0.0.1 -p 6599 -U {name} -d {name} -c 'SELECT 1'"
        )
        log = host.file(f"{twin}/log").content_string
        assert result.rc and "not present in server certificate" in log, log + result.stderr
    finally:
        host.run(f"kill $(cat {twin}/pid)")
        host.check_output(f"rm -rf {twin}")


@pytest.mark.disruptive
def test_beyond_loopback_pgbouncer_speaks_only_verified_tls(config, login):
    addresses = [ipaddress.ip_address(item.strip()) for item in config["listen_addr"].split(",")]
    if all(address.is_loopback for address in addresses):
        assert config["client_tls_sslmode"] == "disable"
        return
    plain = login("SELECT 1", environment="PGSSLMODE=disable")
    assert plain.rc and "SSL required" in plain.stderr, plain.stdout + plain.stderr
    bare = login("SELECT 1", environment=f"PGSSLMODE=verify-full PGSSLROOTCERT={PKI}/authorities.pem PGSSLCERT=/nonexistent")
    assert bare.rc, bare.stdout
    distrusted = login("SELECT 1", environment="PGSSLMODE=verify-full PGSSLROOTCERT=/etc/ssl/certs/ca-certificates.crt")
    assert distrusted.rc and "certificate verify failed" in distrusted.stderr, distrusted.stdout + distrusted.stderr
