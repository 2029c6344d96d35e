"""What every role promises of its runs: check mode tells the truth, a second run changes nothing and restarts nothing."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from host_services import UNITS, carries

testinfra_hosts = ["ansible://all"]

pytestmark = pytest.mark.once


def test_check_mode_predicts_on_a_blank_host_what_the_run_does(runs, hostname):
    assert (runs[0].check, runs[1].check) == (True, False)
    # Two runs that did nothing would agree. A scenario without edits changes no host.
    assert any(runs[1].changed.values()) or not Path(os.environ["MOLECULE_SCENARIO_DIRECTORY"], "change").is_dir()
    assert runs[0].changed[hostname] == runs[1].changed[hostname]


def test_a_second_run_changes_nothing(runs, hostname):
    assert runs[2].changed[hostname] == []


def test_a_second_run_restarts_no_service(host, runs):
    began = runs[2].began
    shown = host.check_output(
        "systemctl show --timestamp=unix --property=Id,ActiveEnterTimestamp "
        + " ".join(map(repr, (*UNITS, "systemd-journald.service")))
    )
    services = [dict(line.split("=", 1) for line in entry.splitlines()) for entry in shown.split("\n\n") if entry]
    since = {entry["Id"]: float(entry["ActiveEnterTimestamp"].lstrip("@") or 0) for entry in services}
    assert {service: at for service, at in since.items() if at > began} == {}


@pytest.mark.only_on(carries("supervisor"))
def test_a_second_run_restarts_no_program(host, runs):
    now, pids = float(host.check_output("date +%s.%N")), host.check_output("supervisorctl pid all").split()
    running = [pid for pid in pids if pid != "0"]
    declared = host.run("grep -Ehs '^.(fcgi-)?program:' /etc/supervisor/conf.d/*.conf").stdout.split()
    assert running or not declared
    for pid in running:
        assert now - float(host.check_output(f"ps -o etimes= -p {pid}")) < runs[2].began, host.check_output(
            f"ps -o args= -p {pid}"
        )
