#!/usr/bin/python3
"""Creates a host's first restic repositories, and begins the first backup."""

from __future__ import annotations

DOCUMENTATION = r"""
module: restic_repository
short_description: Create a host's first repositories for backups of its files
description:
  - Creates the repository at each repository host that has none of this host, and begins the first backup in the background.
    Where there is one, tries login and key on every run, since a change of either end can break the way between them.
  - Fails on a machine that replaces another one whose files are in the repository, until they are restored.
  - Removes nothing.
options: {}
author: maintainers
attributes:
  check_mode: {support: full, description: Predicts new repositories and the first backup.}
"""

EXAMPLES = r"""
- name: Create the repositories
  restic_repository:
"""

RETURN = r"""
created: {description: The repository hosts that had no backup of this host., returned: success, type: list, elements: str}
began: {description: Whether the first backup was begun., returned: success, type: bool}
"""

import json
import os

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import restic

UNIT = "grunnfjell-restic-backup.service"


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    if module.check_mode and not os.path.exists(restic.PROGRAM):
        module.exit_json(changed=True, created=[], began=True)
    try:
        without = json.loads(restic.run("missing" if module.check_mode else "prepare"))
        state = module.run_command(["systemctl", "is-active", UNIT])[1].strip()
        begins = bool(without) and state != "activating"
        if begins and not module.check_mode:
            # Many files take hours; `status` reports the backup.
            module.run_command(["systemctl", "start", "--no-block", UNIT], check_rc=True)
    except restic.ResticError as error:
        advice = "" if restic.REPLACED in str(error) else " Look at `journalctl -u grunnfjell-restic` on the repository host."
        module.fail_json(msg=f"The files of this host are not backed up: {error}.{advice}")
    module.exit_json(changed=begins, created=without, began=begins)


if __name__ == "__main__":
    main()
