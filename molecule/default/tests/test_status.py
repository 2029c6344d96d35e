"""What `playbooks/status.yml` promises: one honest sentence, whatever stands or does not, within seconds."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from following import RESUME_S, SHORT, ended, programs, until
from playing import play

from lab.demo.fleet import Fleet, Host
from lab.machine import REPOSITORY

pytestmark = [pytest.mark.disruptive, pytest.mark.long]

# On a quiet machine. A machine that is busy with other things is not the status's fault: what it took of the processor counts.
ANSWER_S = 5.0

Ask = Callable[..., dict]


@pytest.fixture
def ask(request) -> Ask:
    def run(*more: str | Path) -> dict:
        began = time.monotonic()
        done = play(request.config.option.ansible_inventory, "playbooks/status.yml", *more)
        report = json.loads((REPOSITORY / "build/status.json").read_text(encoding="utf-8"))
        report |= {"said": done.printed, "seconds": time.monotonic() - began}
        # The verdict is a line of its own for a person, and the exit code for a program.
        assert f"\n{report['verdict']}\n" in done.printed, report["said"]
        assert (done.returncode == 0) == report["accepting"], report["said"]
        return report

    return run


@contextmanager
def without(host: Host, unit: str) -> Iterator[None]:
    host.run(["systemctl", "stop", unit], timeout_s=700)
    try:
        yield
    finally:
        host.run(["systemctl", "start", unit], timeout_s=300)


@pytest.fixture
def at_peace(site: Fleet, ask: Ask) -> None:
    """All programs run, as another test may just have left them."""
    until("a status without attention", lambda: (report := ask())["accepting"] and not alarming(report), RESUME_S)


def alarming(report: dict) -> list[str]:
    return [line for line in report["attention"] if "dead letter" not in line]


def test_a_fleet_that_is_well_says_yes_and_so_does_its_producer(site, ask, upload, at_peace):
    report = ask()
    assert report["verdict"] == "Yes, jobs are accepted now."
    assert upload(SHORT).status == 202
    assert set(report["hosts"]) == {host.name for host in site.hosts}
    (queue,) = [queue for queue in report["queues"] if queue["name"] == site.group("producers")[0].application]
    assert queue["consumer_hosts"] == sorted(host.name for host in site.group("celery_workers"))
    assert queue["quorum"] is True
    (releases,) = report["releases"].values()
    assert len({host["current"] for host in releases.values()}) == 1
    for database in report["databases"].values():
        assert 0 < database["backends"] < database["max_connections"]


def test_the_answer_comes_within_seconds(ask, at_peace):
    fastest = min(ask()["seconds"] for _ in range(3))
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    assert fastest <= ANSWER_S * max(1.0, load), f"{fastest:.1f} s at a load of {load:.1f} per core"


def test_the_status_itself_makes_no_job(site, ask, at_peace):
    before = ask()
    after = ask()
    assert after["drain"]["backlog"] == before["drain"]["backlog"] == 0
    assert after["dead_letters"] == before["dead_letters"]
    acknowledged = [sum(node["acknowledged"] for node in report["counters"].values()) for report in (before, after)]
    assert acknowledged[0] == acknowledged[1]


def test_a_backlog_has_a_depth_and_an_age_and_drains(site, ask, upload, at_peace):
    workers = site.group("celery_workers")
    for worker in workers:
        worker.run(["supervisorctl", "stop", "all"], timeout_s=700)
    try:
        began = time.time()
        answers = [upload(SHORT) for _ in range(6)]
        assert {answer.status for answer in answers} == {202}
        report = ask()
        (queue,) = [queue for queue in report["queues"] if queue["ready"]]
        assert (queue["ready"], queue["unacknowledged"], queue["consumers"]) == (6, 0, 0)
        assert 0 < queue["oldest_s"] <= time.time() - began
        assert report["drain"]["drain_s"] is None and "no job finished" in report["drain"]["sentence"]
        name = f"{queue['vhost']}/{queue['name']}"
        assert f"{name} holds 6 jobs and has no consumer" in report["attention"]
        assert {f"{worker.name}: celery-worker is STOPPED" in "\n".join(report["attention"]) for worker in workers} == {True}
        assert report["accepting"], "a 202 is accepted while no worker runs: the broker keeps the job"
    finally:
        for worker in workers:
            worker.run(["supervisorctl", "start", "all"])
    assert [ended(answer)["state"] for answer in answers] == ["done"] * 6
    drained = until(
        "the rate since the last report", lambda: (told := ask())["drain"]["acknowledged_per_s"] > 0 and told, RESUME_S
    )
    assert drained["drain"]["backlog"] == 0 and drained["drain"]["window_s"] > 2


def test_a_stopped_broker_is_a_no_that_names_it(site, ask, upload, at_peace):
    (broker,) = site.group("rabbitmq")
    with without(broker, "rabbitmq-server"):
        report = ask()
        assert report["verdict"].startswith("No: no broker answers") and broker.name in report["verdict"]
        assert "systemctl start rabbitmq-server" in report["verdict"]
        assert upload(SHORT).status == 503
    until("a yes after the broker's return", lambda: ask()["accepting"], RESUME_S)


def test_a_memory_alarm_is_a_no_that_names_it(site, ask, at_peace):
    (broker,) = site.group("rabbitmq")
    limit = broker.run(["rabbitmqctl", "-q", "eval", "vm_memory_monitor:get_vm_memory_high_watermark()."]).strip()
    assert "absolute" in limit, limit
    number = limit.strip("{}").split(",")[1]
    broker.run(["rabbitmqctl", "set_vm_memory_high_watermark", "absolute", "1"])
    try:
        report = until("the alarm", lambda: (told := ask()) and not told["accepting"] and told, RESUME_S)
        assert f"the broker on {broker.name} has a memory alarm and accepts no message" in report["verdict"]
    finally:
        broker.run(["rabbitmqctl", "set_vm_memory_high_watermark", "absolute", number])
    until("a yes after the alarm", lambda: ask()["accepting"], RESUME_S)


def test_a_stopped_producer_is_a_no_that_names_it(site, ask, at_peace):
    producers = site.group("producers")
    for host in producers:
        host.run(["supervisorctl", "stop", "producer:*"])
    try:
        report = ask()
        assert f"the producer on {producers[0].name} does not answer" in report["verdict"]
        assert f"{producers[0].name}: producer:producer_0 is STOPPED" in "\n".join(report["attention"])
    finally:
        for host in producers:
            host.run(["supervisorctl", "start", "producer:*"])
    until("a yes after the producer's return", lambda: ask()["accepting"], RESUME_S)


def test_a_producer_that_may_not_publish_is_a_no_that_says_so(site, ask, at_peace):
    (broker,) = site.group("rabbitmq")
    name = site.group("producers")[0].application
    told = json.loads(broker.run(["rabbitmqctl", "-q", "list_user_permissions", name, "--formatter", "json"]))[0]
    broker.run(["rabbitmqctl", "-q", "set_permissions", "-p", name, name, told["configure"], "^amq", told["read"]])
    try:
        assert f"the exchange {name} accepts no message" in ask()["verdict"]
    finally:
        broker.run(
            ["rabbitmqctl", "-q", "set_permissions", "-p", name, name, *(told[key] for key in ("configure", "write", "read"))]
        )
    until("a yes with the permission back", lambda: ask()["accepting"], RESUME_S)


def test_a_host_that_cannot_be_reached_is_a_line_and_not_the_end(ask, at_peace, tmp_path):
    """A database host that is not there: jobs are accepted all the same, and everything else is told."""
    more = tmp_path / "more.yml"
    more.write_text("{postgresql: {hosts: {nowhere: {ansible_host: 10.77.0.254}}}}", encoding="utf-8")
    report = ask("-i", more)
    assert report["accepting"], report["said"]
    assert report["hosts"]["nowhere"]["reachable"] is False
    assert report["databases"] and report["brokers"] and report["producers"]
    assert [line for line in report["attention"] if line.startswith("nowhere did not answer: unreachable")], report["attention"]


STRANGER = """
import sys, celeryconfig
from kombu import Connection, Queue
with Connection(celeryconfig.broker_url, ssl=celeryconfig.broker_use_ssl) as connection:
    channel = connection.channel()
    channel.basic_consume(queue=celeryconfig.task_default_queue, no_ack=False)
    print("consuming", flush=True)
    sys.stdin.read()
"""


def test_a_worker_that_is_not_in_the_inventory_is_named(site, ask, at_peace):
    """A producer's host that consumes is as strange as one of an unknown address: it is no worker."""
    (host, *_) = site.group("producers")
    line = f"runuser -u www-data -- /opt/{host.application}/current/run python -c '{STRANGER}'"
    writing, reading, _ = host.ssh.exec_command(line)
    try:
        assert reading.readline().strip() == "consuming"
        report = ask()
        assert [stranger["who"] for stranger in report["strangers"]] == [host.name]
        assert f"{host.name} consumes" in "\n".join(report["attention"])
    finally:
        writing.channel.shutdown_write()
        reading.channel.recv_exit_status()
    until("the stranger's leave", lambda: ask()["strangers"] == [], RESUME_S)


def test_a_host_that_stands_open_is_named(site, ask, at_peace):
    """As after a boot in which nft no longer took the rules, and as after a rule by hand; work goes on in both."""
    (host, *_) = site.group("rabbitmq")
    open_to_all = f"{host.name}: no firewall is in force"
    by_hand = f"{host.name}: the rules of the firewall are not those that the last run confirmed"
    for harm, sentence in (
        (["nft", "delete", "table", "inet", "grunnfjell"], open_to_all),
        (["nft", "add", "rule", "inet", "grunnfjell", "input", "tcp", "dport", "9999", "accept"], by_hand),
    ):
        host.run(harm)
        try:
            report = ask()
            assert report["accepting"], report["said"]
            assert [line for line in report["attention"] if line.startswith(sentence)], report["attention"]
        finally:
            host.run(["systemctl", "reload", "grunnfjell-firewall"])
        assert not [line for line in ask()["attention"] if "firewall" in line]


def test_all_programs_are_as_the_tests_found_them(site):
    for host in (*site.group("celery_workers"), *site.group("producers")):
        until("all programs", lambda host=host: all(state.startswith("RUNNING") for state in programs(host).values()), RESUME_S)
