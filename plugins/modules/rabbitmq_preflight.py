#!/usr/bin/python3
"""Why this host cannot run the declared broker, before anything is changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_preflight
short_description: Refuse a broker that this host cannot run, before any change
description:
  - Checks the role's inputs against each other and against the host, and fails with one sentence for each thing to edit.
  - Returns the state of the host, so a run changes only what is missing. Changes nothing.
options:
  data_dir: {description: The broker's data directory., type: path, required: true}
  nodename: {description: Name of the node if the host has no data of one yet., type: str, required: true}
  series: {description: 'Series of the package that the host will run, e.g. C(4.0).', type: str, required: true}
  disk_free_limit_bytes: {description: Free disk in bytes below which publishers are blocked., type: int, required: true}
  listeners: {description: 'Where clients connect, C(address:port).', type: list, elements: str, required: true}
  distribution_address: {description: Where nodes and tools connect., type: str, required: true}
  erlang_cookie: {description: The cookie., type: str, required: true}
  vhosts: {description: Declared virtual hosts., type: list, elements: dict, required: true}
  vhosts_removed: {description: Virtual hosts to delete., type: list, elements: str, required: true}
  users: {description: Declared users., type: list, elements: dict, required: true}
  user_passwords: {description: User to password., type: dict, required: true}
  policies: {description: Declared policies., type: list, elements: dict, required: true}
  parameters: {description: Further keys of rabbitmq.conf., type: dict, default: {}}
  plugins: {description: Plugins to enable., type: list, elements: str, default: []}
  files: {description: Files that the broker reads at startup., type: list, elements: path, required: true}
author: maintainers
"""

EXAMPLES = r"""
- name: Refuse what this host cannot run
  rabbitmq_preflight:
    data_dir: /var/lib/rabbitmq
    nodename: rabbit@broker1
    series: "4.0"
    disk_free_limit_bytes: 2147483648
    listeners: ["10.0.0.11:5671"]
    distribution_address: 127.0.0.1
    erlang_cookie: "{{ vault_rabbitmq_erlang_cookie }}"
    vhosts: [{name: shop}]
    vhosts_removed: []
    users: [{name: shop, permissions: [{vhost: shop}]}]
    user_passwords: "{{ vault_rabbitmq_user_passwords }}"
    policies: []
    files: [/etc/rabbitmq/rabbitmq.conf]
  register: broker
"""

RETURN = r"""
installed: {description: Whether the package is installed., returned: success, type: bool}
members: {description: The members of its cluster by its data; empty without data., returned: success, type: list, elements: str}
cookie_differs: {description: Whether the host has a broker with another cookie., returned: success, type: bool}
nodename: {description: 'The node whose data the host has, else I(nodename).', returned: success, type: str}
restart_due: {description: Whether the broker runs and C(files) have changed since., returned: success, type: bool}
refusals: {description: The sentences., returned: failure, type: list, elements: str}
"""

import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import rabbitmq_node
from ..module_utils import rabbitmq_refusals as refusals


def package_status() -> str:
    """dpkg's status of the package: C(installed), C(not-installed), or that of an interrupted installation."""
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", "rabbitmq-server"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout or "not-installed"


def cookie_differs(data_dir: Path, cookie: str) -> bool:
    try:
        return (data_dir / ".erlang.cookie").read_text(encoding="utf-8").strip() != cookie
    except FileNotFoundError:
        return False


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "data_dir": {"type": "path", "required": True},
            "nodename": {"type": "str", "required": True},
            "series": {"type": "str", "required": True},
            "disk_free_limit_bytes": {"type": "int", "required": True},
            "listeners": {"type": "list", "elements": "str", "required": True},
            "distribution_address": {"type": "str", "required": True},
            "erlang_cookie": {"type": "str", "required": True, "no_log": True},
            "vhosts": {"type": "list", "elements": "dict", "required": True},
            "vhosts_removed": {"type": "list", "elements": "str", "required": True},
            "users": {"type": "list", "elements": "dict", "required": True},
            "user_passwords": {"type": "dict", "required": True, "no_log": True},
            "policies": {"type": "list", "elements": "dict", "required": True},
            "parameters": {"type": "dict", "default": {}},
            "plugins": {"type": "list", "elements": "str", "default": []},
            "files": {"type": "list", "elements": "path", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    status = package_status()
    installed = status == "installed"
    data_dir = Path(given["data_dir"])
    try:
        node, unclear = rabbitmq_node.node_of(data_dir, given["nodename"]), []
        nodes = [node]
    except rabbitmq_node.Unclear as sentence:
        node, unclear = given["nodename"], [str(sentence)]
        nodes = rabbitmq_node.nodes_with_data(data_dir)
    present = rabbitmq_node.virtual_hosts(data_dir, node)
    sentences = [
        *unclear,
        *refusals.cookie_refusals(given["erlang_cookie"]),
        *refusals.object_refusals(
            given["vhosts"], given["vhosts_removed"], given["users"], given["user_passwords"], given["policies"]
        ),
        *refusals.address_refusals(given["listeners"], given["distribution_address"], ours=status != "not-installed"),
        *refusals.disk_refusals(data_dir, given["disk_free_limit_bytes"]),
        *refusals.data_refusals(data_dir, given["series"], nodes),
        *refusals.removal_refusals(present, given["vhosts"], given["vhosts_removed"]),
        *refusals.configuration_refusals(),
        *refusals.settings_refusals(given["parameters"], given["plugins"], installed),
    ]
    if sentences:
        text = "Nothing was changed. This host cannot run the broker as declared:\n" + "\n".join(f"  * {s}" for s in sentences)
        module.fail_json(msg=text, refusals=sentences)
    module.exit_json(
        installed=installed,
        nodename=node,
        members=rabbitmq_node.members(data_dir, node),
        cookie_differs=installed and cookie_differs(data_dir, given["erlang_cookie"]),
        restart_due=installed and rabbitmq_node.restart_due(given["files"]),
    )


if __name__ == "__main__":
    main()
