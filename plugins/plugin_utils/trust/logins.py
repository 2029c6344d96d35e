"""The virtual host, database and logins of each application of a fleet.

An application has one login to each service, and two while its password changes (plugins/plugin_utils/trust/rotation.py).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from . import rotation

# An application has all rights in its virtual host except for the dead letters, which it can neither redeclare nor delete.
NOT_DEAD_LETTERS = "^(?!dead_letters$).*$"


def logins(name: str, passwords: Mapping[str, Any] | None) -> list[str]:
    """The name's logins; without an entry only the name."""
    return list(rotation.accepted((passwords or {}).get(name, ""), name))


def application_vhosts(applications: list[str]) -> list[dict[str, str]]:
    """rabbitmq_vhosts for the applications."""
    return [{"name": name} for name in applications]


def application_broker_users(applications: list[str], passwords: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """rabbitmq_users for the applications, each with access to its virtual host only.  passwords: the vault's."""
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
    """postgresql_databases for the applications, each owned by the role of the same name."""
    return [{"name": name, "owner": name} for name in applications]


def application_database_roles(
    applications: list[str], passwords: Mapping[str, Any] | None = None, auth_query_role: str = ""
) -> list[dict[str, Any]]:
    """postgresql_roles for the applications, and for the second login of PgBouncer's role.

    The role of the application's name owns everything, whether it may log in or not; the second login acts as it.
    """
    roles: list[dict[str, Any]] = []
    for name in [*applications, *([auth_query_role] if auth_query_role else [])]:
        accepted = logins(name, passwords)
        if name not in accepted:
            roles.append({"name": name, "login": False})
        elif name != auth_query_role:  # which role postgresql creates itself
            roles.append({"name": name})
        roles += [{"name": login, "acts_as": name} for login in accepted if login != name]
    return roles


def application_pools(databases: list[str], server: str, port: int = 5432) -> dict[str, dict[str, Any]]:
    """pgbouncer_databases for the applications that a PgBouncer serves."""
    return {name: {"host": server, "port": port} for name in databases}


def database_sslmode(host: str) -> str:
    """libpq's sslmode for a database: none is needed on this host, elsewhere the server's name is verified."""
    try:
        local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = host in ("", "localhost") or host.startswith("/")
    return "disable" if local else "verify-full"


def application_problems(host: str, sslmode: str) -> list[str]:
    """Faults of the connection from an application's programs to their database."""
    if sslmode != "verify-full" and database_sslmode(host) != "disable":
        return [
            f"application_database_host is {host}, but application_database_sslmode is {sslmode}: the programs would send their "
            f"queries to any server that answers there. Leave application_database_sslmode out."
        ]
    return []


def login_secrets(entries: Mapping[str, Any]) -> dict[str, str]:
    """Login to password, of every login that the service accepts now."""
    return {login: secret for name, entry in entries.items() for login, secret in rotation.accepted(entry, name).items()}
