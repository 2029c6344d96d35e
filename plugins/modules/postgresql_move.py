#!/usr/bin/python3
"""Moves a single PostgreSQL server to another major version, and back."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_move
short_description: Move a single PostgreSQL server to another major version, or back
description:
  - Moves the cluster C(main) with Debian's C(pg_upgradecluster), which copies its files. Before anyone can reach the new server
    it builds the indexes again whose order depends on libc or ICU. The old cluster stays beside it, stopped. A move that fails
    ends with the old server in service.
  - Back, it stops the new cluster, which is renamed and kept, and starts the old one. What was written since the move is in the
    new one only.
  - A server that is there already is left alone.
options:
  old: {description: Major version of the data., type: str, required: true}
  new: {description: Major version to which it is moved., type: str, required: true}
  back: {description: Whether to go back to the old one., type: bool, default: false}
author: maintainers
attributes:
  check_mode: {support: full, description: Refuses what cannot work.}
"""

EXAMPLES = r"""
- name: Move the database to PostgreSQL 17
  postgresql_move:
    old: "15"
    new: "17"
"""

RETURN = r"""
moved:
  description: >-
    For a move seconds (from PostgreSQL's stop until the new server is complete) and reindexed (indexes). For the way back kept
    (the data directory with what was written since). Empty if nothing was to be done.
  returned: success
  type: dict
"""

import shutil
import subprocess
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import database_move as move
from ..module_utils import psql
from ..module_utils.row_counts import Server
from ..module_utils.waiting import until
from ..module_utils.whole_files import usual_umask

START_S = 3600


def in_service(versions: move.Versions) -> None:
    """Has the old cluster start by itself again, and starts it."""
    config = move.ETC / versions.old / "main"
    (config / "start.conf").write_text("auto\n", encoding="utf-8")
    subprocess.run(["systemctl", "daemon-reload"], check=False, capture_output=True)
    data, unit = move.DATA / versions.old / "main", f"postgresql@{versions.old}-main.service"
    # Debian's unit ignores a failed start, so systemctl start reports no error.
    subprocess.run(["systemctl", "start", unit], check=False, capture_output=True)

    def answers() -> bool:
        try:
            return Server(move.port_of(data), int(versions.old)).ask("SELECT NOT pg_is_in_recovery();", 10).strip() == "t"
        except (psql.PsqlError, move.MoveError):
            return False

    if not until(answers, START_S):
        raise move.MoveError(f"{unit} does not start. Look at /var/log/postgresql/postgresql-{versions.old}-main.log")


def forward(versions: move.Versions) -> dict[str, Any]:
    new = move.DATA / versions.new / "main"
    move.drop_unused(versions)

    def work() -> int:
        move.upgrade(versions, "main")
        return move.reindex(Server(move.port_of(new), int(versions.new)))

    try:
        seconds, reindexed = move.timed(work)
    except (move.MoveError, psql.PsqlError) as error:
        # pg_upgradecluster has removed the new cluster, unless it failed to start, or an index could not be built.
        if (move.ETC / versions.new / "main").exists():
            move.run("pg_dropcluster", "--stop", versions.new, "main")
        in_service(versions)
        raise move.MoveError(f"{error}. PostgreSQL {versions.old} is in service with its data") from error
    return {"seconds": seconds, "reindexed": reindexed}


def back(versions: move.Versions) -> dict[str, Any]:
    name = f"undone_{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    subprocess.run(["systemctl", "stop", f"postgresql@{versions.new}-main.service"], check=True, capture_output=True)
    move.run("pg_renamecluster", versions.new, "main", name)
    (move.ETC / versions.new / name / "start.conf").write_text("manual\n", encoding="utf-8")
    in_service(versions)
    return {"kept": str(move.DATA / versions.new / name)}


def refusals(versions: move.Versions, wanted: str) -> list[str]:
    """Before the service stops."""
    sentences = list(move.misplaced(move.stage(versions), wanted, versions))
    if sentences or wanted == "moved":
        return sentences
    old = move.DATA / versions.old / "main"
    state = move.live(Server(move.port_of(old), int(versions.old)))
    return list(move.refusals(state, versions, shutil.disk_usage(move.DATA).free))


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "old": {"type": "str", "required": True},
            "new": {"type": "str", "required": True},
            "back": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    versions = move.Versions(module.params["old"], module.params["new"])
    wanted = "moved" if module.params["back"] else "old"
    if wanted == "old" and move.stage(versions) == "moved":
        module.exit_json(changed=False, moved={})
    try:
        if sentences := refusals(versions, wanted):
            module.fail_json(msg="Nothing was changed. " + " ".join(sentences))
        if module.check_mode:
            module.exit_json(changed=True)
        module.exit_json(changed=True, moved=back(versions) if module.params["back"] else forward(versions))
    except (move.MoveError, psql.PsqlError) as error:
        module.fail_json(msg=f"The {'way back' if module.params['back'] else 'move'} failed: {error}.")


if __name__ == "__main__":
    main()
