"""Commands of pgBackRest and SQL on a host, and the status of its backups."""

from __future__ import annotations

import json
import shlex
from typing import Any

from authority import REPOSITORY
from deadline import until
from playbook_runner import play
from superuser import PSQL
from testinfra.host import Host


def sql(host: Host, statement: str) -> str:
    return host.check_output(f"{PSQL} -c {shlex.quote(statement)}")


def pgbackrest(host: Host, arguments: str) -> Any:
    """The result of a command as pgBackRest's account."""
    return host.run(f"runuser -u postgres -- pgbackrest --stanza=main {arguments}")


def held(repository: Host) -> dict[str, Any]:
    """What the repository holds, as `pgbackrest info` reports."""
    return json.loads(repository.check_output("runuser -u postgres -- pgbackrest --stanza=main --output=json info"))[0]


def backups(repository: Host) -> list[dict[str, Any]]:
    return [backup for backup in held(repository)["backup"] if not backup["error"]]


def archived(database: Host) -> str:
    """The newest segment in the repository."""
    return sql(database, "SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver")


def wait_archived(database: Host, seconds: float = 60) -> str:
    """Close the segment of what was written until now, and wait until the repository has it."""
    # An empty segment would not be closed.
    segment = sql(database, "SELECT pg_walfile_name(pg_logical_emit_message(true, 'grunnfjell', 'a commit'))")
    sql(database, "SELECT pg_switch_wal()")
    return until(f"{segment} archived", lambda: (newest := archived(database)) >= segment and newest, seconds)


def backup_status(inventory: str, pattern: str) -> dict[str, Any]:
    """The report of `make status` for these hosts. Without a producer in the scenario the playbook ends with a failure."""
    run = play(inventory, "playbooks/status.yml", "--limit", pattern)
    assert "the inventory has no producer" in run.text, run.output
    return json.loads((REPOSITORY / "build/status.json").read_text(encoding="utf-8"))
