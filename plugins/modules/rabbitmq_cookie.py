#!/usr/bin/python3
"""Changes the Erlang cookie of a running broker."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_cookie
short_description: Change the Erlang cookie of a running broker
description:
  - In one call, the broker reads the new cookie from a file that only it can read, sets it, and renames that file to the one that
    its tools read, so tools and broker never differ. No connection is closed.
  - If the broker does not run, or refuses its tools, only the file is written, and C(restart_due) reports that a running broker
    must be restarted.
options:
  path: {description: The cookie file of the broker and its tools., type: path, required: true}
  cookie: {description: The new cookie., type: str, required: true}
author: maintainers
"""

EXAMPLES = r"""
- name: Give the running broker its new cookie
  rabbitmq_cookie:
    path: /var/lib/rabbitmq/.erlang.cookie
    cookie: "{{ rabbitmq_erlang_cookie }}"
"""

RETURN = r"""
restart_due: {description: Whether the broker must be restarted to take it., returned: success, type: bool}
"""

import os
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import rabbitmq_cli

# The expression names the file, so the cookie is not on a command line.
TAKE = (
    '{{ok, Held}} = file:read_file("{new}"), '
    "true = erlang:set_cookie(node(), binary_to_atom(Held, latin1)), "
    'ok = file:rename("{new}", "{path}").'
)


def current(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().strip()
    except FileNotFoundError:
        return None


def draft(path: str, cookie: str) -> str:
    """Writes the new file beside the old one."""
    handle, new = tempfile.mkstemp(prefix=".erlang.cookie.", dir=os.path.dirname(path))
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(cookie)
    shutil.chown(new, rabbitmq_cli.ACCOUNT, rabbitmq_cli.ACCOUNT)
    os.chmod(new, 0o400)
    return new


def change(path: str, cookie: str) -> bool:
    """Sets the cookie; returns whether a restart is due."""
    new = draft(path, cookie)
    try:
        rabbitmq_cli.call("eval", TAKE.format(new=new, path=path))
    except rabbitmq_cli.CliError:
        # If the file is gone, only the answer was lost.
        if os.path.exists(new):
            os.replace(new, path)
            return True
    return False


def main() -> None:
    module = AnsibleModule(
        argument_spec={"path": {"type": "path", "required": True}, "cookie": {"type": "str", "required": True, "no_log": True}},
        supports_check_mode=True,
    )
    path, cookie = module.params["path"], module.params["cookie"]
    if current(path) == cookie:
        module.exit_json(changed=False, restart_due=False)
    due = False if module.check_mode else change(path, cookie)
    module.exit_json(changed=True, restart_due=due)


if __name__ == "__main__":
    main()
