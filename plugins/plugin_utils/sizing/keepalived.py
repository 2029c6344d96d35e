"""The rules of role keepalived about the inputs of one host. Rules across hosts: refusals/keepalived.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from ansible.errors import AnsibleFilterError

from ..fleet.inputs import whole
from ..fleet.model import ip, same_address
from ..fleet.reach import split_place

# Above all others the protocol has only 255, the owner of an address, who would not obey nopreempt.
PRIORITY = 200
ROUTER_IDS = range(1, 256)
# What keepalived's configuration takes as one word of a command.
WORD = re.compile(r"[A-Za-z0-9_.~/?&=%:+@-]*")

Instance = Mapping[str, Any]


def keepalived_priority(members: Mapping[str, Any], name: str) -> int:
    """A different priority for each member, which decides only while nobody has the address yet.

    >>> [keepalived_priority({"web2": "10.0.0.42", "web1": "10.0.0.41"}, name) for name in ("web1", "web2")]
    [200, 199]
    """
    return PRIORITY - sum(other < name for other in members)


def keepalived_lines(own: Mapping[str, Any], parameters: Mapping[str, Any], section: str) -> list[str]:
    """The lines of a section: the role's keywords, then the operator's; refuses keywords that both have.

    >>> keepalived_lines({"nopreempt": True}, {"vrrp_instance": {"garp_master_delay": 2}}, "vrrp_instance")
    ['nopreempt', 'garp_master_delay 2']
    """
    added = parameters.get(section) or {}
    if twice := sorted(set(own) & set(added)):
        raise AnsibleFilterError(
            f"keepalived_parameters.{section} names {', '.join(twice)}, which the role sets itself. Take it out, and set the "
            f"input of the keyword's name if there is one"
        )
    lines = [str(key) if value is True else f"{key} {value}" for key, value in {**own, **added}.items()]
    if wrong := [line for line in lines if re.search(r"[\n{}]", line)]:
        raise AnsibleFilterError(
            f"keepalived_parameters.{section} has '{wrong[0]}', but takes one keyword with its value per line. Correct it"
        )
    return lines


def keepalived_problems(
    members: Any, name: str, instances: Sequence[Instance], real_server: Any, words: Mapping[str, Any]
) -> list[str]:
    """Faults of a host's inputs, as sentences; the argument specs refuse wrong types. words: inputs that become a command's."""
    if not isinstance(members, Mapping):
        return []
    return [*_members(members, name), *_instances(members, name, instances), *_server(members, name, real_server), *_words(words)]


def _members(members: Mapping[str, Any], name: str) -> Iterator[str]:
    if len(members) == 1:
        yield (
            f"keepalived_members has only {', '.join(members)}, so no host could take over its address. Add a second host to the "
            f"group, or take the role out of topology_roles."
        )
    if name not in members:
        yield f"keepalived_members does not have {name}, which carries the role. Add it, or take the host out of the group."
    for member, address in members.items():
        if ip(address) is None:
            yield (
                f"keepalived_members has '{address}' for {member}, but needs an address: a member must not depend on the "
                f"resolver. Write the host's private address."
            )
    families = {parsed.version for address in members.values() if (parsed := ip(address))}
    if len(families) > 1:
        yield "keepalived_members mixes IPv4 and IPv6, but a virtual address has one family. Write addresses of one family."


def _instances(members: Mapping[str, Any], name: str, instances: Sequence[Instance]) -> Iterator[str]:
    if not instances:
        yield "keepalived_vrrp_instances is empty, so there is no address to keep. Add one, or take the host out of the group."
    own = ip(members.get(name))
    for instance in instances:
        address, identity = instance.get("virtual_ipaddress"), instance.get("virtual_router_id")
        parsed = ip(address)
        if parsed is None:
            yield f"keepalived_vrrp_instances has '{address}', which is not an address. Write one without a prefix."
        elif own and own.version != parsed.version:
            yield (
                f"keepalived_vrrp_instances has {address}, which is IPv{parsed.version}, but {name} has {own} in "
                f"keepalived_members. Write a virtual address of the same family."
            )
        if whole(identity) not in ROUTER_IDS:
            yield f"keepalived_vrrp_instances: virtual_router_id of {address} is {identity}, but must be 1 to 255. Correct it."
    for first, second in combinations(instances, 2):
        addresses = first.get("virtual_ipaddress"), second.get("virtual_ipaddress")
        if same_address(*addresses):
            yield f"keepalived_vrrp_instances has {addresses[0]} twice. Take one of them out."
        elif first.get("virtual_router_id") == second.get("virtual_router_id"):
            yield (
                f"keepalived_vrrp_instances: {' and '.join(map(str, addresses))} both have the virtual_router_id "
                f"{first.get('virtual_router_id')}, so keepalived could not tell their adverts apart. Give one of them another."
            )


def _server(members: Mapping[str, Any], name: str, real_server: Any) -> Iterator[str]:
    place, own = split_place(real_server), ip(members.get(name))
    if place is None or ip(place[0]) is None:
        yield f"keepalived_real_server is '{real_server}', which is not address:port, e.g. 10.0.0.41:8000. Correct it."
    elif own and (ip(place[0]).version != own.version or ip(place[0]).is_unspecified or ip(place[0]).is_loopback):
        yield (
            f"keepalived_real_server is {real_server}, but connections to the virtual address can only be passed on to an "
            f"IPv{own.version} address on which the server listens for others, such as {own}. Correct it."
        )


def _words(words: Mapping[str, Any]) -> Iterator[str]:
    for source, word in words.items():
        if not WORD.fullmatch(str(word)):
            yield f"{source} is '{word}', but takes no blanks or quotes, because it is a part of the check's command. Correct it."
