"""Generate what opens the lab's hosts: an SSH key, and the password that sudo asks for on hosts with `lab_sudo_password`."""

from __future__ import annotations

import secrets
import subprocess

from lab.machine import STATE, give_back

KEY = STATE / "id_ed25519"
# Ansible reads it as ANSIBLE_BECOME_PASSWORD_FILE, which has to exist before the playbook starts that starts the hosts.
BECOME_PASSWORD = STATE / "become-password"


def make_keys() -> None:
    STATE.mkdir(parents=True, exist_ok=True)
    if not KEY.exists():
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "grunnfjell-lab", "-f", str(KEY)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    if not BECOME_PASSWORD.exists():
        BECOME_PASSWORD.touch(mode=0o600)
        BECOME_PASSWORD.write_text(secrets.token_urlsafe(16) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make_keys()
    give_back(STATE)
