"""The arithmetic and the rules of role etcd."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

from ..fleet.inputs import number, whole
from ..fleet.model import Host, ip, same_address
from ..fleet.units import MIB

# A majority of four is three: the fourth member makes the loss of two no safer, and two or four in two places decide nothing.
SIZES = (3, 5)
# Upstream's rule: shorter, and a single late heartbeat begins an election.
HEARTBEATS_PER_ELECTION = 5
SETTING = re.compile(r"[a-z][a-z0-9-]*")
# Measured with Patroni's keys: 62 MiB resident. Go lets its heap double before it collects.
ETCD = 128 * MIB


def etcd_settings(own: Mapping[str, Any], parameters: Mapping[str, Any]) -> dict[str, str]:
    """etcd's environment variables: the role's settings, then the operator's; refuses settings that both have.

    >>> etcd_settings({"client-cert-auth": True}, {"snapshot-count": 5000})
    {'ETCD_CLIENT_CERT_AUTH': 'true', 'ETCD_SNAPSHOT_COUNT': '5000'}
    """
    if twice := sorted(set(own) & set(parameters)):
        raise AnsibleFilterError(
            f"etcd_parameters names {', '.join(twice)}, which the role sets itself. Take it out, and set the input of the "
            f"setting's name if there is one"
        )
    lines = {}
    for key, value in {**own, **parameters}.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        if not SETTING.fullmatch(str(key)) or str(key).startswith("initial-cluster"):
            raise AnsibleFilterError(
                f"etcd_parameters names '{key}', which is not a setting that can be added here. Write it as upstream's flag, "
                f"e.g. snapshot-count"
            )
        if re.search(r"[\n\"'\\]", text):
            raise AnsibleFilterError(
                f"etcd_parameters sets {key} to a text with a quote, backslash or line break, which a unit's file cannot hold. "
                f"Correct it"
            )
        lines[f"ETCD_{key.upper().replace('-', '_')}"] = text
    return lines


def etcd_reports(hostvars: Mapping[str, Any], members: Mapping[str, str]) -> dict[str, Any]:
    """Member to its answer of etcd_member's step report in this run."""
    answers = {name: (hostvars.get(name) or {}).get("__etcd_member") or {} for name in members}
    return {name: answer["report"] for name, answer in answers.items() if answer.get("report")}


def etcd_problems(members: Any, name: str, listen_address: str, heartbeat: Any, election: Any) -> list[str]:
    """Faults of a member's inputs, as sentences; the argument specs refuse wrong types."""
    if not isinstance(members, Mapping):
        return []
    return [*_members(members), *_own(members, name, listen_address), *_timers(heartbeat, election)]


def _members(members: Mapping[str, Any]) -> Iterator[str]:
    if len(members) not in SIZES:
        yield (
            f"etcd_members has {len(members)} ({', '.join(map(str, members)) or 'nobody'}), but takes 3 or 5: an even number "
            f"survives no more lost hosts than the odd one below it, and fewer than 3 survive none. Add a host to the group, or "
            f"take one out."
        )
    for member, address in members.items():
        if ip(address) is None:
            yield (
                f"etcd_members has '{address}' for {member}, but needs an address: a member must not depend on the resolver. "
                f"Write the host's private address."
            )
    names = list(members)
    for number_of, first in enumerate(names):
        for second in names[number_of + 1 :]:
            if same_address(members[first], members[second]):
                yield f"etcd_members has {first} and {second} both at {members[first]}. Correct one of them."


def _own(members: Mapping[str, Any], name: str, listen_address: str) -> Iterator[str]:
    if name not in members:
        yield f"etcd_members does not have {name}, which carries the role. Add it, or take the host out of the group."
    elif not same_address(members[name], listen_address):
        yield (
            f"etcd_listen_address is {listen_address}, but the other members reach {name} at {members[name]} (etcd_members). "
            f"Set the same address in both."
        )


def _timers(heartbeat: Any, election: Any) -> Iterator[str]:
    beat, limit = whole(heartbeat), whole(election)
    if beat and limit and limit < HEARTBEATS_PER_ELECTION * beat:
        yield (
            f"etcd_election_timeout is {limit} ms, but must be at least {HEARTBEATS_PER_ELECTION} times "
            f"etcd_heartbeat_interval ({beat} ms): otherwise a late heartbeat begins an election. Raise it to "
            f"{HEARTBEATS_PER_ELECTION * beat}, or lower the interval."
        )


def memory_parts(host: Host) -> list[tuple[str, int]] | None:
    """etcd's memory with its data at the quota, which it maps; None if an input is unknown."""
    quota = number(host, "etcd_quota_backend_bytes")
    return None if quota is None else [("etcd", ETCD), ("its data at etcd_quota_backend_bytes", quota)]
