"""What the readers of role host's files make of them."""

from __future__ import annotations

import json
import re

import pytest

testinfra_hosts = ["ansible://all"]

SYSCTL = "/etc/sysctl.d/60-grunnfjell.conf"
# systemd's own identity of the message in which journald tells its limits (SD_MESSAGE_JOURNAL_USAGE).
USAGE = "MESSAGE_ID=ec387f577b844b8fa948f33cad9a75e6"
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def test_the_journal_is_kept_on_the_disk_and_bounded_as_promised(host):
    text = host.file("/etc/systemd/journald.conf.d/grunnfjell.conf").content_string
    number, unit = re.search(r"^SystemMaxUse=(\d+)([KMGT]?)$", text, re.MULTILINE).groups()
    told = host.check_output(f"journalctl --no-pager -q -o json -n 1 {USAGE} 'JOURNAL_NAME=System Journal'")
    if not told:
        pytest.skip("the journal no longer holds the day of its own last start, on which it tells its limits")
    assert int(json.loads(told)["MAX_USE"]) == int(number) * UNITS[unit]


def test_the_kernel_has_every_setting_of_the_inventory(host):
    lines = host.file(SYSCTL).content_string.splitlines()
    wanted = dict(line.removeprefix("-").split(" = ", 1) for line in lines if " = " in line)
    # A star is every interface's: each is to say the same.
    for key, value in wanted.items():
        assert set(host.check_output(f"cat /proc/sys/{key.replace('.', '/')}").splitlines()) == {value}, key


def test_the_loader_of_kernel_settings_understands_its_file(host):
    done = host.run(f"sysctl --dry-run --load={SYSCTL}")
    assert (done.rc, done.stderr) == (0, "")


def test_the_version_of_grunnfjell_that_last_ran_is_recorded(host):
    record = host.file("/etc/grunnfjell/version")
    assert (record.user, record.group, record.mode) == ("root", "root", 0o644)
    assert re.fullmatch(r"\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?", record.content_string.splitlines()[-1])
