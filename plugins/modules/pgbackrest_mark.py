#!/usr/bin/python3
"""Marks a moment in a live database, with which a restore of it can be compared."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_mark
short_description: Mark a moment of a live database for a restore drill
description:
  - Counts the rows of every table, writes a restore point into the WAL, and counts again. Then it waits until the repository has
    that WAL, without closing a segment itself, so the time that passes is what the loss of the host would have cost
    at that moment.
  - Ends with the counts and the newest archived segment at the moment of a supposed loss. No table changes.
  - A standby of a cluster takes no mark. Its primary does.
options:
  port: {description: Port of PostgreSQL's socket., type: int, required: true}
  timeout: {description: Seconds beyond archive_timeout until the repository must have the WAL., type: int, default: 60}
author: maintainers
"""

EXAMPLES = r"""
- name: Mark a moment
  pgbackrest_mark:
    port: 5432
"""

RETURN = r"""
mark:
  description: >-
    restore_point (name), xid (rows that are older are counted), marked_at and lost_at (seconds since the epoch), lsn, exposure_s
    (seconds until the repository had the mark), newest_wal (newest archived segment at lost_at), next_xid (at lost_at), major
    (PostgreSQL's version), and the counts before and after the mark and at lost_at. Empty on a standby.
  returned: success
  type: dict
"""

import json
import time

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import psql
from ..module_utils.row_counts import Server, as_rows, counts
from ..module_utils.wal_archive import wait_archived

SERVER_SQL = """
SELECT json_build_object(
  'standby', pg_is_in_recovery(),
  'major', current_setting('server_version_num')::int / 10000,
  'archive_mode', current_setting('archive_mode'),
  'archive_timeout', (SELECT setting::int FROM pg_settings WHERE name = 'archive_timeout'),
  'xid', pg_snapshot_xmin(pg_current_snapshot())::xid::text);
"""
MARK_SQL = """
SELECT json_build_object(
  'lsn', pg_create_restore_point('NAME')::text, 'segment', pg_walfile_name(pg_current_wal_insert_lsn()),
  'marked_at', extract(epoch FROM clock_timestamp()));
"""


def mark(module: AnsibleModule, server: Server) -> dict:
    about = json.loads(server.ask(SERVER_SQL))
    if about["standby"]:
        return {}
    if about["archive_mode"] == "off":
        module.fail_json(
            msg="archive_mode is off, so no WAL reaches the repository. Bind postgresql_parameters to the filter "
            "pgbackrest_archiving (docs/backups.md), and run site.yml."
        )
    if not about["archive_timeout"]:
        module.fail_json(msg="archive_timeout is 0, so a quiet database archives nothing. Set it to 15 in postgresql_parameters.")
    server = Server(server.port, about["major"])
    before = counts(server, about["xid"])
    name = f"grunnfjell-drill-{int(time.time())}"
    made = json.loads(server.ask(MARK_SQL.replace("NAME", name)))
    after = counts(server, about["xid"])
    limit = about["archive_timeout"] + module.params["timeout"]
    loss = wait_archived(server, made["segment"], limit)
    if (loss["newest_wal"] or "") < made["segment"]:
        module.fail_json(
            msg=f"The repository has no WAL of this moment after {limit} s: PostgreSQL could not archive {loss['failed_wal']}. "
            f"Look at PostgreSQL's log, and at `journalctl -u pgbackrest` on the repository host."
        )
    return {
        "restore_point": name,
        "xid": about["xid"],
        "major": about["major"],
        "marked_at": made["marked_at"],
        "lsn": made["lsn"],
        "exposure_s": round(loss["lost_at"] - made["marked_at"], 1),
        **{key: loss[key] for key in ("newest_wal", "next_xid", "lost_at")},
        "before": as_rows(before),
        "after": as_rows(after),
        "at_loss": as_rows(counts(server, about["xid"])),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={"port": {"type": "int", "required": True}, "timeout": {"type": "int", "default": 60}},
    )
    try:
        module.exit_json(changed=False, mark=mark(module, Server(module.params["port"], 0)))
    except psql.PsqlError as error:
        module.fail_json(msg=f"PostgreSQL could not be asked: {error}")


if __name__ == "__main__":
    main()
