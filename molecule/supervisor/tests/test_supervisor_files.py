"""Whether the readers of role supervisor's files accept them."""

from __future__ import annotations

testinfra_hosts = ["ansible://supervisor"]

UNIT = "supervisor.service"


def test_systemd_understands_every_line_of_the_unit(host):
    assert "grunnfjell.conf" not in host.run(f"systemd-analyze verify {UNIT}").stderr
    assert host.check_output(f"systemctl show -p NeedDaemonReload --value {UNIT}") == "no"


def test_supervisord_runs_what_its_files_say(host):
    # `reread` only reports: it adds, restarts and removes nothing.
    result = host.run("supervisorctl reread")
    assert (result.rc, result.stdout.strip()) == (0, "No config updates to processes"), result.stdout + result.stderr
