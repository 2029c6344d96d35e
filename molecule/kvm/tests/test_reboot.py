"""Real reboots: a task ends first, every service comes back without a hand, and what was accepted is done."""

from __future__ import annotations

import pytest
from conftest import SHORT
from machines import RESUME_S, ended, programs_run, transcoding, until

pytestmark = pytest.mark.disruptive

# What systemd writes when a stop took longer than it was granted.
CUT = "journalctl --boot=-1 --unit={} --output=cat --no-pager | grep -c -e 'timed out. Killing' -e 'status=9/KILL' || true"


def test_a_reboot_in_mid_task_waits_for_the_task(machines, send, long):
    (worker,) = machines["celery_workers"]
    answer = send(long)
    transcoding(worker, answer)
    before = worker.reboot()
    told = ended(answer)
    assert (told["state"], told["attempts"]) == ("done", 1), told
    worker.wait_for_boot_after(before)
    assert worker.run(CUT.format("supervisor")).strip() == "0"
    until("the programs' return", lambda: programs_run(worker), RESUME_S)
    assert ended(send(SHORT))["state"] == "done"


def test_a_power_cut_in_mid_task_costs_a_second_delivery_and_nothing_else(machines, send, long):
    (worker,) = machines["celery_workers"]
    answer = send(long)
    transcoding(worker, answer)
    before = worker.cut()
    worker.wait_for_boot_after(before)
    told = ended(answer)
    assert (told["state"], told["attempts"]) == ("done", 2), told


def test_what_was_accepted_outlives_a_power_cut_of_the_broker(machines, send):
    (broker,) = machines["rabbitmq"]
    (worker,) = machines["celery_workers"]
    worker.run("supervisorctl stop all", timeout_s=700)
    try:
        answers = [send(SHORT) for _ in range(5)]
        assert [answer.status for answer in answers] == [202] * 5
        broker.wait_for_boot_after(broker.cut())
    finally:
        worker.run("supervisorctl start all || true", timeout_s=RESUME_S)
    assert {ended(answer)["state"] for answer in answers} == {"done"}


def test_after_a_reboot_of_every_guest_all_services_are_back_and_the_work_goes_on(machines, send):
    answers = [send(SHORT) for _ in range(3)]
    before = {guest.name: guest.reboot() for guest in machines["all"]}
    for guest in machines["all"]:
        guest.wait_for_boot_after(before[guest.name])
    for guest in machines["supervisor"]:
        until(f"the programs of {guest.name}", lambda guest=guest: programs_run(guest), RESUME_S)
    for group, unit in (("rabbitmq", "rabbitmq-server"), ("postgresql", "postgresql@*"), ("pgbouncer", "pgbouncer")):
        for guest in machines[group]:
            assert guest.run(f"systemctl list-units --state=running --no-legend --plain '{unit}.service'").strip(), guest.name
            assert guest.run(CUT.format(f"'{unit}'")).strip() == "0"
    assert {ended(answer)["state"] for answer in answers} == {"done"}

    def accepted():
        answer = send(SHORT)
        return answer if answer.status == 202 else None

    assert ended(until("a 202", accepted, RESUME_S))["state"] == "done"
