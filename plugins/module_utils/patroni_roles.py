"""The roles of replication and pg_rewind, and what has to be known of a server of a Patroni cluster."""

from __future__ import annotations

import json
from typing import Any

from . import psql

STATE = """
SELECT json_build_object('roles',
  (SELECT coalesce(json_agg(rolname), '[]') FROM pg_roles WHERE rolname IN ('replicator', 'rewind')),
  'pending', (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_settings WHERE pending_restart))
"""
# pg_rewind needs no superuser: these four functions, as its manual says.
CREATE = {
    "replicator": "CREATE ROLE replicator LOGIN REPLICATION;",
    "rewind": "CREATE ROLE rewind LOGIN; GRANT EXECUTE ON FUNCTION pg_catalog.pg_ls_dir(text, boolean, boolean), "
    "pg_catalog.pg_stat_file(text, boolean), pg_catalog.pg_read_binary_file(text), "
    "pg_catalog.pg_read_binary_file(text, bigint, bigint, boolean) TO rewind;",
}


def state(port: int) -> dict[str, Any] | None:
    """Which of the roles the server has, and settings that wait for a restart; None if it does not answer."""
    try:
        return json.loads(psql.superuser(STATE, port))
    except psql.PsqlError:
        return None


def missing(found: dict[str, Any]) -> list[str]:
    return [name for name in CREATE if name not in found["roles"]]
