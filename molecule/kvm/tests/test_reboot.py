"""Real reboots: running tasks end first, every service comes back, and accepted jobs are done."""

from __future__ import annotations

import pytest
from deadline import until
from machines import RESUME_S, SHORT, assert_work_resumes, ended, programs_run, transcoding

pytestmark = pytest.mark.disruptive

# What systemd logs when a stop takes longer than its timeout.
KILLED = "journalctl --boot=-1 --unit={} --output=cat --no-pager | grep -c -e 'timed out. Killing' -e 'status=9/KILL' || true"


def test_a_reboot_waits_for_the_running_task(machines, send, long):
    (worker,) = machines["celery_workers"]
    answer = send(long)
    transcoding(worker, answer)
    before = worker.reboot()
    job = ended(answer)
    assert (job["state"], job["attempts"]) == ("done", 1), job
    worker.wait_for_boot_after(before)
    assert worker.run(KILLED.format("supervisor")).strip() == "0"
    until("the programs' return", lambda: programs_run(worker), RESUME_S)
    assert ended(send(SHORT))["state"] == "done"


def test_a_power_cut_during_a_task_costs_only_a_second_delivery(machines, send, long):
    (worker,) = machines["celery_workers"]
    answer = send(long)
    transcoding(worker, answer)
    before = worker.cut()
    worker.wait_for_boot_after(before)
    job = ended(answer)
    assert (job["state"], job["attempts"]) == ("done", 2), job


def test_accepted_jobs_survive_a_power_cut_of_the_broker(machines, send):
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


def test_after_a_reboot_of_every_guest_all_services_run_and_work_resumes(machines, send):
    answers = [send(SHORT) for _ in range(3)]
    before = {guest.name: guest.reboot() for guest in machines["all"]}
    for guest in machines["all"]:
        guest.wait_for_boot_after(before[guest.name])
    for guest in machines["supervisor"]:
        until(f"the programs of {guest.name}", lambda guest=guest: programs_run(guest), RESUME_S)
    for group, unit in (("rabbitmq", "rabbitmq-server"), ("postgresql", "postgresql@*"), ("pgbouncer", "pgbouncer")):
        for guest in machines[group]:
            assert guest.run(f"systemctl list-units --state=running --no-legend --plain '{unit}.service'").strip(), guest.name
            assert guest.run(KILLED.format(f"'{unit}'")).strip() == "0"
    assert {ended(answer)["state"] for answer in answers} == {"done"}
    assert_work_resumes(send)
