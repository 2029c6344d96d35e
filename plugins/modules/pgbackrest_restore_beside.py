#!/usr/bin/python3
"""Loads one database of a backup, or one table of it, into the live server under another name."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_restore_beside
short_description: Restore one database or table beside the live one
description:
  - Restores a backup into a temporary directory of the database host, replays WAL up to the moment, and copies the database from
    there into the live server as a new one, with C(pg_dump) and C(pg_restore). No existing database is read or changed.
  - Of a table it copies its rows only, without indexes, constraints and triggers, into a database that holds nothing else.
  - Code of the application runs with the rights of the database's owner. The temporary server and a copy that failed are removed.
options:
  stanza: {description: Name of the stanza., type: str, required: true}
  port: {description: Port of PostgreSQL's socket., type: int, required: true}
  to: {description: 'C(latest), or a moment in ISO 8601 with its offset from UTC.', type: str, required: true}
  database: {description: Database in the backup., type: str, required: true}
  table: {description: 'Table of it with its schema, as C(public.articles); empty for all.', type: str, default: ""}
  name: {description: Name of the new database., type: str, required: true}
  path: {description: Temporary directory., type: path, required: true}
  sockets: {description: Directory for the temporary server's socket., type: path, required: true}
  timeout: {description: Seconds that the restore and then the copy may take., type: int, default: 14400}
author: maintainers
attributes:
  check_mode: {support: full, description: Refuses what cannot work.}
"""

EXAMPLES = r"""
- name: Look at rows from before a wrong DELETE
  pgbackrest_restore_beside:
    stanza: main
    port: 5432
    to: "2026-11-29 10:00:00+01:00"
    database: newsroom
    table: public.articles
    name: newsroom_before
    path: /var/lib/postgresql/grunnfjell-beside
    sockets: /run/grunnfjell-pgbackrest/beside
"""

RETURN = r"""
restored:
  description: to, database, table, name, backup (label), bytes (of the new database), seconds.
  returned: success
  type: dict
"""

import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import pgbackrest, psql
from ..module_utils.database_copy import CopyError, DatabaseCopy, live_state, refusals
from ..module_utils.restore_moment import backup_for, options, unreachable_moments
from ..module_utils.row_counts import Server
from ..module_utils.scratch_server import ScratchError, ScratchServer
from ..module_utils.wal_archive import archive_now
from ..module_utils.whole_files import usual_umask


def databases_of(stanza: str, label: str) -> list[str]:
    """The databases that a backup holds."""
    held = pgbackrest.info(stanza, 60, f"--set={label}").get("backup") or [{}]
    return [database["name"] for database in held[0].get("database-ref") or []]


def restore(params: dict[str, Any], label: str, scratch: ScratchServer) -> None:
    # Asynchronous archiving has one lock and one spool per stanza, which the live server uses.
    fetch = f'pgbackrest --stanza={params["stanza"]} --pg1-path={scratch.data} --no-archive-async archive-get %f "%p"'
    pgbackrest.run(
        f"--stanza={params['stanza']}",
        f"--pg1-path={scratch.data}",
        f"--set={label}",
        f"--db-include={params['database']}",
        "--archive-mode=off",
        f"--tablespace-map-all={scratch.home}/tablespaces",
        f"--recovery-option=restore_command={fetch}",
        *options(params["to"]),
        "restore",
        timeout=params["timeout"],
    )
    scratch.start(params["timeout"])


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "stanza": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "to": {"type": "str", "required": True},
            "database": {"type": "str", "required": True},
            "table": {"type": "str", "default": ""},
            "name": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "sockets": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 14400},
        },
        supports_check_mode=True,
    )
    params, began = module.params, time.monotonic()
    changed = False
    try:
        state = live_state(Server(params["port"], 0))
        backups = pgbackrest.complete(pgbackrest.info(params["stanza"]).get("backup") or [])
        sentences = list(unreachable_moments(params["to"], backups, datetime.now(UTC)))
        if not sentences:
            backup = backup_for(params["to"], backups)
            held = databases_of(params["stanza"], backup["label"])
            free = shutil.disk_usage(Path(params["path"]).parent).free
            sentences = list(refusals(params, state, held, backup, free))
        if sentences:
            module.fail_json(msg="Nothing was changed. " + " ".join(sentences))
        if module.check_mode:
            module.exit_json(changed=True)
        live = Server(params["port"], state["major"])
        # The moment is found by the first commit after it, and is the last state only if the repository has it.
        archive_now(live, params["timeout"])
        with ScratchServer(Path(params["path"]), Path(params["sockets"]), state["major"]) as scratch:
            restore(params, backup["label"], scratch)
            copy = DatabaseCopy(params, scratch.server, live)
            copy.refuse()
            changed = True
            size = copy.run()
        restored = {key: params[key] for key in ("to", "database", "table", "name")}
        restored |= {"backup": backup["label"], "bytes": size, "seconds": round(time.monotonic() - began, 1)}
        module.exit_json(changed=True, restored=restored)
    except (psql.PsqlError, pgbackrest.PgbackrestError, ScratchError, CopyError) as error:
        rest = f"No database {params['name']} was left." if changed else "Nothing was changed."
        module.fail_json(msg=f"The restore beside the live database failed: {error}. {rest}")


if __name__ == "__main__":
    main()
