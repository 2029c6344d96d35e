#!/usr/bin/python
"""Stops programs of supervisord for a while, and starts them again."""

DOCUMENTATION = r"""
module: supervisor_pause
short_description: Stop programs for a while
description:
  - Stops the running ones among the programs, all at the same time, and waits until they have ended, or starts programs and waits
    until they run. Files are not touched, so a restart of supervisord starts them too.
options:
  programs: {description: Names of programs., type: list, elements: str, required: true}
  state: {description: What they do., type: str, choices: [stopped, started], required: true}
  up_within: {description: Seconds within which started programs must be RUNNING., type: int, default: 60}
  socket: {description: supervisord's socket., type: path, default: /run/supervisor.sock}
author: maintainers
"""

EXAMPLES = r"""
- name: Let the worker finish its tasks and stop
  supervisor_pause:
    programs: [celery-worker]
    state: stopped
"""

RETURN = r"""
programs: {description: Programs that were stopped or started., type: list, elements: str, returned: always}
"""

from ansible.module_utils.basic import AnsibleModule

from ..module_utils.supervisord import connect, processes, stopped, wait_until_stopped, wait_until_up


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "programs": {"type": "list", "elements": "str", "required": True},
            "state": {"type": "str", "choices": ["stopped", "started"], "required": True},
            "up_within": {"type": "int", "default": 60},
            "socket": {"type": "path", "default": "/run/supervisor.sock"},
        },
        supports_check_mode=True,
    )
    asked = module.params
    supervisor = connect(asked["socket"])
    if supervisor is None:
        module.exit_json(changed=False, programs=[])
    # A program in BACKOFF has no process now, but would have one in a moment.
    resting = ("STOPPED", "EXITED", "FATAL")
    ends = asked["state"] == "stopped"
    groups = [
        process["group"]
        for process in processes(supervisor, asked["programs"])
        if (process["statename"] not in resting if ends else stopped(process))
    ]
    groups = list(dict.fromkeys(groups))
    if groups and not module.check_mode:
        for group in groups:
            supervisor.stopProcessGroup(group, False) if ends else supervisor.startProcessGroup(group, False)
        if ends:
            wait_until_stopped(supervisor, groups)
        elif late := wait_until_up(lambda: processes(supervisor, groups), asked["up_within"]):
            names = ", ".join(sorted({process["group"] for process in late}))
            module.fail_json(msg=f"{names} does not run within {asked['up_within']} s.", programs=groups)
    module.exit_json(changed=bool(groups), programs=groups)


if __name__ == "__main__":
    main()
