#!/usr/bin/python3
"""The updates that a host waits for."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pending_updates
short_description: Query which of a host's packages have a newer version, and whether it waits for a reboot
description: [Reads the lists that apt has fetched. Changes nothing.]
options:
  packages: {description: Beginnings of the packages' names., type: list, elements: str, required: true}
author: maintainers
attributes:
  check_mode: {support: full, description: Changes nothing.}
"""

EXAMPLES = r"""
- name: Ask for updates of the broker
  pending_updates:
    packages: [rabbitmq-server, erlang-]
"""

RETURN = r"""
updates:
  description: Each package with name, installed, candidate and since (Unix time or null).
  returned: success
  type: list
  elements: dict
reboot_since: {description: When a reboot became due (Unix time); null if no reboot is due., returned: success, type: float}
pending: {description: Whether anything waits., returned: success, type: bool}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import packages


def main() -> None:
    module = AnsibleModule(
        argument_spec={"packages": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True
    )
    updates, reboot = packages.pending(module.params["packages"]), packages.reboot_due_since()
    module.exit_json(changed=False, updates=updates, reboot_since=reboot, pending=bool(updates or reboot))


if __name__ == "__main__":
    main()
