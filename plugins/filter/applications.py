"""What each service holds for the applications of a fleet: one virtual host, user, database and owner each."""

from __future__ import annotations

from typing import Any

# An application declares, feeds and reads what it likes in its own virtual host, except that the dead letters
# are the operator's: it can neither redeclare nor delete them.
NOT_DEAD_LETTERS = "^(?!dead_letters$).*$"


def application_vhosts(applications: list[str]) -> list[dict[str, str]]:
    """rabbitmq_vhosts for the applications."""
    return [{"name": name} for name in applications]


def application_broker_users(applications: list[str]) -> list[dict[str, Any]]:
    """rabbitmq_users for the applications: each in its own virtual host alone."""
    return [
        {
            "name": name,
            "tags": [],
            "permissions": [{"vhost": name, "configure": NOT_DEAD_LETTERS, "write": NOT_DEAD_LETTERS, "read": NOT_DEAD_LETTERS}],
        }
        for name in applications
    ]


def application_databases(applications: list[str]) -> list[dict[str, str]]:
    """postgresql_databases for the applications: each owned by the role of its name."""
    return [{"name": name, "owner": name} for name in applications]


def application_database_roles(applications: list[str]) -> list[dict[str, str]]:
    """postgresql_roles for the applications."""
    return [{"name": name} for name in applications]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "application_vhosts": application_vhosts,
            "application_broker_users": application_broker_users,
            "application_databases": application_databases,
            "application_database_roles": application_database_roles,
        }
