"""What each service holds for the applications of a fleet: one virtual host, database and owner each, and the logins to them.

An application has one login to each service, and two while its password changes (plugins/plugin_utils/trust/rotation.py).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from . import rotation

# An application declares, feeds and reads what it likes in its own virtual host, except that the dead letters
# are the operator's: it can neither redeclare nor delete them.
NOT_DEAD_LETTERS = "^(?!dead_letters$).*$"


def logins(name: str, passwords: Mapping[str, Any] | None) -> list[str]:
    """The logins of the name; without a word about it the name alone."""
    return list(rotation.accepted((passwords or {}).get(name, ""), name))


def application_vhosts(applications: list[str]) -> list[dict[str, str]]:
    """rabbitmq_vhosts for the applications."""
    return [{"name": name} for name in applications]


def application_broker_users(applications: list[str], passwords: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """rabbitmq_users for the applications: each in its own virtual host alone.  passwords: the vault's."""
    return [
        {
            "name": login,
            "tags": [],
            "permissions": [{"vhost": name, "configure": NOT_DEAD_LETTERS, "write": NOT_DEAD_LETTERS, "read": NOT_DEAD_LETTERS}],
        }
        for name in applications
        for login in logins(name, passwords)
    ]


def application_databases(applications: list[str]) -> list[dict[str, str]]:
    """postgresql_databases for the applications: each owned by the role of its name."""
    return [{"name": name, "owner": name} for name in applications]


def application_database_roles(
    applications: list[str], passwords: Mapping[str, Any] | None = None, auth_query_role: str = ""
) -> list[dict[str, Any]]:
    """postgresql_roles for the applications, and for the second login of PgBouncer's own role.

    The role of the application's name owns everything, whether it may log in or not; the second login acts as it.
    """
    roles: list[dict[str, Any]] = []
    for name in [*applications, *([auth_query_role] if auth_query_role else [])]:
        accepted = logins(name, passwords)
        if name not in accepted:
            roles.append({"name": name, "login": False})
        elif name != auth_query_role:  # which role postgresql makes by itself
            roles.append({"name": name})
        roles += [{"name": login, "acts_as": name} for login in accepted if login != name]
    return roles


def application_pools(databases: list[str], server: str, port: int = 5432) -> dict[str, dict[str, Any]]:
    """pgbouncer_databases for the applications that a PgBouncer serves: these and no other."""
    return {name: {"host": server, "port": port} for name in databases}


def database_sslmode(host: str) -> str:
    """How libpq goes to a database: on this host nobody is between; anywhere else it must be the one whose name is dialled."""
    try:
        near = ipaddress.ip_address(host).is_loopback
    except ValueError:
        near = host in ("", "localhost") or host.startswith("/")
    return "disable" if near else "verify-full"


def application_problems(host: str, sslmode: str) -> list[str]:
    """What is wrong with the way of an application's programs to their database."""
    if sslmode != "verify-full" and database_sslmode(host) != "disable":
        return [
            f"application_database_host is {host}, and application_database_sslmode is {sslmode}: the programs would give their "
            f"queries to whoever answers there. Leave application_database_sslmode out."
        ]
    return []


def login_secrets(entries: Mapping[str, Any]) -> dict[str, str]:
    """Login to password, of every login that the service accepts now."""
    return {login: secret for name, entry in entries.items() for login, secret in rotation.accepted(entry, name).items()}
