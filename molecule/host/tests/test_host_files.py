"""Whether the programs that read role host's files understand them."""

from __future__ import annotations

import json
import re

import pytest

testinfra_hosts = ["ansible://all"]

SYSCTL = "/etc/sysctl.d/60-grunnfjell.conf"
# SD_MESSAGE_JOURNAL_USAGE, in which journald reports its limits.
USAGE = "MESSAGE_ID=ec387f577b844b8fa948f33cad9a75e6"
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def journal_bound(host) -> int | None:
    """The bytes that the running journald last reported as its limit; None if the journal no longer holds that report."""
    message = host.check_output(f"journalctl --no-pager -q -o json -n 1 {USAGE} 'JOURNAL_NAME=System Journal'")
    return int(json.loads(message)["MAX_USE"]) if message else None


def test_the_running_journal_keeps_to_its_file(host):
    text = host.file("/etc/systemd/journald.conf.d/grunnfjell.conf").content_string
    number, unit = re.search(r"^SystemMaxUse=(\d+)([KMGT]?)$", text, re.MULTILINE).groups()
    bound = journal_bound(host)
    if bound is None:
        pytest.skip("the journal no longer holds journald's last report of its limits")
    assert bound == int(number) * UNITS[unit]


def test_the_kernel_has_every_setting_of_its_file(host):
    lines = host.file(SYSCTL).content_string.splitlines()
    settings = dict(line.removeprefix("-").split(" = ", 1) for line in lines if " = " in line)
    # A star means every interface: all must have the value.
    for key, value in settings.items():
        assert set(host.check_output(f"cat /proc/sys/{key.replace('.', '/')}").splitlines()) == {value}, key


def test_the_loader_of_kernel_settings_understands_its_file(host):
    done = host.run(f"sysctl --dry-run --load={SYSCTL}")
    assert (done.rc, done.stderr) == (0, "")


def test_the_version_of_grunnfjell_that_last_ran_is_recorded(host):
    record = host.file("/etc/grunnfjell/version")
    assert (record.user, record.group, record.mode) == ("root", "root", 0o644)
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", record.content_string.splitlines()[-1])
