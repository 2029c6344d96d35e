"""The rules of role host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..network.places import faults, network


def ssh_problems(user: str, users: Iterable[str], password_given: Any) -> list[str]:
    """Why this inventory would be shut out of its own host by what the role makes of SSH, as sentences."""
    found = []
    if password_given:
        found.append(
            "the inventory connects with a password (ansible_password), and SSH will let in keys only. Put a key there first "
            "(ssh-copy-id), name it in ansible_ssh_private_key_file, and take ansible_password out."
        )
    if not user:
        found.append(
            "host_ssh_user is empty, since the inventory does not set ansible_user. SSH admits only listed accounts, "
            "so it would shut Ansible out. Set ansible_user to the account that Ansible logs in with."
        )
    for account in [user, *users]:
        if "@" in account or "\\" in account:
            found.append(
                f"{account!r} (ansible_user or host_ssh_users) is an account with a domain. sshd reads what follows an @ as the "
                f"client's host, and would shut everybody out. Make a local account without @ or backslash, and name that."
            )
        elif any(letter.isspace() or letter in "*?!#\"'" for letter in account):
            found.append(f"host_ssh_users names {account!r}, which is no account. Name each account by itself, without patterns.")
    return found


def time_servers(places: Any, roles: Iterable[str]) -> list[str]:
    """Whom a host with these roles may ask for the time, of the places that are declared outside the fleet.

    A network is nobody to ask, and is left out; so is what is malformed, which topology refuses.

    >>> time_servers([{"name": "time", "kind": "time_server", "addresses": ["192.0.2.0/24", "192.0.2.1"], "country": "NO"}], [])
    ['192.0.2.1']
    """
    meant = [
        place
        for place in (places if isinstance(places, list) else [])
        if not faults(place) and place["kind"] == "time_server" and (not place.get("roles") or set(place["roles"]) & set(roles))
    ]
    addresses = [address for place in meant for address in place["addresses"]]
    return [
        str(found.network_address) if found else address
        for address in addresses
        if not (found := network(address)) or found.num_addresses == 1
    ]
