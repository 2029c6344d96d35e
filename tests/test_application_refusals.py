"""Workers, programs and settings of an application that cannot work are refused, with a sentence that names what to edit."""

from dataclasses import replace
from itertools import pairwise

import pytest
from fleets import HOSTS, make_host, refused, with_inputs

TIMERS = {
    "pgbouncer_query_wait_timeout": 60,
    "application_soft_time_limit": 510,
    "application_time_limit": 540,
    "celery_worker_stopwaitsecs": 600,
    "supervisor_timeout_stop_sec": 660,
}
DRAINED, BEAT = {"celery_worker_state": "drained"}, {"celery_worker_beat": True}


def test_an_application_without_a_worker_is_refused() -> None:
    sentences = refused(**{name: replace(HOSTS[name], applications=()) for name in ("worker1", "worker2")})
    assert any("The application 'newsroom' has no worker" in sentence for sentence in sentences)
    assert any("worker1 belongs to none of the applications" in sentence for sentence in sentences)


def test_a_second_beat_is_refused() -> None:
    (sentence,) = refused(worker1=BEAT, worker2=BEAT)
    assert "has 2 beats (worker1, worker2)" in sentence
    assert refused(worker1=BEAT) == []


def test_a_drained_worker_frees_its_connections_and_one_worker_must_remain() -> None:
    server = {"postgresql_max_connections": 57}
    (sentence,) = refused(db1=server)
    assert "may open 81 connections" in sentence
    assert refused(worker1=DRAINED, db1=server) == []
    (sentence,) = refused(worker1=DRAINED, worker2=DRAINED)
    assert "All 2 workers of the application 'newsroom' are drained (worker1, worker2)" in sentence


def test_a_drained_beat_is_refused() -> None:
    (sentence,) = refused(worker1=DRAINED | BEAT)
    assert "worker1 is drained, but runs the beat" in sentence


@pytest.mark.parametrize(("batch", "works"), [([1, "25%"], True), (["100%"], True), (["0"], False), (["most"], False)])
def test_an_unreadable_batch_is_refused(batch: list, works: bool) -> None:
    sentences = refused(worker1={"celery_worker_batch": batch})
    assert sentences == [] if works else "celery_worker_batch holds" in sentences[0]


@pytest.mark.parametrize(("shorter", "longer"), list(pairwise(TIMERS)))
def test_timers_out_of_order_are_refused_with_both(shorter: str, longer: str) -> None:
    assert refused(worker1=TIMERS) == []
    sentences = refused(worker1={**TIMERS, shorter: TIMERS[longer]})
    assert any(f"{shorter} is {TIMERS[longer]} s and {longer} is {TIMERS[longer]} s" in sentence for sentence in sentences)


def test_a_task_that_outlasts_the_consumer_timeout_is_refused() -> None:
    (sentence,) = refused(broker1={"rabbitmq_consumer_timeout": 540_000}, worker1=TIMERS)
    assert "application_time_limit is 540 s, but broker1 takes a job back" in sentence


@pytest.mark.parametrize(
    ("arguments", "refusals"),
    [
        (["-E", "--max-tasks-per-child=100", "--pool=prefork", "--without-heartbeat", "-Ofair"], 0),
        (["--time-limit=540", "--soft-time-limit", "30"], 0),
        (["--time-limit", "541"], 1),
        (["--soft-time-limit=0"], 1),
        (["--soft-time-limit=ever"], 1),
        (["-Psolo"], 1),
        (["-EP", "gevent"], 1),
        (["--pool=eventlet", "--purge", "-Qmail", "-X", "shop", "-n", "me@%h", "-D", "-B"], 7),
    ],
)
def test_arguments_that_override_the_promise_are_refused_unless_waived(arguments: list, refusals: int) -> None:
    """Review finding 6."""
    inputs = {**TIMERS, "celery_worker_programs": [{"name": "celery-worker", "arguments": arguments}]}
    assert len(refused(worker1=inputs)) == refusals
    waivers = dict.fromkeys(("worker_pool", "task_time_limit", "task_soft_time_limit"), "it mails")
    if refusals == 1:
        assert refused(worker1=inputs | {"application_waivers": waivers}) == []


@pytest.mark.parametrize(
    ("programs", "beat", "collide"),
    [
        (["celery-mail", "mail"], False, True),
        (["mail", "mail.err"], False, True),
        (["beat"], True, True),
        (["beat"], False, False),
        (["celery-mail", "celery-sms"], True, False),
    ],
)
def test_two_programs_never_share_a_log(programs: list, beat: bool, collide: bool) -> None:
    declared = [{"name": name} for name in programs]
    sentences = refused(worker1={"celery_worker_programs": declared, "celery_worker_beat": beat})
    assert len(sentences) == collide and all("would write to one log" in sentence for sentence in sentences), sentences


def test_a_queue_needs_only_one_worker_that_consumes_it() -> None:
    routes = {"task_routes": [{"a.*": {"queue": "heavy"}, "b": "newsroom"}]}
    hosts = {
        "web1": {"application_name": "newsroom", "application_celery_settings": routes},
        "worker1": {"application_name": "newsroom", "celery_worker_programs": [{"name": "celery-worker"}]},
    }
    (sentence,) = refused(**hosts)
    assert "web1: application_celery_settings.task_routes sends jobs of 'newsroom' to the queue 'heavy'" in sentence
    programs = [{"name": "heavy", "queues": ["heavy"]}]
    assert refused(**hosts, worker2={"application_name": "newsroom", "celery_worker_programs": programs}) == []


def test_a_transport_option_keeps_the_promised_ones() -> None:
    """Review finding 7. Numbers may change; confirms may only go with a reason."""
    options = {"visibility_timeout": 3600, "max_retries": 5, "confirm_publish": True}
    assert refused(worker1={"application_celery_settings": {"broker_transport_options": options}}) == []
    inputs = {"application_celery_settings": {"broker_transport_options": {"confirm_publish": False}}}
    (sentence,) = refused(worker1=inputs)
    assert "confirm_publish" in sentence
    assert refused(worker1=inputs | {"application_waivers": {"broker_transport_options": "metrics only"}}) == []


@pytest.mark.parametrize(
    ("inputs", "sentence"),
    [
        ({"celery_worker_programs": [{"name": "celery-worker"}] * 2}, "names 'celery-worker' twice"),
        ({"celery_worker_programs": [{"name": "celery-worker", "queues": ["a", "a"]}]}, "names the queue 'a' twice"),
        (
            {"celery_worker_programs": [{"name": "celery-worker", "concurrency": 0}]},
            "has the concurrency 0, but needs at least 1",
        ),
        # Review finding 8: what supervisord or Celery would refuse later.
        ({"celery_worker_programs": [{"name": "mail:eu"}]}, "names 'mail:eu'"),
        ({"celery_worker_programs": [{"name": "mail/eu"}]}, "names 'mail/eu'"),
        ({"celery_worker_programs": [{"name": "mail eu"}]}, "names 'mail eu'"),
        ({"celery_worker_programs": [{"name": ""}]}, "names ''"),
        ({"celery_worker_programs": [{"name": "mail", "queues": ["a,b"]}]}, "the program 'mail' names the queue 'a,b'"),
        ({"celery_worker_queues": ["a b"]}, "celery_worker_queues names the queue 'a b'"),
        ({"celery_worker_queues": [""]}, "celery_worker_queues names the queue ''"),
        ({"celery_worker_logfile_maxbytes": "50MiB"}, "celery_worker_logfile_maxbytes is '50MiB'"),
        ({"celery_worker_logfile_maxbytes": "50 MB"}, "celery_worker_logfile_maxbytes is '50 MB'"),
        ({"celery_worker_logfile_maxbytes": "-1"}, "celery_worker_logfile_maxbytes is '-1'"),
        ({"application_waivers": {"task_acks_late": ""}}, "waives task_acks_late without a reason"),
        ({"application_waived_queues": {"cache": " "}}, "application_waived_queues names cache without a reason"),
    ],
)
def test_inputs_that_cannot_work_are_refused(inputs: dict, sentence: str) -> None:
    (refusal,) = refused(worker1=inputs)
    assert sentence in refusal


@pytest.mark.parametrize("size", ["50MB", "50mb", "1GB", "512KB", "0", 1048576])
def test_sizes_that_supervisord_reads_are_accepted(size: object) -> None:
    """Review finding 8."""
    assert refused(worker1={"celery_worker_logfile_maxbytes": size}) == []


@pytest.mark.parametrize(
    ("app", "refusals"), [("newsroom.web", 1), ("newsroom.web:", 1), ("newsroom.web:app", 0), ("web:make()", 0)]
)
def test_a_web_application_is_a_module_and_its_callable(app: str, refusals: int) -> None:
    assert len(refused(web1={"producer_wsgi_app": app})) == refusals


def test_a_setting_that_breaks_the_promise_is_refused_unless_waived() -> None:
    worker = replace(HOSTS["worker1"], promises=frozenset({"task_acks_late"}))
    worker = with_inputs(worker, application_celery_settings={"task_acks_late": False})
    (sentence,) = refused(worker1=worker)
    assert "application_celery_settings sets task_acks_late" in sentence
    assert refused(worker1=with_inputs(worker, application_waivers={"task_acks_late": "sends mail"})) == []


def test_a_worker_with_a_beat_needs_no_producer() -> None:
    hosts = {
        "web1": replace(HOSTS["web1"], roles=frozenset({"pgbouncer"}), applications=()),
        "web2": make_host("web2", "producer"),
    }
    assert any("has no producer and no beat" in sentence for sentence in refused(**hosts))
    assert not any("has no producer" in sentence for sentence in refused(**hosts, worker1=BEAT))
