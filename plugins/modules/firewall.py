#!/usr/bin/python3
"""Checks whether the host's firewall is as declared, and otherwise loads new rules on trial."""

from __future__ import annotations

DOCUMENTATION = r"""
module: firewall
short_description: Load the host's firewall on trial
description:
  - Compares the kernel's table, the files and the units with the declared ones. If they differ, the new rules are checked, then
    loaded in one transaction on trial; a timer on the host restores the former ones after I(trial_seconds).
  - The action of this name, on the control machine, confirms over a new connection to the host. Nothing is written to the host's
    disk before that, so a reboot during the trial restores the former rules, too.
  - Established connections stay open, even those older than the first rules.
options:
  state: {description: Whether the host has the kit's firewall., type: str, choices: [present, absent], default: present}
  rules: {description: 'Input of C(nft -f) that replaces the table.', type: str, default: ''}
  fallback: {description: 'The same for a boot at which I(rules) cannot be loaded.', type: str, default: ''}
  names: {description: 'nftables set to the names whose addresses fill it, one set per address family.', type: dict, default: {}}
  units: {description: 'Name of a systemd unit to its text.', type: dict, default: {}}
  trial_seconds: {description: Seconds until the former rules are restored., type: int, default: 60}
author: maintainers
attributes:
  check_mode: {support: full, description: Predicts whether the rules change.}
  diff_mode: {support: full, description: Shows the files.}
"""

EXAMPLES = r"""
- name: Open only declared flows
  firewall:
    rules: "{{ lookup('rendered', 'etc/grunnfjell/firewall/rules.nft.j2') }}"
    fallback: "{{ lookup('rendered', 'etc/grunnfjell/firewall/fallback.nft.j2') }}"
"""

RETURN = r"""
differing: {description: Files and tables that differed., returned: success, type: list, elements: str}
token: {description: Needed to confirm the trial., returned: when a trial runs, type: str}
"""

import json
import shutil
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import firewall_program as firewall
from ..module_utils.whole_files import diff_of, usual_umask


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "rules": {"type": "str", "default": ""},
            "fallback": {"type": "str", "default": ""},
            "names": {"type": "dict", "default": {}},
            "units": {"type": "dict", "default": {}},
            "trial_seconds": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    try:
        if module.params["state"] == "absent":
            present = firewall.present()
            if present and not module.check_mode:
                firewall.remove()
            module.exit_json(changed=present)
        load(module)
    except firewall.FirewallError as error:
        module.fail_json(msg=f"{error}. The host's rules are as they were.")


def load(module: AnsibleModule) -> None:
    rules, names = module.params["rules"], module.params["names"]
    program = firewall.__loader__.get_source(firewall.__name__)
    files = {
        str(firewall.RULES): (rules, 0o600),
        str(firewall.FALLBACK): (module.params["fallback"], 0o600),
        str(firewall.NAMES): (json.dumps(names, indent=1, sort_keys=True) + "\n", 0o600),
        str(firewall.PROGRAM): (program, 0o755),
    }
    files |= {str(firewall.UNITS / name): (text, 0o644) for name, text in module.params["units"].items()}
    differing = firewall.differing(files, bool(names))
    result = {
        "changed": bool(differing),
        "differing": differing,
        "diff": [diff_of(path, firewall.read(Path(path)), files[path][0], False) for path in differing if path in files],
    }
    if differing and not module.check_mode:
        if not shutil.which("nft"):
            module.fail_json(msg="nftables is not installed: there is no program nft.")
        trial = firewall.begin(rules, names, files, program, module.params["trial_seconds"])
        result["token"] = trial["token"]
        if trial["unresolved"]:
            module.warn(
                f"No address was found for {', '.join(trial['unresolved'])}. Connections to it are blocked until the host's "
                f"timer finds one."
            )
    module.exit_json(**result)


if __name__ == "__main__":
    main()
