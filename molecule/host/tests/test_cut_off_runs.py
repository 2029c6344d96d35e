"""A run that was cut off between writing a file and reloading its reader is completed by the next run."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playbook_runner import PlaybookRun
from test_host_files import journal_bound
from test_host_hardening import forwards_connections

testinfra_hosts = ["ansible://all"]

pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

# Found in the path before Debian's programs; they fail where a file would be read.
SHIMS = {
    "systemctl": 'case "$*" in *reload*|*restart*|*daemon-*) exit 1;; esac; exec /usr/bin/systemctl "$@"',
    "sysctl": "exit 1",
}
BOUNDS = "/etc/systemd/journald.conf.d/grunnfjell.conf"


@pytest.fixture
def run(host, converge) -> Iterator[Callable[..., PlaybookRun]]:
    """The role's playbook, with overrides. At the end, without any."""
    yield functools.partial(converge, "playbooks/host.yml")
    if not restored(host):
        assert converge("playbooks/host.yml").returncode == 0


def restored(host) -> bool:
    return "=123M" not in host.file(BOUNDS).content_string


@pytest.fixture
def cut_off(host) -> Iterator[Callable[[], None]]:
    """Files are written on this host, but nothing reads them."""
    paths = [Path("/usr/local/bin", name) for name in SHIMS]
    assert [str(path) for path in paths if host.file(str(path)).exists] == []
    for path in paths:
        script = f"#!/bin/sh\n{SHIMS[path.name]}\n"
        host.check_output(f"printf %s {shlex.quote(script)} > {path} && chmod 755 {path}")

    def mend() -> None:
        host.check_output("rm -f " + " ".join(map(str, paths)))

    yield mend
    mend()


def test_a_run_cut_off_between_a_file_and_its_reader_is_completed_by_the_next(host, inputs, run, cut_off):
    """Review finding 4."""
    forwarding = inputs["host_ssh_tcp_forwarding"]
    edited = {"host_ssh_tcp_forwarding": not forwarding, "host_journal_max_use": "123M"}
    first = run(**edited)
    first.assert_failed("The next run tries again.")
    assert not restored(host) and forwards_connections(host) is forwarding, "sshd read its file, so this proves nothing"
    cut_off()
    second = run(**edited)
    assert second.returncode == 0 and second.changed, second.text
    assert forwards_connections(host) is not forwarding
    assert journal_bound(host) == 123 * 2**20

    # As an older release of the kit left a host: final files, daemons that never read them, and no records.
    host.check_output(f"sed -i s/=123M/={inputs['host_journal_max_use']}/ {BOUNDS}; rm -r /var/lib/grunnfjell/host/in_force")
    assert journal_bound(host) == 123 * 2**20
    third = run()
    assert third.returncode == 0 and third.changed, third.text
    assert journal_bound(host) == int(inputs["host_journal_max_use"].removesuffix("M")) * 2**20
    assert forwards_connections(host) is forwarding


def test_a_conflicting_setting_of_another_sshd_file_is_refused_by_name_and_not_reloaded(host, inputs, run):
    """Review finding 24: a Match block overrides everything before it."""
    path, account = "/etc/ssh/sshd_config.d/50-grunnfjell-test.conf", inputs["host_ssh_users"][0]
    assert not host.file(path).exists
    # sshd never reads this file, so nobody can log in with a password: the role only asks `sshd -T`.
    host.check_output(f"printf 'Match User {account}\n  PasswordAuthentication yes\n' > {path}")
    try:
        result = run(host_ssh_tcp_forwarding=not inputs["host_ssh_tcp_forwarding"])
    finally:
        host.check_output(f"rm {path}")
    answer = f",user={account}` prints `passwordauthentication yes`."
    result.assert_failed("has `passwordauthentication no`, but `sshd -T -C host=grunnfjell,", answer)
    assert forwards_connections(host) is inputs["host_ssh_tcp_forwarding"]
    assert run().returncode == 0
