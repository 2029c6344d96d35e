"""The status report, from the answers of the hosts."""

import copy
from dataclasses import replace

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports import status
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.status import HostInfo, StatusReport
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.status_text import render
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports.work_rates import Rates, rates

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
    messages = {"ready": ready, "unacknowledged": unacknowledged, "oldest_ms": oldest_ms}
    kept = {"type": "quorum", "dead_letters_to": "dead_letters", "delivery_limit": 20, "faults": []}
    return {"vhost": "shop", "name": name, "known_as": [name], **kept} | {
        "members": nodes,
        "online": nodes[:online],
        **messages,
    }


def counters(at_ms: int, acknowledged: int, **depths: int) -> dict:
    queues = [{"vhost": "shop", "name": name, "messages": number} for name, number in depths.items()]
    return {"at_ms": at_ms, "acknowledged": acknowledged, "depths": queues}


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
    worker, web = (
        {"bouncer": BOUNCER, "programs": {name: program()}, "application": {"name": "shop", "release": "abc"}}
        for name in ("celery-worker", "producer")
    )
    sections = {"broker1": {"broker": broker}, "db1": {"database": database}, "worker1": worker}
    sections["web1"] = web | {"producer": producer}
    return {host: {"sections": own} for host, own in sections.items()}


def report_of(answers: dict, hosts: dict | None = None, previous: dict | None = None) -> dict:
    return StatusReport(answers, hosts or HOSTS, previous).report()


def report_with(section: str, values: object, *hosts: str) -> dict:
    """The report of the healthy fleet, in which this section of these hosts has other values."""
    answers = fleet()
    for host in hosts:
        answers[host]["sections"][section] = values
    return report_of(answers)


def test_a_healthy_fleet_accepts_and_needs_no_attention():
    report = report_of(fleet())
    assert (report["accepting"], report["verdict"], report["attention"]) == (True, "Yes, jobs are accepted now.", [])
    assert render(report).startswith("Yes, jobs are accepted now.\n")


def test_a_certificate_that_no_run_renewed_is_named():
    days = {"postgresql": 59.9, "late": -2.0, "good": 60.1}
    report = report_with("certificates", {"days": days, "renew_days": 60}, "db1")
    assert report["attention"] == [
        "db1: the certificate postgresql expires in 59.9 days: run site.yml",
        "db1: the certificate late expired 2 days ago: run site.yml",
    ]
    assert "certificate db1: good has 60 days left" in render(report)


def test_an_authority_that_ends_before_a_certificate_would_is_named_once():
    """Review finding 9."""
    certificates = {"days": {"journal": 40.0}, "authority_days": 40.0, "lasts_days": 365, "renew_days": 60}
    ending = "db1, web1: the authority behind the certificates expires in 40 days: change to another one (docs/tls.md)"
    assert report_with("certificates", certificates, "db1", "web1")["attention"] == [ending]


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
    report = report_of(answers)
    assert (report["versions"], report["attention"]) == (recorded, attention)
    lines = [line for line in render(report).splitlines() if line.startswith("  version")]
    assert lines == [f"  version     {row}" for row in rows]


@pytest.mark.parametrize(
    ("firewall", "attention"),
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
def test_a_host_without_its_firewall_is_named(firewall: dict, attention: list[str]):
    assert report_with("firewall", firewall, "db1")["attention"] == attention


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
    answers["web1"]["sections"]["producer"]["publish"] = {
        "confirmed": False,
        "error": "the exchange shop accepts no message: 403",
    }


def test_a_depth_that_no_broker_reported_is_not_reported_as_zero():
    answers = fleet()
    stopped(answers)
    report = report_of(answers)
    assert report["drain"]["backlog"] is None and "no broker reported" in render(report)
    assert "nothing waits" not in render(report) and "letters:" not in render(report)


def without_quorum(answers: dict) -> None:
    answers["broker1"]["sections"]["broker"]["queues"] = [queue("shop", members=3, online=1)]


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (alarmed, "memory alarm and accepts no message. Let the workers drain"),
        (stopped, "systemctl start rabbitmq-server"),
        (mute, "does not answer at http://x/healthz (Connection refused). On web1: supervisorctl status"),
        (away, "web1 cannot be queried (unreachable: No route to host)"),
        (forbidden, "web1: the exchange shop accepts no message: 403"),
        (without_quorum, "has lost its quorum: 1 of 3 brokers"),
    ],
)
def test_each_reason_to_accept_nothing_is_named_with_what_to_do(damage, sentence):
    answers = fleet()
    damage(answers)
    report = report_of(answers)
    assert not report["accepting"]
    assert report["verdict"].startswith("No: ") and sentence in report["verdict"]
    assert "\n" not in report["verdict"]


def test_a_named_web_server_that_does_not_answer_is_named_and_jobs_are_still_accepted():
    answers = fleet()
    mute = {"url": "https://x/ws/health", "answers": {"ok": False, "error": "it answers 502"}}
    answers["web1"]["sections"]["producer"]["servers"] = {"live": mute, "api": mute | {"answers": {"ok": True, "error": ""}}}
    report = report_of(answers)
    assert report["accepting"]
    assert report["attention"] == [
        "web1: the web server 'live' does not answer at https://x/ws/health (it answers 502). "
        "On web1: supervisorctl status, and its log in /var/log/producer"
    ]


def test_one_of_two_producers_is_enough_and_the_other_is_named():
    answers, hosts = fleet(), {**HOSTS, "web2": HOSTS["web1"]}
    answers["web2"] = {"unreachable": True, "msg": "No route to host"}
    report = report_of(answers, hosts)
    assert report["accepting"] and "not everywhere: web2 cannot be queried" in report["verdict"]


def test_every_application_needs_a_producer():
    answers, hosts = fleet(), {**HOSTS, "web2": HostInfo(frozenset({"producer"}), "other")}
    answers["web2"] = {"unreachable": True}
    assert not report_of(answers, hosts)["accepting"]


def test_an_unreachable_host_is_one_line_of_the_report():
    answers = fleet()
    answers["db1"] = {"unreachable": True, "msg": "No route to host"}
    report = report_of(answers)
    assert report["accepting"] and report["hosts"]["db1"]["reachable"] is False
    assert report["attention"] == ["db1 did not answer: unreachable: No route to host"]


def test_unknown_consumers_are_named():
    answers = fleet()
    consumers = answers["broker1"]["sections"]["broker"]["consumers"]
    consumers.append({"vhost": "shop", "queue": "shop", "connection": "10.0.0.99:1 -> 10.0.0.11:5671 (1)"})
    consumers.append({"vhost": "shop", "queue": "x@y.celery.pidbox", "connection": "10.0.0.98:1 -> 10.0.0.11:5671 (1)"})
    report = report_of(answers)
    assert report["strangers"] == [{"who": "10.0.0.99", "vhost": "shop", "queue": "shop", "consumers": 1}]
    assert "10.0.0.99 consumes shop/shop and is not in the inventory" in report["attention"]
    drained = {**HOSTS, "worker1": HostInfo(HOSTS["worker1"].roles, "shop", HOSTS["worker1"].addresses, drained=True)}
    assert "worker1 consumes shop/shop and is not an active worker of the inventory" in report_of(fleet(), drained)["attention"]


def test_everything_that_needs_attention_is_named():
    answers = fleet()
    sections = answers["worker1"]["sections"]
    sections["programs"]["celery-mail"] = program("BACKOFF")
    sections["application"]["release"] = "new"
    sections["application"]["failed_timers"] = [{"unit": "grunnfjell-timer-shop-nightly.service", "why": "timeout"}]
    sections["bouncer"] = copy.deepcopy(BOUNCER)
    sections["bouncer"]["pools"][0] |= {"clients_waiting": 7, "longest_wait_s": 2.5}
    answers["db1"]["sections"]["database"] |= {"backends": 90, "not_listening": ["10.0.0.21"]}
    broker = answers["broker1"]["sections"]["broker"]
    broker["queues"] = [queue("shop", ready=4), queue("dead_letters", ready=1)]
    broker["consumers"] = []
    assert set(report_of(answers)["attention"]) == {
        "1 dead letter in shop: make dead-letters",
        "db1: PostgreSQL does not listen on 10.0.0.21: run site.yml, which restarts it",
        "shop/shop holds 4 jobs and has no consumer",
        "worker1 is a worker and consumes nothing",
        "worker1: celery-mail is BACKOFF: Exited too quickly",
        "worker1: the last run of grunnfjell-timer-shop-nightly.service failed (timeout): journalctl -u "
        "grunnfjell-timer-shop-nightly.service",
        "worker1 runs shop abc, but its current release is new: run site.yml",
        "the hosts of shop do not agree on its release: abc on web1, new on worker1",
        "worker1: 7 clients of shop wait for PgBouncer, the longest for 2.5 s",
        "db1: PostgreSQL has 90 of 97 backends",
    }


def test_depth_age_and_consumers_of_a_queue():
    answers = fleet()
    answers["broker1"]["sections"]["broker"]["queues"] = [queue("shop", 12, 4, 35000), queue("celery_delayed_3", 2)]
    report = report_of(answers)
    (shop,) = report["queues"]
    assert (shop["ready"], shop["unacknowledged"], shop["oldest_s"], shop["consumer_hosts"]) == (12, 4, 35.0, ["worker1"])
    assert report["delayed"] == 2
    assert "shop/shop: 12 waiting, 4 running, oldest 35 s, 1 consumers (worker1), 1 of 1 members" in render(report)


@pytest.mark.parametrize(
    ("name", "known_as"),
    [("cache", ["cache"]), ("bcast.5a1e0d3c-0000-4000-8000-000000000000", ["cache", "bcast"])],
)
def test_a_waived_queue_is_shown_with_its_reason_and_needs_no_attention(name: str, known_as: list[str]):
    answers = fleet()
    broker, fault = (
        answers["broker1"]["sections"]["broker"],
        {"setting": "x", "text": "it loses jobs, since it is classic: fix it"},
    )
    for other, names in ((name, known_as), ("mail", ["mail"])):
        losing = {"type": "classic", "dead_letters_to": None, "faults": [fault], "known_as": names}
        broker["queues"].append(queue(other) | losing)
        broker["consumers"].append(broker["consumers"][0] | {"queue": other})
    hosts = HOSTS | {"worker1": replace(HOSTS["worker1"], waived_queues={"cache": "each worker empties its cache"})}
    report = report_of(answers, hosts)
    assert report["verdict"] == "Yes, jobs are accepted now, but it loses jobs, since it is classic."
    assert report["attention"] == [fault["text"]], "the other queue is not waived"
    row = f"  waived      shop/{name}: each worker empties its cache (it loses jobs, since it is classic)"
    assert row in render(report).splitlines()
    assert {entry["name"]: entry["waived"] for entry in report["queues"]}["mail"] == ""


def test_a_rate_covers_the_time_since_the_last_report_or_one_second():
    brokers = {"broker1": fleet()["broker1"]["sections"]["broker"]}
    brokers["broker1"]["counters"] = [counters(59_000, 140, shop=10), counters(60_000, 150, shop=12, dead_letters=99)]
    assert rates(brokers, {}) == Rates(1.0, 10.0, 12.0)
    minute = {"rabbit@0": {"started_ms": 1, **counters(0, 30, shop=72)}}
    assert rates(brokers, minute) == Rates(60.0, 2.0, 1.0)
    # The broker was restarted, another node, a moment ago, an hour ago.
    for other in (
        {"rabbit@0": {"started_ms": 2, **counters(0, 30, shop=72)}},
        {"rabbit@1": {"started_ms": 1, **counters(0, 30, shop=72)}},
        {"rabbit@0": {"started_ms": 1, **counters(58_000, 30, shop=72)}},
        {"rabbit@0": {"started_ms": 1, **counters(-3_600_000, 30, shop=72)}},
    ):
        assert rates(brokers, other).window_s == 1.0


def test_the_report_has_the_keys_of_its_schema():
    report = report_of(fleet())
    assert report["schema"] == status.SCHEMA
    assert set(report) == {
        "schema", "accepting", "verdict", "attention", "hosts", "producers", "brokers", "queues", "delayed", "dead_letters",
        "drain", "strangers", "bouncers", "databases", "programs", "releases", "beats", "certificates", "firewalls", "archives",
        "backups", "files", "etcd", "patroni", "keepalived", "updates", "versions", "counters",
        "replaced",
    }  # fmt: skip
