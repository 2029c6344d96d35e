#!/usr/bin/python3
"""Restores a database in place, and keeps what it replaced."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_restore
short_description: Restore a single PostgreSQL server in place
description:
  - Checks everything that can be checked, then stops PostgreSQL, renames its data directory, restores into a new one and starts
    PostgreSQL, which goes on with a new timeline. A restore that fails puts the old directory back and starts it.
  - The old directory is kept beside the new one, for ever. Remove it when nobody needs it.
  - Of a cluster, Patroni is stopped before on every member. The restored server runs alone until Patroni adopts it.
options:
  stanza: {description: Name of the stanza., type: str, required: true}
  version: {description: Major version of PostgreSQL., type: str, required: true}
  port: {description: Port of PostgreSQL's socket., type: int, required: true}
  to: {description: 'C(latest), or a moment in ISO 8601 with its offset from UTC.', type: str, required: true}
  timeout: {description: Seconds that the restore, and then the replay of WAL, may take., type: int, default: 14400}
author: maintainers
attributes:
  check_mode: {support: full, description: Refuses what cannot work.}
"""

EXAMPLES = r"""
- name: Undo a wrong DELETE
  pgbackrest_restore:
    stanza: main
    version: "17"
    port: 5432
    to: "2026-11-29 10:00:00+01:00"
"""

RETURN = r"""
restored:
  description: >-
    to, last_commit (seconds since the epoch), timeline, rpo_s (seconds from the last restored commit to the stop, an upper
    bound of what was lost; 0 for a moment, before which nothing is missing), rto_s (seconds without service), bytes, proved_rows
    (of the tables below 1 GiB, each read as a whole), kept (the old directory).
  returned: success
  type: dict
"""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import pgbackrest, psql
from ..module_utils.restore_moment import options, unreachable_moments
from ..module_utils.row_counts import Server, counts
from ..module_utils.whole_files import usual_umask

IN_SERVICE_SQL = """
SELECT json_build_object(
  'recovering', pg_is_in_recovery(), 'timeline', (SELECT timeline_id FROM pg_control_checkpoint()),
  'last_commit', extract(epoch FROM pg_last_xact_replay_timestamp()),
  'next_row', pg_snapshot_xmax(pg_current_snapshot())::xid::text);
"""


class Failed(Exception):
    """Why the restored server is not in service."""


def refusals(to: str, backups: list[dict[str, Any]], free: int, path: Path, now: datetime) -> Iterator[str]:
    """Why the restore cannot work, before anything is stopped. free: bytes on the disk of path."""
    yield from unreachable_moments(to, backups, now)
    size = backups[-1]["info"]["size"] if backups else 0
    if free < size:
        yield (
            f"The database has {size / 2**30:.2f} GiB, but the disk of {path} has {free / 2**30:.2f} GiB free, and the old data "
            f"directory is kept. Free some space, or give the host a larger disk."
        )


def lost_at_most(to: str, stopped_at: float, last_commit: float | None) -> float | None:
    """None if nothing was replayed.

    >>> lost_at_most("latest", 1000.0, 994.5), lost_at_most("2026-11-29 10:00:00+01:00", 1000.0, 10.0)
    (5.5, 0.0)
    """
    if to != "latest":
        return 0.0
    return None if last_commit is None else round(max(0.0, stopped_at - last_commit), 1)


class Restore:
    def __init__(self, params: dict[str, Any]) -> None:
        self.params, self.unit = params, f"postgresql@{params['version']}-main.service"
        self.data = Path("/var/lib/postgresql", params["version"], "main")
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        self.kept = self.data.with_name(f"main.before-restore-{stamp}")

    def run(self, backups: list[dict[str, Any]]) -> dict[str, Any]:
        began, stopped_at = time.monotonic(), time.time()
        # An orderly stop archives the last segment, so restoring the latest state loses nothing.
        self.systemctl("stop")
        had_data = self.data.exists()
        if had_data:
            self.data.rename(self.kept)
        try:
            self.data.mkdir(mode=0o700)
            shutil.chown(self.data, pgbackrest.ACCOUNT, pgbackrest.ACCOUNT)
            pgbackrest.run(
                f"--stanza={self.params['stanza']}",
                "--log-level-file=info",
                *options(self.params["to"]),
                "restore",
                timeout=self.params["timeout"],
            )
            self.systemctl("start")
            state = self.wait()
        except (Failed, pgbackrest.PgbackrestError, OSError) as error:
            raise Failed(f"{error}. {self.put_back(had_data)}") from error
        rto_s = round(time.monotonic() - began, 1)
        held = counts(Server(self.params["port"], int(self.params["version"])), state["next_row"], self.params["timeout"])
        return {
            "to": self.params["to"],
            "timeline": state["timeline"],
            "last_commit": state["last_commit"],
            "rpo_s": lost_at_most(self.params["to"], stopped_at, state["last_commit"]),
            "rto_s": rto_s,
            "bytes": backups[-1]["info"]["size"],
            "proved_rows": sum(number or 0 for number in held.values()),
            "kept": str(self.kept) if had_data else "",
        }

    def wait(self) -> dict[str, Any]:
        deadline = time.monotonic() + self.params["timeout"]
        while True:
            try:
                state = json.loads(psql.superuser(IN_SERVICE_SQL, self.params["port"], 10))
                if not state["recovering"]:
                    return state
            except psql.PsqlError:
                if self.stopped():
                    raise Failed(f"PostgreSQL does not start: {self.last_words()}") from None
            if time.monotonic() > deadline:
                raise Failed(f"PostgreSQL replays WAL for longer than {self.params['timeout']} s")
            time.sleep(0.1)  # between two looks; the deadline ends them

    def put_back(self, had_data: bool) -> str:
        """The directory that was there before. What was restored has shown to be of no use."""
        subprocess.run(["systemctl", "stop", self.unit], check=False, capture_output=True)
        shutil.rmtree(self.data, ignore_errors=True)
        if not had_data:
            return "There was no data before, and there is none now."
        self.kept.rename(self.data)
        subprocess.run(["systemctl", "start", self.unit], check=False, capture_output=True)
        return "The data from before is in place and PostgreSQL was started with it."

    def systemctl(self, verb: str) -> None:
        done = subprocess.run(["systemctl", verb, self.unit], capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"systemctl {verb} {self.unit} failed: {' '.join(done.stderr.split())}")

    def stopped(self) -> bool:
        done = subprocess.run(["systemctl", "is-active", self.unit], capture_output=True, text=True, check=False)
        return done.stdout.strip() in ("failed", "inactive")

    def last_words(self) -> str:
        log = Path(f"/var/log/postgresql/postgresql-{self.params['version']}-main.log")
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
        telling = [line for line in lines[-40:] if "FATAL" in line or "PANIC" in line]
        return " ".join((telling or lines)[-2:])[-400:]


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "stanza": {"type": "str", "required": True},
            "version": {"type": "str", "required": True},
            "port": {"type": "int", "required": True},
            "to": {"type": "str", "required": True},
            "timeout": {"type": "int", "default": 14400},
        },
        supports_check_mode=True,
    )
    try:
        backups = pgbackrest.complete(pgbackrest.info(module.params["stanza"]).get("backup") or [])
        restore = Restore(module.params)
        free = shutil.disk_usage(restore.data.parent).free
        now = datetime.now(UTC)
        if sentences := list(refusals(module.params["to"], backups, free, restore.data, now)):
            module.fail_json(msg="Nothing was changed. " + " ".join(sentences))
        if module.check_mode:
            module.exit_json(changed=True)
        module.exit_json(changed=True, restored=restore.run(backups))
    except pgbackrest.PgbackrestError as error:
        module.fail_json(msg=f"Nothing was changed. The repository cannot be read: {error}.")
    except Failed as error:
        module.fail_json(msg=f"The restore failed: {error}")


if __name__ == "__main__":
    main()
