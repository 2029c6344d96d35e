"""What the status makes of the hosts' answers."""

from __future__ import annotations

import copy
import subprocess
import time

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import bounded
from ansible_collections.grunnfjell.platform.plugins.modules import platform_status
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports import status
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.status import HostInfo, StatusReport, peer
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.status_text import render
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.work_rates import Rates, drain, is_work, rates, span
from hypothesis import given
from hypothesis import strategies as st

HOSTS = {
    "broker1": HostInfo(frozenset({"rabbitmq"}), "", frozenset({"10.0.0.11"})),
    "db1": HostInfo(frozenset({"postgresql"}), "", frozenset({"10.0.0.21"})),
    "worker1": HostInfo(frozenset({"celery_worker", "application", "pgbouncer", "supervisor"}), "shop", frozenset({"10.0.0.31"})),
    "web1": HostInfo(frozenset({"producer", "application", "pgbouncer", "supervisor"}), "shop", frozenset({"10.0.0.41"})),
}
BOUNCER = {
    "pools": [
        {"database": "shop", "user": "shop", "clients_active": 1, "clients_waiting": 0, "servers": 2, "longest_wait_s": 0.0}
    ],
    "average_wait_s": 0.0,
}


def queue(
    name: str, ready: int = 0, unacknowledged: int = 0, oldest_ms: int | None = None, online: int = 1, members: int = 1
) -> dict:
    nodes = [f"rabbit@{number}" for number in range(members)]
    return {
        "vhost": "shop",
        "name": name,
        "type": "quorum",
        "ready": ready,
        "unacknowledged": unacknowledged,
        "oldest_ms": oldest_ms,
        "members": nodes,
        "online": nodes[:online],
    }


def counters(at_ms: int, acknowledged: int, **depths: int) -> dict:
    listed = [{"vhost": "shop", "name": name, "messages": number} for name, number in depths.items()]
    return {"at_ms": at_ms, "acknowledged": acknowledged, "depths": listed}


def program(state: str = "RUNNING", release: str = "abc") -> dict:
    return {"state": state, "for_s": 60, "said": "" if state == "RUNNING" else "Exited too quickly", "release": release}


def fleet() -> dict:
    consumer = {"vhost": "shop", "queue": "shop", "connection": "10.0.0.31:4711 -> 10.0.0.11:5671 (1)"}
    broker = {
        "node": "rabbit@0",
        "version": "4.0.5",
        "started_ms": 1,
        "alarms": [],
        "running": ["rabbit@0"],
        "queues": [queue("shop"), queue("dead_letters"), queue("celery_delayed_3")],
        "consumers": [consumer],
        "counters": [counters(0, 100, shop=0), counters(1000, 100, shop=0)],
    }
    database = {"max_connections": 100, "reserved": 3, "backends": 5, "active": 1, "waiting_for_locks": 0}
    database |= {"accepts_writes": True, "not_listening": []}
    producer = {"url": "http://x/healthz", "answers": {"ok": True, "error": ""}, "publish": {"confirmed": True}, "seconds": 0.1}
    stand = {"name": "shop", "release": "abc"}
    programs = {"celery-worker": program()}
    return {
        "broker1": {"sections": {"broker": broker}},
        "db1": {"sections": {"database": database}},
        "worker1": {"sections": {"bouncer": BOUNCER, "programs": programs, "application": {**stand}}},
        "web1": {
            "sections": {"producer": producer, "bouncer": BOUNCER, "programs": {"producer": program()}, "application": stand}
        },
    }


def judged(answers: dict, hosts: dict | None = None, previous: dict | None = None) -> dict:
    return StatusReport(answers, hosts or HOSTS, previous).report()


def test_a_fleet_that_is_well_accepts_and_needs_nothing():
    report = judged(fleet())
    assert (report["accepting"], report["verdict"], report["attention"]) == (True, "Yes, jobs are accepted now.", [])
    assert render(report).startswith("Yes, jobs are accepted now.\n")


def test_a_certificate_that_no_run_renewed_is_named():
    answers = fleet()
    answers["db1"]["sections"]["certificates"] = {"days": {"postgresql": 59.9, "late": -2.0, "good": 60.1}, "renew_days": 60}
    report = judged(answers)
    assert report["attention"] == [
        "db1: the certificate postgresql expires in 59.9 days: run site.yml",
        "db1: the certificate late expired 2 days ago: run site.yml",
    ]
    assert "certificate db1: good has 60 days left" in render(report)


def test_an_authority_that_ends_before_a_certificate_would_is_named_once():
    """Review finding 9."""
    answers = fleet()
    for host in ("db1", "web1"):
        told = {"days": {"journal": 40.0}, "authority_days": 40.0, "lasts_days": 365, "renew_days": 60}
        answers[host]["sections"]["certificates"] = told
    ending = "db1, web1: the authority behind the certificates expires in 40 days: change to another one (docs/tls.md)"
    assert judged(answers)["attention"] == [ending]


@pytest.mark.parametrize(
    ("recorded", "attention", "rows"),
    [
        ({}, [], []),
        ({"db1": "1.0.0", "web1": "1.0.0"}, [], ["1.0.0 on db1, web1"]),
        ({"db1": None, "web1": None}, [], ["none recorded on db1, web1"]),
        (
            {"broker1": "1.0.0", "db1": None, "web1": "1.1.0"},
            [
                "different versions of Grunnfjell last ran on the hosts: none recorded on db1, 1.0.0 on broker1, 1.1.0 on web1. "
                "Run site.yml of the newest"
            ],
            ["none recorded on db1", "1.0.0 on broker1", "1.1.0 on web1"],
        ),
    ],
)
def test_the_versions_that_last_ran_are_shown_and_a_difference_is_named(recorded, attention, rows):
    answers = fleet()
    for host, version in recorded.items():
        answers[host]["sections"]["version"] = {"version": version}
    report = judged(answers)
    assert (report["versions"], report["attention"]) == (recorded, attention)
    lines = [line for line in render(report).splitlines() if line.startswith("  version")]
    assert lines == [f"  version     {row}" for row in rows]


@pytest.mark.parametrize(
    ("told", "attention"),
    [
        ({"in_force": True, "as_confirmed": True}, []),
        (
            {"in_force": False, "as_confirmed": False},
            [
                "db1: no firewall is in force, so every port is open to everybody. Run site.yml, and read why: "
                "journalctl -u grunnfjell-firewall"
            ],
        ),
        (
            {"in_force": True, "as_confirmed": False},
            ["db1: the rules of the firewall are not those that the last run confirmed: run site.yml"],
        ),
        ({"error": "nft: not found"}, ["db1: its firewall: nft: not found"]),
    ],
)
def test_a_host_that_stands_open_is_named(told: dict, attention: list[str]):
    answers = fleet()
    answers["db1"]["sections"]["firewall"] = told
    assert judged(answers)["attention"] == attention


def alarmed(answers: dict) -> None:
    answers["broker1"]["sections"]["broker"]["alarms"] = [{"what": "memory", "node": "rabbit@0"}]
    answers["web1"]["sections"]["producer"]["publish"] = {"confirmed": False, "error": "the broker confirms nothing: timeout"}


def stopped(answers: dict) -> None:
    answers["broker1"]["sections"]["broker"] = {"error": "unable to connect"}
    answers["web1"]["sections"]["producer"]["publish"] = {"confirmed": False, "error": "no connection to the broker: refused"}


def mute(answers: dict) -> None:
    answers["web1"]["sections"]["producer"]["answers"] = {"ok": False, "error": "Connection refused"}


def away(answers: dict) -> None:
    answers["web1"] = {"unreachable": True, "msg": "No route to host"}


def forbidden(answers: dict) -> None:
    answers["web1"]["sections"]["producer"]["publish"] = {"confirmed": False, "error": "the exchange shop takes no message: 403"}


def test_what_no_broker_told_is_not_told_as_nothing():
    answers = fleet()
    stopped(answers)
    report = judged(answers)
    assert report["drain"]["backlog"] is None and "no broker reported" in render(report)
    assert "nothing waits" not in render(report) and "letters:" not in render(report)


def without_quorum(answers: dict) -> None:
    answers["broker1"]["sections"]["broker"]["queues"] = [queue("shop", members=3, online=1)]


@pytest.mark.parametrize(
    ("hurt", "said"),
    [
        (alarmed, "memory alarm and accepts no message. Let the workers drain"),
        (stopped, "systemctl start rabbitmq-server"),
        (mute, "does not answer at http://x/healthz (Connection refused). On web1: supervisorctl status"),
        (away, "web1 cannot be queried (unreachable: No route to host)"),
        (forbidden, "web1: the exchange shop takes no message: 403"),
        (without_quorum, "has lost its quorum: 1 of 3 brokers"),
    ],
)
def test_each_way_to_accept_nothing_is_said_with_what_to_do(hurt, said):
    answers = fleet()
    hurt(answers)
    report = judged(answers)
    assert not report["accepting"]
    assert report["verdict"].startswith("No: ") and said in report["verdict"]
    assert "\n" not in report["verdict"]


def test_one_of_two_producers_is_enough_and_the_other_is_named():
    answers, hosts = fleet(), {**HOSTS, "web2": HOSTS["web1"]}
    answers["web2"] = {"unreachable": True, "msg": "No route to host"}
    report = judged(answers, hosts)
    assert report["accepting"] and "not everywhere: web2 cannot be queried" in report["verdict"]


def test_every_application_needs_a_producer():
    answers, hosts = fleet(), {**HOSTS, "web2": HostInfo(frozenset({"producer"}), "other")}
    answers["web2"] = {"unreachable": True}
    assert not judged(answers, hosts)["accepting"]


def test_a_host_that_is_away_is_a_line_and_the_rest_is_told():
    answers = fleet()
    answers["db1"] = {"unreachable": True, "msg": "No route to host"}
    report = judged(answers)
    assert report["accepting"] and report["hosts"]["db1"]["reachable"] is False
    assert report["attention"] == ["db1 did not answer: unreachable: No route to host"]


def test_who_consumes_and_is_no_worker_of_the_inventory_is_named():
    answers = fleet()
    consumers = answers["broker1"]["sections"]["broker"]["consumers"]
    consumers.append({"vhost": "shop", "queue": "shop", "connection": "10.0.0.99:1 -> 10.0.0.11:5671 (1)"})
    consumers.append({"vhost": "shop", "queue": "x@y.celery.pidbox", "connection": "10.0.0.98:1 -> 10.0.0.11:5671 (1)"})
    report = judged(answers)
    assert report["strangers"] == [{"who": "10.0.0.99", "vhost": "shop", "queue": "shop", "consumers": 1}]
    assert "10.0.0.99 consumes shop/shop and is not in the inventory" in report["attention"]
    drained = {**HOSTS, "worker1": HostInfo(HOSTS["worker1"].roles, "shop", HOSTS["worker1"].addresses, drained=True)}
    assert "worker1 consumes shop/shop and is not an active worker of the inventory" in judged(fleet(), drained)["attention"]


def test_what_needs_a_look_is_said():
    answers = fleet()
    sections = answers["worker1"]["sections"]
    sections["programs"]["celery-mail"] = program("BACKOFF")
    sections["application"]["release"] = "new"
    sections["bouncer"] = copy.deepcopy(BOUNCER)
    sections["bouncer"]["pools"][0] |= {"clients_waiting": 7, "longest_wait_s": 2.5}
    answers["db1"]["sections"]["database"] |= {"backends": 90, "not_listening": ["10.0.0.21"]}
    broker = answers["broker1"]["sections"]["broker"]
    broker["queues"] = [queue("shop", ready=4), queue("dead_letters", ready=1)]
    broker["consumers"] = []
    assert set(judged(answers)["attention"]) == {
        "1 dead letter in shop: make dead-letters",
        "db1: PostgreSQL does not listen on 10.0.0.21: run site.yml, which restarts it",
        "shop/shop holds 4 jobs and has no consumer",
        "worker1 is a worker and consumes nothing",
        "worker1: celery-mail is BACKOFF: Exited too quickly",
        "worker1 runs shop abc, but its current release is new: run site.yml",
        "the hosts of shop do not agree on its release: abc on web1, new on worker1",
        "worker1: 7 clients of shop wait for PgBouncer, the longest for 2.5 s",
        "db1: PostgreSQL has 90 of 97 backends",
    }


def test_depth_age_and_consumers_of_a_queue():
    answers = fleet()
    answers["broker1"]["sections"]["broker"]["queues"] = [queue("shop", 12, 4, 35000), queue("celery_delayed_3", 2)]
    report = judged(answers)
    (shop,) = report["queues"]
    assert (shop["ready"], shop["unacknowledged"], shop["oldest_s"], shop["consumer_hosts"]) == (12, 4, 35.0, ["worker1"])
    assert report["delayed"] == 2
    assert "shop/shop: 12 waiting, 4 running, oldest 35 s, 1 consumers (worker1), 1 of 1 members" in render(report)


def test_a_rate_is_of_the_time_since_the_last_report_or_of_one_second():
    brokers = {"broker1": fleet()["broker1"]["sections"]["broker"]}
    brokers["broker1"]["counters"] = [counters(59_000, 140, shop=10), counters(60_000, 150, shop=12, dead_letters=99)]
    assert rates(brokers, {}) == Rates(1.0, 10.0, 12.0)
    minute = {"rabbit@0": {"started_ms": 1, **counters(0, 30, shop=72)}}
    assert rates(brokers, minute) == Rates(60.0, 2.0, 1.0)
    # Another life of the broker, another node, a moment ago, an hour ago.
    for other in (
        {"rabbit@0": {"started_ms": 2, **counters(0, 30, shop=72)}},
        {"rabbit@1": {"started_ms": 1, **counters(0, 30, shop=72)}},
        {"rabbit@0": {"started_ms": 1, **counters(58_000, 30, shop=72)}},
        {"rabbit@0": {"started_ms": 1, **counters(-3_600_000, 30, shop=72)}},
    ):
        assert rates(brokers, other).window_s == 1.0


def test_the_time_to_drain_says_what_it_rests_on():
    assert drain(0, None)["drain_s"] == 0.0
    assert drain(5, None)["drain_s"] is None
    assert "no job finished within 1 s" in drain(5, Rates(1.0, 0.0, 0.0))["sentence"]
    shrinking = drain(120, Rates(60.0, 3.0, 1.0))
    assert (shrinking["drain_s"], shrinking["drain_without_arrivals_s"]) == (60.0, 40.0)
    growing = drain(120, Rates(60.0, 1.0, 3.0))
    assert growing["drain_s"] is None and "does not shrink; 2 min if nothing more arrived" in growing["sentence"]


@given(st.integers(1, 10**6), st.floats(0.01, 1e3), st.floats(0.0, 1e3))
def test_a_backlog_drains_no_faster_than_without_arrivals(backlog, ended, came):
    told = drain(backlog, Rates(60.0, ended, came))
    assert (told["drain_s"] is None) == (ended <= came)
    if told["drain_s"] is not None:
        assert told["drain_s"] >= told["drain_without_arrivals_s"] - 0.1


@pytest.mark.parametrize("name", ["shop", "mail", "celery", "a.celery.pidbox.not"])
def test_work_is_what_is_not_celerys_own(name):
    assert is_work(name)


@pytest.mark.parametrize(
    "name",
    ["dead_letters", "celery_delayed_27", "w@h.celery.pidbox", "celeryev.1", "celeryev", "90319a2a-a456-3627-92b2-9396d8169a30"],
)
def test_celerys_own_queues_are_no_work(name):
    assert not is_work(name)


def test_a_peer_is_told_by_its_address():
    assert peer("10.0.0.4:4711 -> 10.0.0.2:5671 (1)") == "10.0.0.4"
    assert peer("[fd00::4]:4711 -> [fd00::2]:5671 (1)") == "fd00::4"
    assert peer("[::ffff:10.0.0.4]:4711 -> [::]:5671 (1)") == "10.0.0.4"


def test_a_span_is_for_a_person():
    assert [span(seconds) for seconds in (0, 0.25, 42, 600, 7200 * 3, 86400 * 9)] == [
        "0 s",
        "0.25 s",
        "42 s",
        "10 min",
        "6.0 h",
        "9 d",
    ]


def test_pgbouncers_tables_become_figures():
    pool = {
        "database": "shop",
        "user": "shop",
        "cl_active": "2",
        "cl_waiting": "3",
        "sv_active": "1",
        "sv_idle": "2",
        "sv_used": "0",
        "sv_tested": "0",
        "sv_login": "0",
        "maxwait": "1",
        "maxwait_us": "500000",
    }
    told = platform_status.bouncer_figures(
        [pool, {**pool, "database": "pgbouncer"}], [{"database": "shop", "avg_wait_time": "2500"}]
    )
    assert [one["longest_wait_s"] for one in told["pools"]] == [1.5]
    assert told["average_wait_s"] == 0.0025


def test_a_hole_in_the_report_is_told_and_costs_nothing_else():
    assert "supervisord does not answer on /nowhere" in platform_status.ask("programs", {"socket": "/nowhere"})["error"]
    assert "no release is installed" in platform_status.ask("application", {"name": "nothing-of-that-name"})["error"]


def test_a_command_that_takes_too_long_ends_with_all_that_it_started():
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        bounded.run(["sh", "-c", "sleep 30 & wait"], 0.3)
    assert time.monotonic() - began < 10
    assert bounded.run(["sh", "-c", "cat; echo b >&2; exit 3"], 10, "a").returncode == 3


def test_the_report_is_json_of_one_schema():
    report = judged(fleet())
    assert report["schema"] == status.SCHEMA
    assert set(report) == {
        "schema",
        "accepting",
        "verdict",
        "attention",
        "hosts",
        "producers",
        "brokers",
        "queues",
        "delayed",
        "dead_letters",
        "drain",
        "strangers",
        "bouncers",
        "databases",
        "programs",
        "releases",
        "certificates",
        "firewalls",
        "versions",
        "counters",
    }
