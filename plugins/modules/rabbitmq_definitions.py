#!/usr/bin/python3
"""A broker's virtual hosts, users, permissions, policies and dead letters."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_definitions
short_description: Declare a RabbitMQ broker's objects and remove undeclared ones
description:
  - Reads the broker's definitions, imports the differences at once, and deletes users, permissions, policies and virtual
    hosts that are not declared. Queues, exchanges and bindings are only deleted with their virtual host.
  - Each declared virtual host gets a quorum queue C(dead_letters) behind a fanout exchange of that name, and policies that send
    each job there, without loss, when it reaches its work queue's delivery limit.
  - An undeclared virtual host with messages or consumers is only deleted if I(vhosts_removed) names it.
  - Passwords are compared with the broker's salted hashes; only hashes leave this process.
  - Needs no management plugin.
options:
  vhosts: {description: 'Virtual hosts, each C(name).', type: list, elements: dict, required: true}
  vhosts_removed: {description: Virtual hosts to delete with all their contents., type: list, elements: str, default: []}
  users:
    description: Users, each C(name), C(tags), C(permissions) (C(vhost), C(configure), C(write), C(read)).
    type: list
    elements: dict
    required: true
  user_passwords: {description: User to password., type: dict, required: true}
  policies:
    description: Policies, each C(vhost), C(name), C(pattern), C(apply_to), C(definition), C(priority).
    type: list
    elements: dict
    default: []
  delivery_limit: {description: Deliveries of a job without an ack before it becomes a dead letter., type: int, required: true}
  series:
    description: Series of the package, e.g. C(4.0), for check mode on a host without a broker.
    type: str
    default: ""
  native_code: {description: Fail unless Erlang's JIT runs the broker as native code., type: bool, default: false}
author: maintainers
"""

EXAMPLES = r"""
- name: Declare the broker's objects
  rabbitmq_definitions:
    vhosts: [{name: shop}]
    users: [{name: shop, permissions: [{vhost: shop}]}]
    user_passwords: "{{ vault_rabbitmq_user_passwords }}"
    delivery_limit: 20
"""

RETURN = r"""
version: {description: The broker's version; I(series) in check mode without a broker., returned: success, type: str}
actions: {description: 'Each change, or predicted change.', returned: success, type: list, elements: str}
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import rabbitmq_cli
from ..module_utils.rabbitmq_objects import Refusal, deletion, described, difference, identity, prunes, upserts, wanted

STATE = """
    #{definitions => rabbit_definitions:all_definitions(), flavour => erlang:system_info(emu_flavor),
      flags => maps:keys(rabbit_feature_flags:list(disabled))}
"""

# Without it a quorum queue can lose dead letters. It came with 3.9, and an upgrade leaves it disabled.
NEEDED_FLAGS = ("stream_queue",)


def held_back(vhosts: list[str], removed: list[str], in_use: Callable[[str], tuple[int, int] | None]) -> Iterator[str]:
    """Sentences for undeclared virtual hosts that have messages or consumers and are not in ``removed``."""
    for name in vhosts:
        if name not in removed and (reason := rabbitmq_cli.kept_because(name, in_use(name))):
            yield reason


def installed() -> bool:
    return os.access(rabbitmq_cli.CLI, os.X_OK)


def read() -> dict[str, Any]:
    """The broker's definitions, emulator flavour and disabled feature flags, in one call."""
    return rabbitmq_cli.ask(STATE)


def native_code_refusal(flavour: str) -> str:
    return (
        f"rabbitmq_require_native_code is true, but this Erlang runs as {flavour!r} instead of 'jit'. "
        "Install an Erlang with the JIT (Debian's has it on amd64 and arm64), or set rabbitmq_require_native_code: false."
    )


def run(params: dict[str, Any], check_mode: bool) -> dict[str, Any]:
    present = installed()
    if not present and not check_mode:
        raise Refusal(f"There is no broker on this host ({rabbitmq_cli.CLI} is missing). Install rabbitmq-server first.")
    state = read() if present else {"definitions": {}, "flags": []}
    if present and params["native_code"] and state["flavour"] != "jit":
        raise Refusal(native_code_refusal(state["flavour"]))
    have = state["definitions"]
    version = have.get("rabbitmq_version") or params["series"]
    want = wanted(params, version)
    changed = upserts(want, have)
    removals = list(prunes(want, have))
    flags = [flag for flag in NEEDED_FLAGS if flag in state["flags"]]
    doomed = [key[0] for kind, key in removals if kind == "vhosts"]
    if sentences := list(held_back(doomed, params["vhosts_removed"], rabbitmq_cli.in_use)):
        raise Refusal("\n".join(sentences))
    actions = [f"enable feature flag: {flag}" for flag in flags]
    actions += [f"set {described(kind, identity(kind, thing))}" for kind, things in changed.items() for thing in things]
    actions += [f"delete {described(kind, key)}" for kind, key in removals]
    if not check_mode:
        for flag in flags:
            rabbitmq_cli.call("enable_feature_flag", flag)
        if changed:
            rabbitmq_cli.load(changed)
        for kind, key in removals:
            rabbitmq_cli.call(*deletion(kind, key))
    return {"changed": bool(actions), "actions": actions, "version": version, "diff": difference(want, have, changed)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "vhosts": {"type": "list", "elements": "dict", "required": True},
            "vhosts_removed": {"type": "list", "elements": "str", "default": []},
            "users": {"type": "list", "elements": "dict", "required": True},
            "user_passwords": {"type": "dict", "required": True, "no_log": True},
            "policies": {"type": "list", "elements": "dict", "default": []},
            "delivery_limit": {"type": "int", "required": True},
            "series": {"type": "str", "default": ""},
            "native_code": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module.params, module.check_mode))
    except (Refusal, rabbitmq_cli.CliError) as refusal:
        module.fail_json(msg=str(refusal))


if __name__ == "__main__":
    main()
