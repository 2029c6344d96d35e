#!/usr/bin/python3
"""What a broker holds: virtual hosts, users, permissions, policies and each virtual host's dead letters."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_definitions
short_description: Declare what a RabbitMQ broker holds, and prune what is not declared
description:
  - Reads the broker's definitions, adds and changes what differs in one import, and deletes users, permissions, policies
    and virtual hosts that are not declared. Queues, exchanges and bindings are never deleted but with their virtual host.
  - Each declared virtual host gets a quorum queue C(dead_letters) behind a fanout exchange of that name, and policies that
    send each work queue's job there when its delivery limit is reached, never losing it on the way.
  - A virtual host that is not declared and holds messages or serves consumers is never deleted, unless I(vhosts_removed)
    names it.
  - Passwords are compared with the broker's salted hashes; only a hash leaves this process.
  - Needs no management plugin.
options:
  vhosts:
    description: Virtual hosts, each C(name).
    type: list
    elements: dict
    required: true
  vhosts_removed:
    description: Virtual hosts to delete with all that they hold.
    type: list
    elements: str
    default: []
  users:
    description: Users, each C(name), C(tags), C(permissions) (C(vhost), C(configure), C(write), C(read)).
    type: list
    elements: dict
    required: true
  user_passwords:
    description: User to password.
    type: dict
    required: true
  policies:
    description: Policies, each C(vhost), C(name), C(pattern), C(apply_to), C(definition), C(priority).
    type: list
    elements: dict
    default: []
  delivery_limit:
    description: Deliveries without an ack before a job goes to the dead letters.
    type: int
    required: true
  series:
    description: Series of the package, e.g. C(4.0), by which check mode predicts while no broker can say its version.
    type: str
    default: ""
  native_code:
    description: Fail unless the broker runs as native code, by Erlang's JIT.
    type: bool
    default: false
author: maintainers
"""

EXAMPLES = r"""
- name: Declare what the broker holds
  rabbitmq_definitions:
    vhosts: [{name: shop}]
    users: [{name: shop, permissions: [{vhost: shop}]}]
    user_passwords: "{{ vault_rabbitmq_user_passwords }}"
    delivery_limit: 20
"""

RETURN = r"""
version: {description: The broker's version; I(series) in check mode while there is none., returned: success, type: str}
actions: {description: What was done or would be, one line each., returned: success, type: list, elements: str}
"""

import base64
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import rabbitmq_cli

Definitions = dict[str, list[dict[str, Any]]]

STATE = """
    #{definitions => rabbit_definitions:all_definitions(), flavour => erlang:system_info(emu_flavor),
      flags => maps:keys(rabbit_feature_flags:list(disabled))}
"""

# Without it a quorum queue's dead letters are at most once. 3.9 brought it, and an upgrade leaves it disabled.
NEEDED_FLAGS = ("stream_queue",)

DEAD_LETTERS = "dead_letters"
WORK_POLICY = "work"

# Which fields make an object the one that it is. In the order of an import: each needs those before it.
KEYS: dict[str, tuple[str, ...]] = {
    "vhosts": ("name",),
    "users": ("name",),
    "permissions": ("user", "vhost"),
    "policies": ("vhost", "name"),
    "exchanges": ("vhost", "name"),
    "queues": ("vhost", "name"),
    "bindings": ("vhost", "source", "destination_type", "destination", "routing_key"),
}

# Every queue but the dead letters themselves, and what Celery keeps for its own use: remote control, replies, events, and
# the 28 queues of its native delayed delivery, whose messages expire into the next one instead of being delivered.
WORK_QUEUES = (
    r"^(?!dead_letters$|celery_delayed_|celeryev($|\.)|amq\.|.*\.celery\.pidbox$|"
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$).*"
)

# at-least-once: the broker moves a job as a publisher with confirms would, and it demands reject-publish.
TO_DEAD_LETTERS = {"dead-letter-exchange": DEAD_LETTERS, "dead-letter-strategy": "at-least-once", "overflow": "reject-publish"}

# All but the dead letters: an application can neither take back nor delete what went wrong.
PERMITTED = r"^(?!dead_letters$).*"

HASHES: dict[str, Callable[[bytes], Any]] = {
    "rabbit_password_hashing_sha256": hashlib.sha256,
    "rabbit_password_hashing_sha512": hashlib.sha512,
}


class Refusal(Exception):
    """A sentence for a person."""


def password_matches(password: str, user: dict[str, Any]) -> bool:
    """Whether the hash of an exported user is of this password."""
    digest = HASHES.get(user.get("hashing_algorithm", ""))
    stored = base64.b64decode(user.get("password_hash") or "")
    if digest is None or len(stored) < 5:
        return False
    salt, known = stored[:4], stored[4:]
    return secrets.compare_digest(digest(salt + password.encode()).digest(), known)


def major(version: str) -> int:
    """The first number of a version; an unknown one counts as the newest."""
    return int(version.split(".")[0]) if version else 4


def dead_letter_objects(vhost: str, delivery_limit: int, version: str) -> Definitions:
    """The promise of each virtual host: a job that fails too often is kept where somebody sees it."""
    own = {"vhost": vhost, "name": DEAD_LETTERS, "durable": True, "auto_delete": False}
    policies = [
        {
            "vhost": vhost,
            "name": WORK_POLICY,
            "pattern": WORK_QUEUES,
            "apply-to": "queues",
            "priority": 0,
            "definition": {"delivery-limit": delivery_limit, **TO_DEAD_LETTERS},
        }
    ]
    if major(version) >= 4:
        # From 4.0 on a dead letter that was looked at and put back 20 times would be dropped; 3.10 knows no such limit, nor -1.
        unlimited = {"delivery-limit": -1}
        policies.append(
            {
                "vhost": vhost,
                "name": DEAD_LETTERS,
                "pattern": f"^{DEAD_LETTERS}$",
                "apply-to": "queues",
                "priority": 0,
                "definition": unlimited,
            }
        )
    return {
        "policies": policies,
        "exchanges": [{**own, "type": "fanout", "arguments": {}}],
        "queues": [{**own, "arguments": {"x-queue-type": "quorum"}}],
        "bindings": [
            {
                "vhost": vhost,
                "source": DEAD_LETTERS,
                "destination": DEAD_LETTERS,
                "destination_type": "queue",
                "routing_key": "",
                "arguments": {},
            }
        ],
    }


def declared_policy(policy: dict[str, Any], delivery_limit: int) -> dict[str, Any]:
    """A declared policy as the broker takes it. A queue obeys one policy only, so one for queues carries the promise too."""
    apply_to = policy.get("apply_to") or "queues"
    promise = {"delivery-limit": delivery_limit, **TO_DEAD_LETTERS} if apply_to == "queues" else {}
    priority = policy.get("priority")
    return {
        "vhost": policy["vhost"],
        "name": policy["name"],
        "pattern": policy["pattern"],
        "apply-to": apply_to,
        "priority": 1 if priority is None else priority,
        "definition": {**promise, **policy["definition"]},
    }


def wanted(params: dict[str, Any], version: str) -> Definitions:
    """Everything declared, as definitions; a user's password stands in it as C(password)."""
    result: Definitions = {kind: [] for kind in KEYS}
    limit = params["delivery_limit"]
    for vhost in params["vhosts"]:
        result["vhosts"].append({"name": vhost["name"]})
        for kind, objects in dead_letter_objects(vhost["name"], limit, version).items():
            result[kind] += objects
    for user in params["users"]:
        name = user["name"]
        if not params["user_passwords"].get(name):
            raise Refusal(f"The user {name!r} has no password in user_passwords. Add it there, or take the user out of users.")
        result["users"].append({"name": name, "tags": sorted(user.get("tags") or []), "password": params["user_passwords"][name]})
        for permission in user.get("permissions") or []:
            grants = {
                right: PERMITTED if permission.get(right) is None else permission[right]
                for right in ("configure", "write", "read")
            }
            result["permissions"].append({"user": name, "vhost": permission["vhost"], **grants})
    result["policies"] += [declared_policy(policy, limit) for policy in params["policies"]]
    return result


def identity(kind: str, thing: dict[str, Any]) -> tuple[str, ...]:
    return tuple(thing[key] for key in KEYS[kind])


def indexed(kind: str, definitions: Definitions) -> dict[tuple[str, ...], dict[str, Any]]:
    return {identity(kind, thing): thing for thing in definitions.get(kind, [])}


def tags_of(user: dict[str, Any]) -> list[str]:
    """Exported as a list since 3.9, as a comma string before."""
    tags = user.get("tags") or []
    return sorted(tags.split(",") if isinstance(tags, str) else tags)


def agrees(kind: str, want: dict[str, Any], have: dict[str, Any]) -> bool:
    """Whether the broker's object is what is declared, in each field that a declaration has."""
    if kind == "users":
        return tags_of(have) == want["tags"] and password_matches(want["password"], have)
    return all(have.get(field) == value for field, value in want.items())


def upserts(want: Definitions, have: Definitions, salt: Callable[[int], bytes] = secrets.token_bytes) -> Definitions:
    """The part of C(want) that the broker does not have so, ready to be imported."""
    changed: Definitions = {}
    for kind in KEYS:
        present = indexed(kind, have)
        for thing in want[kind]:
            old = present.get(identity(kind, thing))
            if old is not None and agrees(kind, thing, old):
                continue
            if old is not None and kind in ("exchanges", "queues"):
                raise Refusal(
                    f"The virtual host {thing['vhost']!r} has {kind[:-1]} {thing['name']!r} with other arguments or of another "
                    "type than the "
                    "dead letters need, and such a thing cannot be changed. Empty it and delete it (rabbitmqctl delete_queue), "
                    "then run again."
                )
            if kind == "users":
                # An import takes tags as one comma string on every release, a list on some.
                thing = {
                    "name": thing["name"],
                    "tags": ",".join(thing["tags"]),
                    **rabbitmq_cli.password_hash(thing["password"], salt(4)),
                }
            changed.setdefault(kind, []).append(thing)
    return changed


def prunes(want: Definitions, have: Definitions) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What the broker has and nobody declared: kind and identity, in the order of deletion."""
    gone = {
        kind: [key for key in indexed(kind, have) if key not in indexed(kind, want)]
        for kind in ("policies", "permissions", "users", "vhosts")
    }
    users, vhosts = {name for (name,) in gone["users"]}, {name for (name,) in gone["vhosts"]}
    for key in gone["policies"]:
        if key[0] not in vhosts:
            yield "policies", key
    for key in gone["permissions"]:
        if key[0] not in users and key[1] not in vhosts:
            yield "permissions", key
    for key in gone["users"]:
        yield "users", key
    for key in gone["vhosts"]:
        yield "vhosts", key


def deletion(kind: str, key: tuple[str, ...]) -> list[str]:
    """The arguments with which rabbitmqctl deletes a thing."""
    match kind:
        case "policies":
            return ["clear_policy", "-p", key[0], key[1]]
        case "permissions":
            return ["clear_permissions", "-p", key[1], key[0]]
        case "users":
            return ["delete_user", key[0]]
        case "vhosts":
            return ["delete_vhost", key[0]]
    raise ValueError(kind)


def held_back(vhosts: list[str], removed: list[str], in_use: Callable[[str], tuple[int, int] | None]) -> Iterator[str]:
    """Sentences for virtual hosts that were named once only and may hold messages or serve workers."""
    for name in vhosts:
        if name not in removed and (reason := rabbitmq_cli.kept_because(name, in_use(name))):
            yield reason


def described(kind: str, key: tuple[str, ...]) -> str:
    return f"{kind}: {' / '.join(part or '-' for part in key)}"


def public(definitions: Definitions, scope: Definitions) -> list[str]:
    """Lines for a diff: what is managed, without a password or a hash. Of queues and the like only those in ``scope``."""
    lines = []
    for kind in KEYS:
        mine = indexed(kind, scope)
        for key, thing in sorted(indexed(kind, definitions).items()):
            if kind in ("exchanges", "queues", "bindings") and key not in mine:
                continue
            shown = {field: value for field, value in thing.items() if field not in KEYS[kind]}
            match kind:
                case "vhosts":
                    shown = {}
                case "users":
                    shown = {"tags": tags_of(thing)}
                case "permissions":
                    shown = {right: thing[right] for right in ("configure", "write", "read")}
                case "queues":
                    shown.pop("type", None)
            lines.append(f"{described(kind, key)} {json.dumps(shown, sort_keys=True) if shown else ''}".rstrip())
    return lines


def difference(want: Definitions, have: Definitions, changed: Definitions) -> dict[str, str]:
    """Before and after, as a person reads them; a password that changes is said, not shown."""
    before, after = public(have, want), public(want, want)
    known = indexed("users", have)
    for user in changed.get("users", []):
        old = known.get((user["name"],))
        if old is not None and tags_of(old) == sorted(filter(None, user["tags"].split(","))):
            before.append(f"password of {user['name']}: (as it was)")
        after.append(f"password of {user['name']}: (set anew)")
    return {"before": "\n".join(before) + "\n", "after": "\n".join(after) + "\n"}


def installed() -> bool:
    return os.access(rabbitmq_cli.CLI, os.X_OK)


def read() -> dict[str, Any]:
    """The broker's definitions, the flavour of its emulator and its disabled feature flags, in one call of the tool."""
    return rabbitmq_cli.ask(STATE)


def native_code_refusal(flavour: str) -> str:
    return (
        f"rabbitmq_require_native_code is true, and this Erlang runs as {flavour!r} instead of 'jit'. "
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
