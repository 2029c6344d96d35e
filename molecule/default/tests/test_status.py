"""What `playbooks/status.yml` promises: one honest sentence within seconds, whatever works or does not."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deadline import until
from jobs import RESUME_S, SHORT, ended, settled
from playbook_runner import play

from lab.demo.fleet import Fleet, Host
from lab.machine import REPOSITORY

pytestmark = [pytest.mark.disruptive, pytest.mark.long]

# On an idle machine. The test allows for the load of a busy one.
ANSWER_S = 5.0

Ask = Callable[..., dict]


@pytest.fixture
def ask(inventory) -> Ask:
    def run(*arguments: str | Path) -> dict:
        began = time.monotonic()
        status = play(inventory, "playbooks/status.yml", *arguments)
        report = json.loads((REPOSITORY / "build/status.json").read_text(encoding="utf-8"))
        # The verdict is one line for people, and the exit code for programs.
        assert f"\n{report['verdict']}\n" in status.output, status.output
        assert (status.returncode == 0) == report["accepting"], status.output
        return report | {"output": status.output, "seconds": time.monotonic() - began}

    return run


@contextmanager
def without(host: Host, unit: str) -> Iterator[None]:
    host.run(["systemctl", "stop", unit], timeout_s=700)
    try:
        yield
    finally:
        host.run(["systemctl", "start", unit], timeout_s=300)


@pytest.fixture
def all_well(site: Fleet, ask: Ask) -> None:
    """Waits until all programs run after an earlier test."""
    until("a status without attention", lambda: (report := ask())["accepting"] and not alarming(report), RESUME_S)


def alarming(report: dict) -> list[str]:
    return [line for line in report["attention"] if "dead letter" not in line]


def test_a_healthy_fleet_is_reported_as_accepting_and_accepts(site, ask, upload, all_well):
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


def test_the_status_takes_only_seconds(ask, all_well):
    fastest = min(ask()["seconds"] for _ in range(3))
    load = os.getloadavg()[0] / (os.cpu_count() or 1)
    assert fastest <= ANSWER_S * max(1.0, load), f"{fastest:.1f} s at a load of {load:.1f} per core"


def test_the_status_creates_no_job(site, ask, all_well):
    before = ask()
    after = ask()
    assert after["drain"]["backlog"] == before["drain"]["backlog"] == 0
    assert after["dead_letters"] == before["dead_letters"]
    acknowledged = [sum(node["acknowledged"] for node in report["counters"].values()) for report in (before, after)]
    assert acknowledged[0] == acknowledged[1]


def test_a_backlog_has_a_depth_and_an_age_and_drains(site, ask, upload, all_well):
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
        "the rate since the last report", lambda: (report := ask())["drain"]["acknowledged_per_s"] > 0 and report, RESUME_S
    )
    assert drained["drain"]["backlog"] == 0 and drained["drain"]["window_s"] > 2


def test_a_stopped_broker_means_no_and_is_named(site, ask, upload, all_well):
    (broker,) = site.group("rabbitmq")
    with without(broker, "rabbitmq-server"):
        report = ask()
        assert report["verdict"].startswith("No: no broker answers") and broker.name in report["verdict"]
        assert "systemctl start rabbitmq-server" in report["verdict"]
        assert upload(SHORT).status == 503
    until("a yes after the broker's return", lambda: ask()["accepting"], RESUME_S)


def test_a_memory_alarm_means_no_and_is_named(site, ask, all_well):
    (broker,) = site.group("rabbitmq")
    limit = broker.run(["rabbitmqctl", "-q", "eval", "vm_memory_monitor:get_vm_memory_high_watermark()."]).strip()
    assert "absolute" in limit, limit
    number = limit.strip("{}").split(",")[1]
    broker.run(["rabbitmqctl", "set_vm_memory_high_watermark", "absolute", "1"])
    try:
        report = until("the alarm", lambda: (report := ask()) and not report["accepting"] and report, RESUME_S)
        assert f"the broker on {broker.name} has a memory alarm and accepts no message" in report["verdict"]
    finally:
        broker.run(["rabbitmqctl", "set_vm_memory_high_watermark", "absolute", number])
    until("a yes after the alarm", lambda: ask()["accepting"], RESUME_S)


def test_a_stopped_producer_means_no_and_is_named(site, ask, all_well):
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


def test_a_producer_that_cannot_publish_means_no_with_the_reason(site, ask, all_well):
    (broker,) = site.group("rabbitmq")
    name = site.group("producers")[0].application
    before = json.loads(broker.run(["rabbitmqctl", "-q", "list_user_permissions", name, "--formatter", "json"]))[0]
    set_permissions = ["rabbitmqctl", "-q", "set_permissions", "-p", name, name]
    broker.run([*set_permissions, before["configure"], "^amq", before["read"]])
    try:
        assert f"the exchange {name} accepts no message" in ask()["verdict"]
    finally:
        broker.run([*set_permissions, *(before[key] for key in ("configure", "write", "read"))])
    until("a yes with the permission back", lambda: ask()["accepting"], RESUME_S)


def test_an_unreachable_host_is_one_line_and_does_not_end_the_status(ask, all_well, tmp_path):
    """A database host that does not exist: jobs are still accepted, and everything else is reported."""
    more = tmp_path / "more.yml"
    more.write_text("{postgresql: {hosts: {nowhere: {ansible_host: 10.77.0.254}}}}", encoding="utf-8")
    report = ask("-i", more)
    assert report["accepting"], report["output"]
    assert report["hosts"]["nowhere"]["reachable"] is False
    assert report["databases"] and report["brokers"] and report["producers"]
    assert [line for line in report["attention"] if line.startswith("nowhere did not answer: unreachable")], report["attention"]


CONSUMER = """
import sys, grunnfjell_settings
from kombu import Connection, Queue
with Connection(grunnfjell_settings.broker_url, ssl=grunnfjell_settings.broker_use_ssl) as connection:
    channel = connection.channel()
    channel.basic_consume(queue=grunnfjell_settings.task_default_queue, no_ack=False)
    print("consuming", flush=True)
    sys.stdin.read()
"""


def test_a_consumer_that_is_not_in_the_inventory_is_named(site, ask, all_well):
    """A producer's host is no worker: if it consumes, it counts as unknown too."""
    (host, *_) = site.group("producers")
    line = f"runuser -u www-data -- /opt/{host.application}/current/run python -c '{CONSUMER}'"
    stdin, stdout, _ = host.ssh.exec_command(line)
    try:
        assert stdout.readline().strip() == "consuming"
        report = ask()
        assert [consumer["who"] for consumer in report["strangers"]] == [host.name]
        assert f"{host.name} consumes" in "\n".join(report["attention"])
    finally:
        stdin.channel.shutdown_write()
        stdout.channel.recv_exit_status()
    until("the end of the unknown consumer", lambda: ask()["strangers"] == [], RESUME_S)


def test_a_host_with_an_open_firewall_is_named(site, ask, all_well):
    """Without rules, as after a boot in which nft refused them, and with a rule added by hand; work goes on."""
    (host, *_) = site.group("rabbitmq")
    open_to_all = f"{host.name}: no firewall is in force"
    by_hand = f"{host.name}: the rules of the firewall are not those that the last run confirmed"
    for change, sentence in (
        (["nft", "delete", "table", "inet", "grunnfjell"], open_to_all),
        (["nft", "add", "rule", "inet", "grunnfjell", "input", "tcp", "dport", "9999", "accept"], by_hand),
    ):
        host.run(change)
        try:
            report = ask()
            assert report["accepting"], report["output"]
            assert [line for line in report["attention"] if line.startswith(sentence)], report["attention"]
        finally:
            host.run(["systemctl", "reload", "grunnfjell-firewall"])
        assert not [line for line in ask()["attention"] if "firewall" in line]


def test_all_programs_run_again_after_these_tests(site):
    for host in (*site.group("celery_workers"), *site.group("producers")):
        settled(host)
