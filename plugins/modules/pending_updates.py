#!/usr/bin/python3
"""The updates that a host waits for, and its services that should run."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pending_updates
short_description: Query which of a host's packages have a newer version, and whether it waits for a reboot
description: [Reads the lists that apt has fetched. Changes nothing.]
options:
  packages: {description: Beginnings of the packages' names., type: list, elements: str, required: true}
  units:
    description: Patterns of the units that an update stops and starts, in the order in which they start.
    type: list
    elements: str
    default: []
author: maintainers
attributes:
  check_mode: {support: full, description: Changes nothing.}
"""

EXAMPLES = r"""
- name: Ask for updates of the broker
  pending_updates:
    packages: [rabbitmq-server, erlang-]
    units: [rabbitmq-server.service]
"""

RETURN = r"""
updates:
  description: Each package with name, installed, candidate and since (Unix time or null).
  returned: success
  type: list
  elements: dict
reboot_since: {description: When a reboot became due (Unix time); null if no reboot is due., returned: success, type: float}
units: {description: Units that run or should run, returned: success, type: list, elements: str}
stopped:
  description: Those that should run and do not. A run that was killed leaves such.
  returned: success
  type: list
  elements: str
pending: {description: Whether anything waits., returned: success, type: bool}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import packages


def service_units(module: AnsibleModule, pattern: str) -> tuple[list[str], list[str]]:
    """The units of the pattern that run, and those that do not though they start with the host."""
    listed = module.run_command(["systemctl", "list-units", "--all", "--plain", "--no-legend", pattern], check_rc=True)[1]
    running, stopped = [], []
    for name, load, active, *_ in map(str.split, listed.splitlines()):
        if active in ("active", "activating", "reloading"):
            running.append(name)
        elif load == "loaded" and module.run_command(["systemctl", "is-enabled", name])[1].strip() == "enabled":
            stopped.append(name)
    return running, stopped


def main() -> None:
    names = {"type": "list", "elements": "str"}
    module = AnsibleModule(
        argument_spec={"packages": {**names, "required": True}, "units": {**names, "default": []}}, supports_check_mode=True
    )
    updates, reboot = packages.pending(module.params["packages"]), packages.reboot_due_since()
    found = [service_units(module, pattern) for pattern in module.params["units"]]
    stopped = [unit for _, idle in found for unit in idle]
    module.exit_json(
        changed=False,
        updates=updates,
        reboot_since=reboot,
        units=[unit for running, idle in found for unit in [*running, *idle]],
        stopped=stopped,
        pending=bool(updates or reboot or stopped),
    )


if __name__ == "__main__":
    main()
