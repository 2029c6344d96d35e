"""Restores a database beside its repository, proves by SQL what was restored, and writes a dated record.

Role pgbackrest installs this file with the ones that it imports, and grunnfjell-restore-drill.service runs it: every week by
itself, and for module pgbackrest_drill with a mark of the live database, with which it then compares every table.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from . import pgbackrest, psql
from .row_counts import Counts, counts, differences, from_rows
from .scratch_server import ScratchError, ScratchServer
from .whole_files import ManagedFile, write_atomically

# Weekly drills of two years.
KEPT = 104
SEGMENT_BYTES = 16 * 2**20

RESTORED_SQL = """
SELECT json_build_object(
  'last_commit', extract(epoch FROM pg_last_xact_replay_timestamp()),
  'next_xid', pg_snapshot_xmax(pg_current_snapshot())::text,
  'next_row', pg_snapshot_xmax(pg_current_snapshot())::xid::text,
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


def beginning(segment: str) -> str:
    """The place in the WAL at which a segment begins.

    >>> beginning("000000020000000100000003")
    '1/3000000'
    """
    return f"{int(segment[8:16], 16):X}/{int(segment[16:24], 16) * SEGMENT_BYTES:X}"


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


def supposed_loss(held: dict[str, Any], archive: Path, now: float) -> dict[str, Any]:
    """In the place of a mark, where the live database is not asked: it is lost now, and the repository has what it has.

    What it costs is at most the age of the newest WAL. A database without any work archives nothing, so less may be lost.
    """
    last = pgbackrest.complete(held.get("backup") or [])[-1:]
    segments = sorted(pgbackrest.segments(archive, last[0]["archive"]["start"]), key=lambda path: path.name) if last else []
    if not segments:
        return {}
    # The backup itself ends in the segment that may be the newest one.
    reached = max(beginning(segments[-1].name), last[0]["lsn"]["stop"], key=lsn)
    return {
        "major": int(held["db"][-1]["version"].split(".")[0]),
        "lsn": reached,
        "newest_wal": segments[-1].name[:24],
        "exposure_s": round(now - segments[-1].stat().st_mtime, 1),
    }


class Drill:
    """params: the options of this program, and the mark, empty without one."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.stanza, self.mark, self.config = params["stanza"], params["mark"], params["config"]
        self.archive = Path(params["repository"], "archive", params["stanza"])
        self.home, self.sockets, self.seconds = Path(params["path"]), Path(params["sockets"]), params["timeout"]
        self.compared = bool(self.mark)
        self.backup: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        held = pgbackrest.info(self.stanza)
        self.mark = self.mark or supposed_loss(held, self.archive, time.time())
        backup = backup_before(held.get("backup") or [], self.mark["lsn"]) if self.mark else None
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
        latest = self.restore("latest", [], "at_loss")
        record = {
            "backup": self.backup["label"],
            "bytes": size,
            "compared": self.compared,
            "exposure_s": self.mark["exposure_s"],
            "lost_s": latest.pop("lost_s"),
            "latest": latest,
        }
        if self.compared:
            options = ["--type=name", f"--target={self.mark['restore_point']}", "--target-action=promote"]
            record["point"] = self.restore("point", options, "after")
            record["restore_point"] = self.mark["restore_point"]
            del record["point"]["lost_s"]
        return record | {"rpo_s": max(record["lost_s"] or 0.0, record["exposure_s"])}

    def restore(self, kind: str, options: list[str], bound: str) -> dict[str, Any]:
        """bound: the counts of the mark below which no table may be."""
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
            # Each count reads the table, and so proves the checksums of its pages.
            held = counts(scratch.server, self.mark["xid"] if self.compared else restored["next_row"])
        problems = self.problems(kind, restored, held, bound)
        return {
            "rto_s": round(in_service - began, 1),
            "restore_s": round(copied - began, 1),
            "rows": sum(number for number in held.values() if number is not None),
            "tables": len([number for number in held.values() if number is not None]),
            "uncounted": [".".join(name) for name, number in held.items() if number is None],
            "lost_s": lost_seconds(self.mark, restored) if self.compared else None,
            "problems": [f"{kind}: {problem}" for problem in problems],
        }

    def problems(self, kind: str, restored: dict[str, Any], held: Counts, bound: str) -> list[str]:
        problems = []
        if self.compared:
            problems += differences(held, from_rows(self.mark["before"]), from_rows(self.mark[bound]))
        if not restored["reached"]:
            where = "of the mark" if self.compared else f"until {self.mark['newest_wal']}, the newest of the repository,"
            problems.insert(0, f"the WAL {where} was not replayed")
        elif kind == "point" and not restored["stopped"]:
            problems.append("the restore did not stop at the mark")
        return problems


def write_record(directory: Path, record: dict[str, Any]) -> None:
    """As last.json, which `status` reads, and dated; the oldest ones go."""
    drills = directory / "drills"
    drills.mkdir(parents=True, exist_ok=True)
    text = json.dumps(record, indent=2) + "\n"
    for path in (drills / f"{record['at'].replace(':', '')}.json", directory / "last.json"):
        write_atomically(ManagedFile(str(path), text, pgbackrest.ACCOUNT, pgbackrest.ACCOUNT, 0o640))
    for old in sorted(drills.glob("*.json"))[:-KEPT]:
        old.unlink()


def emptied(record: dict[str, Any], before: dict[str, Any]) -> list[str]:
    """Without the live database, that a backup of nothing is not taken for a proof."""
    if record["latest"]["tables"] or not before.get("proved") or not before["latest"]["tables"]:
        return []
    return [f"latest: the restored database has no table, but had {before['latest']['tables']} in the drill of {before['at']}"]


def drilled(params: dict[str, Any], before: dict[str, Any]) -> dict[str, Any]:
    """The record; before: the last one, empty without one."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    record: dict[str, Any] = {"at": now, "stanza": params["stanza"]}
    try:
        record |= Drill(params).run()
        problems = [problem for kind in ("latest", "point") if kind in record for problem in record[kind].pop("problems")]
        problems += emptied(record, before)
    except (ScratchError, psql.PsqlError, pgbackrest.PgbackrestError) as error:
        problems = [str(error)]
        record |= {"restore_point": params["mark"]["restore_point"]} if params["mark"] else {}
    return record | {"proved": not problems, "problems": problems}


def read(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}


def main() -> int:
    parser = argparse.ArgumentParser(description="Restore a database beside its repository, and prove what was restored.")
    parser.add_argument("--stanza", required=True)
    parser.add_argument("--repository", required=True, help="directory of the repository")
    parser.add_argument("--path", required=True, help="directory for the restored database")
    parser.add_argument("--sockets", required=True, help="directory for its socket")
    parser.add_argument("--records", required=True, type=Path, help="directory for the records")
    parser.add_argument("--mark", required=True, type=Path, help="file with a mark of the live database, if there is one")
    parser.add_argument("--config", default="/etc/pgbackrest/drill.conf", help="pgBackRest's configuration for a restore here")
    parser.add_argument("--timeout", type=int, default=14400, help="seconds that a restore may take")
    options = vars(parser.parse_args())
    records = options["records"]
    record = drilled(options | {"mark": read(options["mark"])}, read(records / "last.json"))
    write_record(records, record)
    for problem in record["problems"]:
        print(problem, file=sys.stderr)
    return 0 if record["proved"] else 1


if __name__ == "__main__":
    sys.exit(main())
