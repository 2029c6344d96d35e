#!/usr/bin/python3
"""Creates a stanza in a repository, and proves that WAL reaches it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pgbackrest_stanza
short_description: Create what a pgBackRest repository lacks
description:
  - Creates the stanza if the repository does not have it. Then C(pgbackrest check) has the database archive a segment and waits
    for it, on every run, since a change of either end can break the way between them.
  - Begins the first full backup in the background if there is none. Removes nothing.
  - If the stanza holds the backups of another database, it changes nothing and reports so in I(foreign), unless I(upgrade).
options:
  stanza: {description: Name of the stanza., type: str, required: true}
  upgrade:
    description: Whether this database took the place of the stanza's one, as after a move to another major version of PostgreSQL.
    type: bool
    default: false
  timeout: {description: Seconds until the segment must be in the repository., type: int, default: 60}
author: maintainers
attributes:
  check_mode: {support: full, description: Predicts a new stanza and the first backup.}
"""

EXAMPLES = r"""
- name: Create the stanza
  pgbackrest_stanza:
    stanza: main
"""

RETURN = r"""
did: {description: 'What was missing: stanza, upgrade, backup.', returned: success, type: list, elements: str}
foreign: {description: Why the stanza is not this database's; empty if it is., returned: success, type: str}
"""

import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import pgbackrest
from ..module_utils.whole_files import usual_umask

FIRST = "grunnfjell-backup@full.service"


def missing(held: dict) -> list[str]:
    """What the repository lacks, by the answer of info."""
    databases = held.get("db") or []
    return [*([] if databases else ["stanza"]), *([] if pgbackrest.complete(held.get("backup") or []) else ["backup"])]


def advice(error: pgbackrest.PgbackrestError) -> str:
    """What to do about an error of stanza-create or check."""
    if "unable to load info file" in str(error):
        return "The repository has another passphrase than pgbackrest_repo_cipher_pass. Restore the vault that made it."
    return "Look at `journalctl -u pgbackrest` on both hosts, and at PostgreSQL's log on the database."


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "stanza": {"type": "str", "required": True},
            "upgrade": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    stanza, timeout = module.params["stanza"], module.params["timeout"]
    try:
        if module.check_mode and not os.path.exists("/etc/pgbackrest/pgbackrest.conf"):
            module.exit_json(changed=True, did=["stanza", "backup"], foreign="")
        held = pgbackrest.info(stanza)
        if problem := pgbackrest.problem_of(held):
            raise pgbackrest.PgbackrestError(problem)
        did = missing(held)
        if not module.check_mode:
            if "stanza" in did:
                pgbackrest.run(f"--stanza={stanza}", "stanza-create", timeout=timeout)
            elif module.params["upgrade"]:
                pgbackrest.run(f"--stanza={stanza}", "stanza-upgrade", timeout=timeout)
                did += ["upgrade"] if pgbackrest.info(stanza)["db"] != held["db"] else []
            pgbackrest.run(f"--stanza={stanza}", f"--archive-timeout={timeout}", "check", timeout=timeout + 30)
            if "backup" in did:
                # A large database takes hours; `status` reports the backup.
                _, state, _ = module.run_command(["systemctl", "is-active", FIRST])
                if state.strip() == "activating":
                    did.remove("backup")
                else:
                    module.run_command(["systemctl", "start", "--no-block", FIRST], check_rc=True)
    except pgbackrest.PgbackrestError as error:
        if error.code == pgbackrest.FILE_INVALID:
            module.exit_json(changed=False, did=[], foreign=str(error))
        module.fail_json(msg=f"pgBackRest: {error}. {advice(error)}")
    module.exit_json(changed=bool(did), did=did, foreign="")


if __name__ == "__main__":
    main()
