"""Read-only commands change nothing on a fleet, and connect as Ansible does: by jump host, port and sudo."""

from __future__ import annotations

import re

import pytest
from host_states import command, differences

# Units that timers start, also while a test looks.
BY_TIMER = (
    "grunnfjell-firewall-names.service",
    "apt-daily",
    "dpkg-db-backup",
    "e2scrub",
    "fstrim",
    "logrotate",
    "man-db",
    "systemd-tmpfiles",
    "phpsessionclean",
)


def disturbed(before, after) -> list[str]:
    return [line for line in differences(before, after) if not any(f"units: {unit}" in line for unit in BY_TIMER)]


def test_make_verify_changes_no_file_and_restarts_nothing(inventory, state):
    before = state()
    done = command("make", "verify", f"INVENTORY={inventory}")
    assert done.returncode == 0, done.stdout[-6000:]
    print(done.stdout.strip().splitlines()[-1])
    changes = [(line, re.search("files: /var/lib/newsroom/videos/([0-9a-f-]{36})", line)) for line in disturbed(before, state())]
    assert not [line for line, video in changes if not video], "\n".join(line for line, _ in changes)
    # The probe job.
    assert len({video[1] for _, video in changes if video}) == 1, "\n".join(line for line, _ in changes)


READ_ONLY = {
    "status": ["make", "status"],
    "plan": ["make", "plan"],
    "residency": ["make", "residency"],
    # Without its capture, which sends a job.
    "exposure": [".venv/bin/python", "-m", "lab.exposure", "--no-capture"],
    # Without lynis, which takes minutes: this test is about the connection.
    "audit": [".venv/bin/python", "-m", "lab.audit", "ssh", "tls", "secrets"],
}


@pytest.mark.parametrize("name", READ_ONLY)
def test_a_read_only_command_works_and_disturbs_nothing(name, inventory, state):
    before = state()
    arguments = [f"INVENTORY={inventory}"] if READ_ONLY[name][0] == "make" else ["--inventory", inventory]
    done = command(*READ_ONLY[name], *arguments)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    changes = disturbed(before, state())
    assert not changes, "\n".join(changes)
