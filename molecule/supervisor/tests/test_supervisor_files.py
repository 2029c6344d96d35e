"""What the readers of role supervisor's files say of them."""

from __future__ import annotations

testinfra_hosts = ["ansible://supervisor"]

UNIT = "supervisor.service"


def test_systemd_understands_every_line_of_the_unit(host):
    assert "grunnfjell.conf" not in host.run(f"systemd-analyze verify {UNIT}").stderr
    assert host.check_output(f"systemctl show -p NeedDaemonReload --value {UNIT}") == "no"


def test_supervisord_reads_its_files_and_runs_what_they_say(host):
    # Only read: nothing is added, restarted or removed by it.
    done = host.run("supervisorctl reread")
    assert (done.rc, done.stdout.strip()) == (0, "No config updates to processes"), done.stdout + done.stderr
