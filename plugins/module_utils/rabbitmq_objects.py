"""A broker's declared objects as definitions, and their difference from those that it has."""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from collections.abc import Callable, Iterator
from typing import Any

from . import rabbitmq_cli

Definitions = dict[str, list[dict[str, Any]]]

DEAD_LETTERS = "dead_letters"
WORK_POLICY = "work"
CLASSIC_POLICY = "work_classic"
POLICIES = (WORK_POLICY, CLASSIC_POLICY, DEAD_LETTERS)

# The identifying fields of each kind, in the order of an import: each kind needs those before it.
KEYS: dict[str, tuple[str, ...]] = {
    "vhosts": ("name",),
    "users": ("name",),
    "permissions": ("user", "vhost"),
    "policies": ("vhost", "name"),
    "exchanges": ("vhost", "name"),
    "queues": ("vhost", "name"),
    "bindings": ("vhost", "source", "destination_type", "destination", "routing_key"),
}

# Every queue except the dead letters and Celery's internal ones: remote control, replies, events, and the 28 queues of its native
# delayed delivery, whose messages expire into the next one instead of being delivered.
WORK_QUEUES = (
    r"^(?!dead_letters$|celery_delayed_|celeryev($|\.)|amq\.|.*\.celery\.pidbox$|"
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$).*"
)

# The same, without queues of one process (replies, kombu's bcast.UUID): nobody could replay a message of theirs.
CLASSIC_QUEUES = WORK_QUEUES.replace("(?!", r"(?!.*[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$|", 1)

# at-least-once: the broker moves a job with publisher confirms; it requires reject-publish.
TO_DEAD_LETTERS = {"dead-letter-exchange": DEAD_LETTERS, "dead-letter-strategy": "at-least-once", "overflow": "reject-publish"}

# What a classic queue knows of it. A policy with any key that a type of queue lacks does not apply to queues of that type at all
# (tried with 3.10.8 and 4.0.5), so each type of queue gets the policy with the highest priority that fits it; a stream gets none.
CLASSIC_TO_DEAD_LETTERS = {key: value for key, value in TO_DEAD_LETTERS.items() if key != "dead-letter-strategy"}

# All but the dead letters: an application can neither consume nor delete them.
PERMITTED = r"^(?!dead_letters$).*"

HASHES: dict[str, Callable[[bytes], Any]] = {
    "rabbit_password_hashing_sha256": hashlib.sha256,
    "rabbit_password_hashing_sha512": hashlib.sha512,
}


class Refusal(Exception):
    """A message for the operator."""


def password_matches(password: str, user: dict[str, Any]) -> bool:
    """Whether an exported user has this password."""
    digest = HASHES.get(user.get("hashing_algorithm", ""))
    stored = base64.b64decode(user.get("password_hash") or "")
    if digest is None or len(stored) < 5:
        return False
    salt, known = stored[:4], stored[4:]
    return secrets.compare_digest(digest(salt + password.encode()).digest(), known)


def major(version: str) -> int:
    """The first number of a version; an unknown version counts as the newest."""
    return int(version.split(".")[0]) if version else 4


def dead_letter_objects(vhost: str, delivery_limit: int, version: str) -> Definitions:
    """The objects of each virtual host that keep a job that fails too often."""
    own = {"vhost": vhost, "name": DEAD_LETTERS, "durable": True, "auto_delete": False}
    common = {"vhost": vhost, "apply-to": "queues", "priority": 0}
    work = {"name": WORK_POLICY, "pattern": WORK_QUEUES, "definition": {"delivery-limit": delivery_limit, **TO_DEAD_LETTERS}}
    classic = {"name": CLASSIC_POLICY, "pattern": CLASSIC_QUEUES, "definition": CLASSIC_TO_DEAD_LETTERS, "priority": -1}
    policies = [common | work, common | classic]
    if major(version) >= 4:
        # Since 4.0 a dead letter that was requeued 20 times would be dropped; 3.10 has no such limit, and does not know -1.
        unlimited = {"delivery-limit": -1}
        policies.append(common | {"name": DEAD_LETTERS, "pattern": f"^{DEAD_LETTERS}$", "definition": unlimited})
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
    """A declared policy as a definition. A queue has one policy only, so a policy for queues includes the promise's settings."""
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
    """Everything declared, as definitions; users have their C(password) instead of a hash."""
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
    """Whether the broker's object equals the declared one, in each declared field."""
    if kind == "users":
        return tags_of(have) == want["tags"] and password_matches(want["password"], have)
    return all(have.get(field) == value for field, value in want.items())


def upserts(want: Definitions, have: Definitions, salt: Callable[[int], bytes] = secrets.token_bytes) -> Definitions:
    """The part of C(want) that is new or different, ready for an import."""
    changed: Definitions = {}
    for kind in KEYS:
        present = indexed(kind, have)
        for thing in want[kind]:
            old = present.get(identity(kind, thing))
            if old is not None and agrees(kind, thing, old):
                continue
            if old is not None and kind in ("exchanges", "queues"):
                raise Refusal(
                    f"The virtual host {thing['vhost']!r} has the {kind[:-1]} {thing['name']!r} with other arguments or of "
                    f"another type than the dead letters need, and the broker cannot change these. Empty it and delete it "
                    f"(rabbitmqctl delete_queue), then run again."
                )
            if kind == "users":
                # Every release imports tags as one string with commas, only some as a list.
                thing = {
                    "name": thing["name"],
                    "tags": ",".join(thing["tags"]),
                    **rabbitmq_cli.password_hash(thing["password"], salt(4)),
                }
            changed.setdefault(kind, []).append(thing)
    return changed


def prunes(want: Definitions, have: Definitions) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Kind and identity of undeclared objects, in the order of deletion."""
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
    """rabbitmqctl's arguments that delete the object."""
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


def described(kind: str, key: tuple[str, ...]) -> str:
    return f"{kind}: {' / '.join(part or '-' for part in key)}"


def public(definitions: Definitions, scope: Definitions) -> list[str]:
    """The managed objects as lines of a diff, without passwords and hashes; queues, exchanges and bindings only in ``scope``."""
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
    """Before and after for the diff; a changed password is mentioned, not shown."""
    before, after = public(have, want), public(want, want)
    known = indexed("users", have)
    for user in changed.get("users", []):
        old = known.get((user["name"],))
        if old is not None and tags_of(old) == sorted(filter(None, user["tags"].split(","))):
            before.append(f"password of {user['name']}: (unchanged)")
        after.append(f"password of {user['name']}: (changed)")
    return {"before": "\n".join(before) + "\n", "after": "\n".join(after) + "\n"}
