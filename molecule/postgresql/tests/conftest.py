"""SQL as the superuser, and as a role logs in over the network."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator

import pytest
from postgresql_client import CERTIFICATE
from superuser import PSQL


@pytest.fixture(scope="module")
def ask(host) -> Callable[..., list[str]]:
    """SQL as the superuser; returns the lines of the result, and fails with PostgreSQL's message."""

    def run(sql: str, database: str = "postgres", expect_error: bool = False) -> list[str]:
        result = host.run(f"{PSQL} -d {database} -c {shlex.quote(sql)}")
        if expect_error:
            assert result.rc, f"this should have been refused: {sql}\n{result.stdout}"
            return result.stderr.splitlines()
        assert result.rc == 0, f"{sql}\n{result.stderr}"
        return result.stdout.splitlines()

    return run


@pytest.fixture(scope="module")
def cluster(ask) -> tuple[str, str]:
    """Version and name."""
    (version,) = ask("SELECT current_setting('server_version_num')::int / 10000")
    return version, "main"


@pytest.fixture(scope="module")
def log_in(host, inputs) -> Iterator[Callable]:
    """psql over the network, as a role logs in. The password goes from the inventory into a file."""
    passfiles: set[str] = set()

    def run(role: str, database: str, sql: str, address: str = "127.0.0.1", tls: str = f"sslmode=require {CERTIFICATE}"):
        passfile = f"/run/grunnfjell-test-pgpass-{role}"
        if passfile not in passfiles:
            content = f"*:*:*:*:{{{{ postgresql_role_passwords['{role}'] }}}}\n"
            host.ansible("copy", f"dest={passfile} mode=0600 content='{content}'", check=False)
            passfiles.add(passfile)
        where = f"host={address} port={inputs['postgresql_port']} user={role} dbname={database} {tls}"
        psql = f"psql -XqAtw -v ON_ERROR_STOP=1 {shlex.quote(where)} -f -"
        return host.run(f"printf %s {shlex.quote(sql)} | PGPASSFILE={passfile} PGCONNECT_TIMEOUT=10 {psql}")

    yield run
    host.run(f"rm -f {' '.join(passfiles)}")
