"""The rules of role host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..network.sites import faults, network


def ssh_problems(user: str, users: Iterable[str], password_given: Any) -> list[str]:
    """Why the role's SSH settings would shut Ansible out of the host, as sentences."""
    problems = []
    if password_given:
        problems.append(
            "the inventory connects with a password (ansible_password), but SSH will accept only keys. Install a key first "
            "(ssh-copy-id), name it in ansible_ssh_private_key_file, and take ansible_password out."
        )
    if not user:
        problems.append(
            "host_ssh_user is empty, since the inventory does not set ansible_user. SSH admits only listed accounts, "
            "so it would shut Ansible out. Set ansible_user to the account that Ansible logs in with."
        )
    for account in [user, *users]:
        if "@" in account or "\\" in account:
            problems.append(
                f"{account!r} (ansible_user or host_ssh_users) is an account with a domain. sshd reads what follows an @ as the "
                f"client's host, and would shut everybody out. Create a local account without @ or backslash, and name that."
            )
        elif any(letter.isspace() or letter in "*?!#\"'" for letter in account):
            problems.append(f"host_ssh_users names {account!r}, which is not an account. Name each account, without patterns.")
    return problems


def time_servers(sites: Any, roles: Iterable[str]) -> list[str]:
    """The declared time servers that a host with these roles may use.

    Networks are left out, and so are malformed sites, which topology refuses.

    >>> time_servers([{"name": "time", "kind": "time_server", "addresses": ["192.0.2.0/24", "192.0.2.1"], "country": "NO"}], [])
    ['192.0.2.1']
    """
    sites = [
        site
        for site in (sites if isinstance(sites, list) else [])
        if not faults(site) and site["kind"] == "time_server" and (not site.get("roles") or set(site["roles"]) & set(roles))
    ]
    addresses = [address for site in sites for address in site["addresses"]]
    return [
        str(net.network_address) if net else address
        for address in addresses
        if not (net := network(address)) or net.num_addresses == 1
    ]
