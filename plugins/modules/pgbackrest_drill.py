#!/usr/bin/python3
"""Runs the restore drill of a repository host, with a mark of the live database."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_drill
short_description: Restore a database beside its repository, and compare it with the live one
description:
  - Starts grunnfjell-restore-drill.service, which also runs by itself, with the mark of M(pgbackrest_mark). It restores the last
    backup and all WAL that the repository had at the supposed loss, then again up to the mark, and counts every table's rows.
  - The service writes a dated record on this host and leaves nothing else behind.
options:
  stanza: {description: Name of the stanza., type: str, required: true}
  mark: {description: The result of M(pgbackrest_mark) on the primary., type: dict, required: true}
  path: {description: File in which the service finds the mark., type: path, required: true}
  records: {description: Directory of the records., type: path, required: true}
author: maintainers
"""

EXAMPLES = r"""
- name: Restore the database
  pgbackrest_drill:
    stanza: main
    mark: "{{ hostvars['db1']['__pgbackrest_mark'] }}"
    path: /run/grunnfjell-pgbackrest/mark.json
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

import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import pgbackrest
from ..module_utils.restore_drill import read
from ..module_utils.whole_files import ManagedFile, usual_umask, write_atomically

UNIT = "grunnfjell-restore-drill.service"
NO_MARK = "no database took a mark: none of them answered as the primary. Look at `make status`"


def drilled(mark: dict[str, Any], path: Path, records: Path) -> tuple[dict[str, Any], str]:
    """The record, and what systemctl printed. A drill that found a fault is a result, not an error of this module."""
    write_atomically(ManagedFile(str(path), json.dumps(mark), "root", pgbackrest.ACCOUNT, 0o640))
    try:
        done = subprocess.run(["systemctl", "start", UNIT], capture_output=True, text=True, check=False)
    finally:
        path.unlink(missing_ok=True)
    return read(records / "last.json"), " ".join(done.stderr.split())


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "stanza": {"type": "str", "required": True},
            "mark": {"type": "dict", "required": True},
            "path": {"type": "path", "required": True},
            "records": {"type": "path", "required": True},
        },
    )
    stanza, mark = module.params["stanza"], module.params["mark"]
    if not mark:
        now = datetime.now(UTC).isoformat(timespec="seconds")
        module.exit_json(changed=False, record={"at": now, "stanza": stanza, "proved": False, "problems": [NO_MARK]})
    record, output = drilled(mark, Path(module.params["path"]), Path(module.params["records"]))
    if record.get("restore_point") != mark["restore_point"]:
        module.fail_json(
            msg=f"{UNIT} wrote no record of this drill. {output or 'The weekly one was at work'}: wait for its end, or look at "
            f"`journalctl -u {UNIT}` on this host, and run it again."
        )
    module.exit_json(changed=False, record=record)


if __name__ == "__main__":
    main()
