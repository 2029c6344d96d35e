"""What runs reads its file, also where a run was cut off between the two: asked of sshd, journald, systemd and the kernel."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from playing import Played, play
from test_host_hardening import carries_connections

testinfra_hosts = ["ansible://all"]

pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

# Stands before Debian's own in the path, and fails where a file is to be read.
SHIMS = {
    "systemctl": 'case "$*" in *reload*|*restart*|*daemon-*) exit 1;; esac; exec /usr/bin/systemctl "$@"',
    "sysctl": "exit 1",
}
BOUNDS = "/etc/systemd/journald.conf.d/grunnfjell.conf"
# systemd's own identity of the message in which journald tells its limits (SD_MESSAGE_JOURNAL_USAGE).
USAGE = "MESSAGE_ID=ec387f577b844b8fa948f33cad9a75e6"


@pytest.fixture
def run(host, request):
    """The role's own playbook, with other inputs than the inventory's; without any, the inventory's again."""

    def play_host(**edited) -> Played:
        name = host.backend.get_hostname()
        return play(request.config.option.ansible_inventory, "playbooks/host.yml", "--limit", name, variables=edited)

    yield play_host
    if not restored(host):
        assert play_host().returncode == 0


def restored(host) -> bool:
    return "=123M" not in host.file(BOUNDS).content_string


@pytest.fixture
def cut_off(host) -> Iterator[None]:
    """Files are written on this host, and nothing reads them."""
    paths = [Path("/usr/local/bin", name) for name in SHIMS]
    assert [str(path) for path in paths if host.file(str(path)).exists] == []
    for path in paths:
        script = f"#!/bin/sh\n{SHIMS[path.name]}\n"
        host.check_output(f"printf %s {shlex.quote(script)} > {path} && chmod 755 {path}")

    def mend() -> None:
        host.check_output("rm -f " + " ".join(map(str, paths)))

    yield mend
    mend()


def journal_bound(host) -> int:
    """What the running journald said last that it keeps within."""
    message = host.check_output(f"journalctl --no-pager -q -o json -n 1 {USAGE} 'JOURNAL_NAME=System Journal'")
    return int(json.loads(message)["MAX_USE"])


def test_a_run_cut_off_between_a_file_and_its_reader_is_completed_by_the_next(host, inputs, run, cut_off):
    """Review finding 4."""
    forwarding = inputs["host_ssh_tcp_forwarding"]
    edited = {"host_ssh_tcp_forwarding": not forwarding, "host_journal_max_use": "123M"}
    first = run(**edited)
    assert first.returncode != 0 and "The next run tries again." in first.said, first.said
    assert not restored(host) and carries_connections(host) is forwarding, "sshd read its file, so that this proves nothing"
    cut_off()
    second = run(**edited)
    assert second.returncode == 0 and second.changed, second.said
    assert carries_connections(host) is not forwarding
    assert journal_bound(host) == 123 * 2**20

    # As a release of the kit without records left a host: final files, and daemons that never read them.
    host.check_output(f"sed -i s/=123M/={inputs['host_journal_max_use']}/ {BOUNDS}; rm -r /var/lib/grunnfjell/host/in_force")
    assert journal_bound(host) == 123 * 2**20
    third = run()
    assert third.returncode == 0 and third.changed, third.said
    assert journal_bound(host) == int(inputs["host_journal_max_use"].removesuffix("M")) * 2**20
    assert carries_connections(host) is forwarding


def test_a_setting_of_another_file_that_overrules_the_role_is_refused_by_name_and_not_reloaded(host, inputs, run):
    """Review finding 24: a Match block wins over whatever stands before it."""
    path, account = "/etc/ssh/sshd_config.d/50-grunnfjell-test.conf", inputs["host_ssh_users"][0]
    assert not host.file(path).exists
    # Until sshd reads it, nobody comes in by it: sshd is only asked what it would do.
    host.check_output(f"printf 'Match User {account}\n  PasswordAuthentication yes\n' > {path}")
    try:
        done = run(host_ssh_tcp_forwarding=not inputs["host_ssh_tcp_forwarding"])
    finally:
        host.check_output(f"rm {path}")
    assert done.returncode != 0, done.said
    assert "has `passwordauthentication no`, but `sshd -T -C host=grunnfjell," in done.said, done.said
    assert f",user={account}` prints `passwordauthentication yes`." in done.said, done.said
    assert carries_connections(host) is inputs["host_ssh_tcp_forwarding"]
    assert run().returncode == 0
