"""PgBouncer's console, its inputs, and logins through it."""

from __future__ import annotations

import csv
import io
import json
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pgbouncer_client import PASSFILE, VERIFIED, shell
from superuser import PSQL


@pytest.fixture(scope="module")
def console(host) -> Callable[[str], list[dict[str, str]]]:
    """Rows of the administrator's console, as the system user that needs no password."""

    def setting(key: str) -> str:
        return host.check_output(f"sed -n 's/^{key} = //p' /etc/pgbouncer/pgbouncer.ini")

    def run(command: str) -> list[dict[str, str]]:
        psql = f"psql -Xq --csv -h {setting('unix_socket_dir')} -p {setting('listen_port')} -U pgbouncer -d pgbouncer"
        result = host.run(f"runuser -u postgres -- {psql} -c {shlex.quote(command)}")
        assert result.rc == 0, result.stderr + host.run("journalctl --no-pager -n 20 -u pgbouncer").stdout
        return list(csv.DictReader(io.StringIO(result.stdout)))

    return run


@pytest.fixture(scope="module")
def config(console) -> dict[str, str]:
    return {row["key"]: row["value"] for row in console("SHOW CONFIG")}


@pytest.fixture(scope="module")
def address(config) -> str:
    return config["listen_addr"].split(",")[0].strip()


@pytest.fixture(scope="session")
def evaluated() -> dict[str, Any]:
    return {}


@pytest.fixture(scope="module")
def evaluate(host, evaluated) -> Callable[[str], Any]:
    """A Jinja expression over the fleet's variables, as Ansible sees them. Cached, because it is the same on every host."""

    def run(expression: str) -> Any:
        if expression not in evaluated:
            message = host.ansible("debug", f"msg={{{{ {expression} }}}}", check=False)["msg"]
            evaluated[expression] = json.loads(json.dumps(message))
        return evaluated[expression]

    return run


@pytest.fixture(scope="module")
def databases(evaluate) -> list[dict]:
    """All databases that PostgreSQL serves."""
    return evaluate("hostvars[groups['postgresql'][0]]['postgresql_databases']")


@pytest.fixture(scope="module")
def database(evaluate, databases, inputs) -> dict:
    """A database that this bouncer serves under the same name, with the login that its owner uses at present."""
    served = next(entry for entry in databases if entry["name"] in inputs["pgbouncer_databases"])
    roles = evaluate("hostvars[groups['postgresql'][0]]['postgresql_roles']")
    logins = [
        role["name"] for role in roles if served["owner"] in (role["name"], role.get("acts_as")) and role.get("login", True)
    ]
    return {**served, "login": logins[0]}


@pytest.fixture(scope="module")
def postgresql_here(host, inputs, database) -> Callable[[str], str]:
    """SQL as the superuser, where PostgreSQL runs on this host."""
    if not host.run(f"ip -o addr show to {inputs['pgbouncer_databases'][database['name']]['host']}").stdout:
        pytest.skip("PostgreSQL is on another host")
    return lambda sql: host.check_output(f"{PSQL} -d postgres -c {shlex.quote(sql)}")


@pytest.fixture(scope="module")
def tls(config) -> str:
    """The TLS settings of a client, as environment variables for a shell."""
    return shell({"PGSSLMODE": "disable"} if config["client_tls_sslmode"] == "disable" else VERIFIED)


@pytest.fixture(scope="module")
def login(host, config, address, database, tls) -> Iterator[Callable]:
    """psql through PgBouncer, as the application logs in. The password goes from the inventory into a file."""
    password = f"hostvars[groups['postgresql'][0]]['postgresql_role_passwords']['{database['login']}']"
    host.ansible("copy", f"dest={PASSFILE} mode=0600 content='*:*:*:*:{{{{ {password} }}}}\n'", check=False)

    def run(
        sql: str, user: str = database["login"], name: str = database["name"], passfile: str = PASSFILE, environment: str = ""
    ):
        where = f"-h {address} -p {config['listen_port']} -U {user} -d {name}"
        return host.run(
            f"PGPASSFILE={passfile} PGCONNECT_TIMEOUT=10 {environment or tls} psql -XqAtw {where} -c {shlex.quote(sql)}"
        )

    yield run
    host.check_output(f"rm -f {PASSFILE} {PASSFILE}-wrong")


@pytest.fixture
def scripts(host) -> Iterator[str]:
    """The directory of the tests' programs on the host."""
    home = host.check_output("mktemp -d")
    for name in ("postgresql_wire.py", "crowd.py", "impostor.py"):
        source = Path(__file__).with_name(name).read_text(encoding="utf-8")
        host.check_output(f"printf %s {shlex.quote(source)} > {home}/{name}")
    yield home
    host.check_output(f"rm -r {home}")
