#!/usr/bin/python
"""supervisord's programs as its configuration declares them, with the smallest disturbance."""

DOCUMENTATION = r"""
module: supervisor_programs
short_description: Make supervisord's programs what its configuration declares
description:
  - Adds the declared programs, stops and removes those that are declared no more, and restarts those whose section
    changed. No other program is touched, supervisord least of all.
  - All that must stop are told at once and end their running work together, where C(supervisorctl update) waits for
    one after another.
options:
  socket: {description: supervisord's socket., type: path, default: /run/supervisor.sock}
author: maintainers
"""

EXAMPLES = r"""
- name: Update the programs whose section changed, and no other
  supervisor_programs:
"""

RETURN = r"""
added: {description: Programs that were added., type: list, elements: str, returned: always}
restarted: {description: Programs whose section had changed., type: list, elements: str, returned: always}
removed: {description: Programs that are declared no more., type: list, elements: str, returned: always}
"""

import http.client
import os
import socket
import time
import xmlrpc.client

from ansible.module_utils.basic import AnsibleModule

POLL_SECONDS = 0.2


class UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = path

    def make_connection(self, host: str) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection("localhost")
        connection.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.sock.connect(self.path)
        return connection


def running(processes: list[dict], groups: list[str]) -> list[str]:
    """The processes of the groups that still have a process id."""
    return [process["name"] for process in processes if process["group"] in groups and process["pid"]]


def update(supervisor: xmlrpc.client.ServerProxy) -> dict[str, list[str]]:
    """Applies what the configuration files declare; returns the names of what was added, restarted and removed."""
    added, changed, removed = supervisor.reloadConfig()[0]
    leaving = [*changed, *removed]
    for group in leaving:
        supervisor.stopProcessGroup(group, False)
    # supervisord ends each within its stopwaitsecs, so this loop ends too.
    while running(supervisor.getAllProcessInfo(), leaving):
        time.sleep(POLL_SECONDS)
    for group in leaving:
        supervisor.removeProcessGroup(group)
    for group in [*changed, *added]:
        supervisor.addProcessGroup(group)
    return {"added": added, "restarted": changed, "removed": removed}


def main() -> None:
    module = AnsibleModule(
        argument_spec={"socket": {"type": "path", "default": "/run/supervisor.sock"}},
        supports_check_mode=True,
    )
    path = module.params["socket"]
    if module.check_mode:
        # What would change is told by the configuration file that changes it.
        module.exit_json(changed=False, added=[], restarted=[], removed=[])
    if not os.path.exists(path):
        module.fail_json(msg=f"supervisord does not listen on {path}. See: journalctl -u supervisor")
    server = xmlrpc.client.ServerProxy("http://localhost", transport=UnixTransport(path))
    try:
        result = update(server.supervisor)
    except xmlrpc.client.Fault as fault:
        module.fail_json(msg=f"supervisord refuses its configuration: {fault.faultString}. See: supervisorctl reread")
    module.exit_json(changed=any(result.values()), **result)


if __name__ == "__main__":
    main()
