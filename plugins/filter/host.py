"""The rules of role host."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


def ssh_problems(user: str, users: Iterable[str], password_given: Any) -> list[str]:
    """Why this inventory would be shut out of its own host by what the role makes of SSH, as sentences."""
    found = []
    if password_given:
        found.append(
            "the inventory connects with a password (ansible_password), and SSH will let in keys only. Put a key there first "
            "(ssh-copy-id), name it in ansible_ssh_private_key_file, and take ansible_password out."
        )
    if not user and list(users):
        found.append(
            f"host_ssh_users lets in {', '.join(users)} alone, and which account Ansible itself comes by is not said. "
            f"Set ansible_user."
        )
    for account in [user, *users]:
        if any(letter.isspace() or letter in "*?!#\"'" for letter in account):
            found.append(f"host_ssh_users names {account!r}, which is no account. Name each account by itself, without patterns.")
    return found


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"ssh_problems": ssh_problems}
