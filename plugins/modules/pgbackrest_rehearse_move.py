#!/usr/bin/python3
"""Moves a restored copy of a live PostgreSQL server to another major version, and removes it again."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_rehearse_move
short_description: Rehearse the move of a PostgreSQL server to another major version
description:
  - Refuses what cannot be moved. Then restores the last backup and all WAL up to now into a temporary directory of the database
    host, moves that copy with C(pg_upgradecluster) as M(postgresql_move) does it, and removes everything again. The live server
    is not changed. An empty cluster of the new version, which Debian makes, is dropped.
options:
  stanza: {description: Name of the stanza., type: str, required: true}
  port: {description: Port of PostgreSQL's socket., type: int, required: true}
  old: {description: Major version of the data., type: str, required: true}
  new: {description: Major version to which it is moved., type: str, required: true}
  path: {description: Temporary directory., type: path, required: true}
  sockets: {description: Directory for the temporary server's socket., type: path, required: true}
  timeout: {description: Seconds that the restore and then the replay of WAL may take., type: int, default: 14400}
author: maintainers
attributes:
  check_mode: {support: full, description: Refuses what cannot work.}
"""

EXAMPLES = r"""
- name: Rehearse the move to Debian 13
  pgbackrest_rehearse_move:
    stanza: main
    port: 5432
    old: "15"
    new: "17"
    path: /var/lib/postgresql/grunnfjell/rehearsal
    sockets: /run/grunnfjell-pgbackrest/rehearsal
"""

RETURN = r"""
rehearsal:
  description: >-
    backup (label), bytes (of the databases), restore_s, move_s (how long the copy was without service), reindexed (indexes).
    Empty if the server was moved before.
  returned: success
  type: dict
"""

import contextlib
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import database_move as move
from ..module_utils import pgbackrest, psql
from ..module_utils.restore_moment import LATEST, unreachable_moments
from ..module_utils.row_counts import Server
from ..module_utils.scratch_server import ScratchError, ScratchServer
from ..module_utils.wal_archive import archive_now
from ..module_utils.whole_files import usual_umask

# Debian's name for the cluster of the copy, in both versions.
CLUSTER = "rehearsal"
# Debian's tools move it into /etc/postgresql, and pg_upgradecluster takes it over: nobody but the superuser reaches the copies.
CONFIGURATION = {
    "postgresql.conf": "listen_addresses = ''\nunix_socket_directories = '/var/run/postgresql'\n",
    "pg_hba.conf": "local all postgres peer\n",
    "pg_ident.conf": "",
}


def forget(versions: move.Versions) -> None:
    """Drops the copy's clusters, also those that a killed run left."""
    for version in (versions.new, versions.old):
        if (move.ETC / version / CLUSTER).exists():
            move.run("pg_dropcluster", "--stop", version, CLUSTER)
    for reports in Path("/var/log/postgresql").glob(f"pg_upgradecluster-*-{CLUSTER}.*"):
        shutil.rmtree(reports)


def restored(params: dict[str, Any], label: str, scratch: ScratchServer) -> None:
    """The copy up to the last archived commit, stopped in order."""
    # Asynchronous archiving has one lock and one spool per stanza, which the live server uses.
    fetch = f'pgbackrest --stanza={params["stanza"]} --pg1-path={scratch.data} --no-archive-async archive-get %f "%p"'
    pgbackrest.run(
        f"--stanza={params['stanza']}",
        f"--pg1-path={scratch.data}",
        f"--set={label}",
        "--archive-mode=off",
        f"--recovery-option=restore_command={fetch}",
        "restore",
        timeout=params["timeout"],
    )
    scratch.start(params["timeout"])
    scratch.stop(params["timeout"])


def moved(versions: move.Versions, scratch: ScratchServer) -> int:
    """Moves the copy as the live cluster will be; returns how many indexes were built again."""
    upgraded = scratch.home / "upgraded"
    for name, text in CONFIGURATION.items():
        path = scratch.data / name
        path.write_text(text, encoding="utf-8")
        shutil.chown(path, pgbackrest.ACCOUNT, pgbackrest.ACCOUNT)
    # The restored directory becomes a cluster of Debian's tools, which starts only by hand.
    move.run("pg_createcluster", "--start-conf=manual", "--datadir", str(scratch.data), versions.old, CLUSTER)
    move.upgrade(versions, CLUSTER, str(upgraded))
    return move.reindex(Server(move.port_of(upgraded), int(versions.new)))


def rehearse(params: dict[str, Any], versions: move.Versions, state: dict[str, Any], label: str) -> dict[str, Any]:
    home = Path(params["path"])
    forget(versions)
    with ScratchServer(home, Path(params["sockets"]), int(versions.old)) as scratch, contextlib.ExitStack() as clusters:
        clusters.callback(forget, versions)
        restore_s, _ = move.timed(lambda: restored(params, label, scratch))
        move_s, reindexed = move.timed(lambda: moved(versions, scratch))
    with contextlib.suppress(OSError):  # something else may be in it
        home.parent.rmdir()
    return {"backup": label, "bytes": state["bytes"], "restore_s": restore_s, "move_s": move_s, "reindexed": reindexed}


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "stanza": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "old": {"type": "str", "required": True},
            "new": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "sockets": {"type": "path", "required": True},
            "timeout": {"type": "int", "default": 14400},
        },
        supports_check_mode=True,
    )
    params = module.params
    versions = move.Versions(params["old"], params["new"])
    at = move.stage(versions)
    if at == "moved":
        module.exit_json(changed=False, rehearsal={})
    if sentences := list(move.misplaced(at, "old", versions)):
        module.fail_json(msg="The live database was not changed. " + " ".join(sentences))
    try:
        server = Server(params["port"], int(versions.old))
        state = move.live(server)
        backups = pgbackrest.complete(pgbackrest.info(params["stanza"]).get("backup") or [])
        free = shutil.disk_usage(move.DATA).free
        sentences = [*unreachable_moments(LATEST, backups, datetime.now(UTC)), *move.refusals(state, versions, free)]
        if sentences:
            module.fail_json(msg="The live database was not changed. " + " ".join(sentences))
        if module.check_mode:
            module.exit_json(changed=True)
        move.drop_unused(versions)
        # Proves that archiving works, and that the way back to now exists before anything moves.
        archive_now(server)
        module.exit_json(changed=True, rehearsal=rehearse(params, versions, state, backups[-1]["label"]))
    except (psql.PsqlError, pgbackrest.PgbackrestError, ScratchError, move.MoveError) as error:
        module.fail_json(msg=f"The rehearsal failed: {error}. The live database was not changed.")


if __name__ == "__main__":
    main()
