"""sudo that asks for a password, in a run without a person."""

from __future__ import annotations

import os

from lab.machine import REPOSITORY, Refusal

# As Ansible takes it.
PASSWORD_FILE = "ANSIBLE_BECOME_PASSWORD_FILE"
# Succeeds if sudo asks for no password.
PROBE = "sudo -n true"
# Reads the password from the first line of standard input, every time and without a prompt.
WITH_PASSWORD = "sudo -kSp ''"


def password_line() -> str:
    file = os.environ.get(PASSWORD_FILE)
    if not file:
        raise Refusal(f"sudo asks for a password: write it to a file and name that file in {PASSWORD_FILE}.")
    return (REPOSITORY / file).read_text(encoding="utf-8").strip() + "\n"
