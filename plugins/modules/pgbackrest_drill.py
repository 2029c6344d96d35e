#!/usr/bin/python3
"""Restores a database into a temporary directory, and compares it with the live one."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_drill
short_description: Restore a database beside its repository, and prove what was restored
description:
  - Restores the last backup and all WAL that the repository had at the supposed loss, then again up to the mark of
    M(pgbackrest_mark). Each time PostgreSQL starts on a private socket, without a network and without archiving, and
    counts the rows of every table.
  - Measures how much the loss would have cost (RPO) and how long the restore took (RTO), and writes a dated record on this host.
    Leaves nothing else behind, whatever happens.
options:
  stanza: {description: Name of the stanza., type: str, required: true}
  mark: {description: The result of M(pgbackrest_mark) on the primary., type: dict, required: true}
  path: {description: Directory for the restored database., type: path, required: true}
  sockets: {description: Directory for its socket., type: path, required: true}
  records: {description: Directory for the records., type: path, required: true}
  config: {description: pgBackRest's configuration for a restore on this host., type: path, default: /etc/pgbackrest/drill.conf}
  timeout: {description: Seconds that a restore may take., type: int, default: 14400}
author: maintainers
"""

EXAMPLES = r"""
- name: Restore the database
  pgbackrest_drill:
    stanza: main
    mark: "{{ hostvars['db1']['__pgbackrest_mark'] }}"
    path: /var/lib/pgbackrest/grunnfjell-drill
    sockets: /run/grunnfjell-pgbackrest/drill
    records: /var/lib/grunnfjell/pgbackrest
"""

RETURN = r"""
record:
  description: >-
    proved, problems, at (UTC), rpo_s, and for C(latest) and C(point) rto_s, restore_s, bytes (of the database), rows and tables
    that were compared, uncounted (tables that are too large to count).
  returned: success
  type: dict
"""

import fcntl
import json
import os
import shutil
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import pgbackrest, psql
from ..module_utils.row_counts import Counts, counts, differences, from_rows
from ..module_utils.scratch_server import ScratchError, ScratchServer
from ..module_utils.whole_files import ManagedFile, usual_umask, write_atomically

# Weekly drills of two years.
KEPT = 104

RESTORED_SQL = """
SELECT json_build_object(
  'last_commit', extract(epoch FROM pg_last_xact_replay_timestamp()),
  'next_xid', pg_snapshot_xmax(pg_current_snapshot())::text,
  'reached', pg_last_wal_replay_lsn() >= 'LSN'::pg_lsn,
  'stopped', pg_last_wal_replay_lsn() = 'LSN'::pg_lsn);
"""


def lsn(text: str) -> int:
    """
    >>> lsn("1/A0") - lsn("0/A0") == 2**32
    True
    """
    high, low = text.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def backup_before(backups: list[dict[str, Any]], mark_lsn: str) -> dict[str, Any] | None:
    """The last complete backup that ended before the mark; the mark cannot be restored from a later one."""
    usable = [backup for backup in pgbackrest.complete(backups) if lsn(backup["lsn"]["stop"]) <= lsn(mark_lsn)]
    return usable[-1] if usable else None


def restore_command(config: str, stanza: str, newest: str) -> str:
    """Fetches WAL up to the segment that the repository had at the loss: the live database goes on archiving meanwhile.

    Without a backslash or an apostrophe: PostgreSQL reads it from a quoted setting.
    """
    fetch = f'pgbackrest --config={config} --stanza={stanza} archive-get %f "%p"'
    return f'[ "%f" ">" "{newest}" ] && exit 1; exec {fetch}'


def lost_seconds(mark: dict[str, Any], restored: dict[str, Any]) -> float:
    """Seconds of commits that the loss would have cost: 0 if the live database began no transaction after the last restored one.

    The mark is in the WAL, so every commit before it is restored, also where nothing was committed for hours.
    """
    if int(restored["next_xid"]) >= int(mark["next_xid"]):
        return 0.0
    covered = max(mark["marked_at"], restored["last_commit"] or 0.0)
    return round(max(0.0, mark["lost_at"] - covered), 1)


class Drill:
    def __init__(self, params: dict[str, Any]) -> None:
        self.stanza, self.mark, self.config = params["stanza"], params["mark"], params["config"]
        self.home, self.sockets, self.seconds = Path(params["path"]), Path(params["sockets"]), params["timeout"]
        self.backup: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        if not self.mark:
            raise ScratchError("no database took a mark: none of them answered as the primary. Look at `make status`")
        held = pgbackrest.info(self.stanza).get("backup") or []
        backup = backup_before(held, self.mark["lsn"])
        if backup is None:
            raise ScratchError("the repository holds no backup yet. Run `systemctl start grunnfjell-backup@full` on this host")
        self.backup = backup
        size = backup["info"]["size"]
        ScratchServer(self.home, self.sockets, self.mark["major"]).remove()
        free = shutil.disk_usage(self.home.parent).free
        if free < size:
            raise ScratchError(
                f"the database has {size / 2**30:.1f} GiB, but {self.home.parent} has {free / 2**30:.1f} GiB free. "
                f"Give the repository a larger disk"
            )
        latest = self.restore("latest", [], from_rows(self.mark["at_loss"]))
        point = self.restore(
            "point",
            ["--type=name", f"--target={self.mark['restore_point']}", "--target-action=promote"],
            from_rows(self.mark["after"]),
        )
        lost = latest.pop("lost_s")
        point.pop("lost_s")
        return {
            "backup": self.backup["label"],
            "bytes": size,
            "rpo_s": max(lost, self.mark["exposure_s"]),
            "lost_s": lost,
            "exposure_s": self.mark["exposure_s"],
            "latest": latest,
            "point": point,
        }

    def restore(self, kind: str, options: list[str], after: Counts) -> dict[str, Any]:
        with ScratchServer(self.home, self.sockets, self.mark["major"]) as scratch:
            began = time.monotonic()
            pgbackrest.run(
                f"--config={self.config}",
                f"--stanza={self.stanza}",
                f"--set={self.backup['label']}",
                "--archive-mode=off",
                f"--tablespace-map-all={self.home}/tablespaces",
                f"--recovery-option=restore_command={restore_command(self.config, self.stanza, self.mark['newest_wal'])}",
                *options,
                "restore",
                timeout=self.seconds,
            )
            copied = time.monotonic()
            scratch.start(self.seconds)
            in_service = time.monotonic()
            restored = json.loads(scratch.server.ask(RESTORED_SQL.replace("LSN", self.mark["lsn"])))
            held = counts(scratch.server, self.mark["xid"])
        problems = list(differences(held, from_rows(self.mark["before"]), after))
        if not restored["reached"]:
            problems.insert(0, "the WAL of the mark was not replayed")
        elif kind == "point" and not restored["stopped"]:
            problems.append("the restore did not stop at the mark")
        return {
            "rto_s": round(in_service - began, 1),
            "restore_s": round(copied - began, 1),
            "rows": sum(number for number in held.values() if number is not None),
            "tables": len([number for number in held.values() if number is not None]),
            "uncounted": [".".join(name) for name, number in held.items() if number is None],
            "lost_s": lost_seconds(self.mark, restored),
            "problems": [f"{kind}: {problem}" for problem in problems],
        }


def write_record(directory: Path, record: dict[str, Any]) -> None:
    """As last.json, which `status` reads, and dated; the oldest ones go."""
    drills = directory / "drills"
    drills.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=2) + "\n"
    for path in (drills / f"{record['at'].replace(':', '')}.json", directory / "last.json"):
        write_atomically(ManagedFile(str(path), text, pgbackrest.ACCOUNT, pgbackrest.ACCOUNT, 0o640))
    for old in sorted(drills.glob("*.json"))[:-KEPT]:
        old.unlink()


def drilled(params: dict[str, Any]) -> dict[str, Any]:
    """The record. A drill that found a fault is a result, not an error of this module."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record: dict[str, Any] = {"at": now, "stanza": params["stanza"]}
    try:
        record |= Drill(params).run()
        problems = [*record["latest"].pop("problems"), *record["point"].pop("problems")]
    except (ScratchError, psql.PsqlError, pgbackrest.PgbackrestError) as error:
        problems = [str(error)]
    return record | {"proved": not problems, "problems": problems}


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "stanza": {"type": "str", "required": True},
            "mark": {"type": "dict", "required": True},
            "path": {"type": "path", "required": True},
            "sockets": {"type": "path", "required": True},
            "records": {"type": "path", "required": True},
            "config": {"type": "path", "default": "/etc/pgbackrest/drill.conf"},
            "timeout": {"type": "int", "default": 14400},
        },
    )
    records = Path(module.params["records"])
    with open(os.open(records / "drill.lock", os.O_WRONLY | os.O_CREAT, 0o600), "w", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            module.fail_json(msg="Another restore drill runs on this host. Wait for its end.")
        record = drilled(module.params)
        write_record(records, record)
    module.exit_json(changed=False, record=record)


if __name__ == "__main__":
    main()
