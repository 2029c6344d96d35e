"""Running workers keep the promises of the platform, or are refused with the setting that breaks them."""

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils.celery_queues import routed
from ansible_collections.grunnfjell.platform.plugins.modules.celery_promises import (
    broken,
    queues_sent_to,
    task_settings,
    unconsumed_jobs,
    unknown_waivers,
)

PROMISES = {"task_acks_late": True, "task_reject_on_worker_lost": True, "task_time_limit": 540}


def refused(conf: dict, promises: dict = PROMISES, waivers: dict | None = None, **answer: object) -> list[str]:
    return broken("w@1", {"conf": conf, **answer}, promises, waivers or {})


def test_a_worker_that_keeps_the_promise_is_not_refused() -> None:
    assert (
        refused({**PROMISES, "other": 1}, tasks=["shop.pay [acks_late=True reject_on_worker_lost=True time_limit=540.0]"]) == []
    )


def test_a_setting_that_breaks_the_promise_is_refused_by_name() -> None:
    (sentence,) = refused({**PROMISES, "task_acks_late": False})
    assert "task_acks_late is False, but the promise needs True" in sentence and "application_waivers" in sentence


TLS = {"broker_use_ssl": {"ca_certs": "/a", "keyfile": "/k", "cert_reqs": 2, "server_hostname": "10.0.0.1"}}


def test_tls_as_celery_shows_it_keeps_the_promise() -> None:
    shown = {**TLS["broker_use_ssl"], "keyfile": "********", "certfile": "/c"}
    assert refused({"broker_use_ssl": shown}, TLS) == []


@pytest.mark.parametrize(
    "setting",
    [
        False,
        True,
        {**TLS["broker_use_ssl"], "cert_reqs": 0},
        {**TLS["broker_use_ssl"], "server_hostname": None},
        {key: value for key, value in TLS["broker_use_ssl"].items() if key != "server_hostname"},
    ],
)
def test_tls_that_does_not_verify_the_broker_breaks_the_promise(setting: object) -> None:
    (sentence,) = refused({"broker_use_ssl": setting}, TLS)
    assert "broker_use_ssl is" in sentence


def test_a_task_that_overrides_the_promise_is_refused_by_its_name() -> None:
    (sentence,) = refused(PROMISES, tasks=["shop.pay [acks_late=False reject_on_worker_lost=True]"])
    assert "the task shop.pay sets acks_late=False" in sentence


PREFORK = "celery.concurrency.prefork:TaskPool"


ALL = {
    **PROMISES,
    "task_acks_on_failure": False,
    "task_acks_on_timeout": False,
    "task_soft_time_limit": 510,
    "task_default_queue_type": "quorum",
    "task_queue_max_priority": None,
    "worker_pool": "prefork",
    "broker_transport_options": {"confirm_publish": True, "read_timeout": 10},
}


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("acks_on_failure=True acks_on_timeout=False", "sets acks_on_failure=True, but the promise needs False"),
        ("acks_on_failure=False acks_on_timeout=True", "sets acks_on_timeout=True, but the promise needs False"),
        ("acks_on_failure_or_timeout=True", "sets acks_on_failure_or_timeout=True, but the promise needs False"),
        ("time_limit=7200", "sets time_limit=7200, but the promise needs more than 0 and at most 540 (task_time_limit)"),
        ("soft_time_limit=511.5", "sets soft_time_limit=511.5, but the promise needs more than 0 and at most 510"),
        ("time_limit=0", "sets time_limit=0"),
        ("acks_on_failure=False acks_on_timeout=False acks_on_failure_or_timeout=True time_limit=30.0 soft_time_limit=510", ""),
    ],
)
def test_each_option_of_a_task_must_keep_the_promise(options: str, sentence: str) -> None:
    """Review finding 6."""
    sentences = refused(ALL, ALL, tasks=[f"shop.pay [{options}]"])
    assert (len(sentences) == 1 and sentence in sentences[0]) if sentence else sentences == []


@pytest.mark.parametrize(
    ("pool", "sentence"),
    [
        ({"implementation": PREFORK, "timeouts": [510, 540]}, ""),
        ({"implementation": PREFORK, "timeouts": [30.0, 540]}, ""),
        ({"implementation": PREFORK, "timeouts": [510, 7200]}, "kills a task after 7200 s (time_limit)"),
        ({"implementation": PREFORK, "timeouts": [0, 540]}, "kills a task after 0 s (soft_time_limit)"),
        ({"implementation": "celery.concurrency.thread:TaskPool"}, "its pool is celery.concurrency.thread:TaskPool"),
    ],
)
def test_a_pool_that_does_not_end_a_task_in_time_is_refused(pool: dict, sentence: str) -> None:
    """Review finding 6: the command line overrides every setting."""
    sentences = refused(ALL, ALL, pools=pool)
    assert (len(sentences) == 1 and sentence in sentences[0]) if sentence else sentences == []
    waivers = dict.fromkeys(("worker_pool", "task_time_limit", "task_soft_time_limit"), "no task waits for anybody")
    assert refused(ALL, ALL, waivers, pools=pool) == []


@pytest.mark.parametrize("options", [{"visibility_timeout": 3600}, {"confirm_publish": False, "read_timeout": 10}, None])
def test_transport_options_without_confirms_are_refused(options: object) -> None:
    """Review finding 7."""
    (sentence,) = refused({**ALL, "broker_transport_options": options}, ALL)
    assert sentence.startswith("w@1: broker_transport_options is ")
    assert refused({**ALL, "broker_transport_options": {**ALL["broker_transport_options"], "visibility_timeout": 1}}, ALL) == []


@pytest.mark.parametrize(
    ("queue", "sentence"),
    [
        ({"queue_arguments": {"x-queue-type": "quorum"}, "no_ack": False, "expires": None}, ""),
        ({"queue_arguments": None}, "the queue mail is classic, but the promise needs quorum (task_default_queue_type)"),
        ({"queue_arguments": {"x-max-priority": 3}}, "the queue mail declares 3 priorities, which only a classic queue has"),
        ({"queue_arguments": None, "max_priority": 9}, "the queue mail declares 9 priorities"),
        ({"queue_arguments": {"x-queue-type": "quorum"}, "no_ack": True}, "sets no_ack=True, but the promise needs"),
        ({"queue_arguments": {"x-queue-type": "quorum"}, "expires": 60.0}, "sets expires=60.0"),
        ({"queue_arguments": {"x-queue-type": "quorum"}, "message_ttl": 60.0}, "sets message_ttl=60.0"),
        ({"queue_arguments": {"x-queue-type": "quorum", "x-consumer-timeout": 540_000}}, "sets x-consumer-timeout=540000 ms"),
        ({"queue_arguments": {"x-queue-type": "quorum", "x-consumer-timeout": 541_000}}, ""),
    ],
)
def test_a_queue_that_may_lose_jobs_is_refused_by_its_name(queue: dict, sentence: str) -> None:
    """Review finding 7."""
    sentences = refused(ALL, ALL, queues=[{"name": "mail", **queue}])
    assert (len(sentences) == 1 and sentence in sentences[0]) if sentence else sentences == []


RANKED = {"name": "ranked", "queue_arguments": {"x-max-priority": 9}}
BROADCAST = {"name": "bcast.5a1e0d3c-0000-4000-8000-000000000000", "alias": "cache", "auto_delete": True}


def test_a_waived_queue_is_not_refused_and_another_one_is() -> None:
    queues = [RANKED, RANKED | {"name": "mail"}, BROADCAST]
    assert len(refused(ALL, ALL, queues=queues)) == 4, "the broadcast is classic, and deleted with its last worker"
    answer = {"conf": ALL, "queues": queues}
    (sentence,) = broken("w@1", answer, ALL, {}, {"ranked": "urgent first", "cache": "each worker empties its cache"})
    assert sentence.startswith("w@1: the queue mail declares 9 priorities")
    assert sentence.endswith(", or name mail with a reason in application_waived_queues.")
    # The inventory names what the code does, not the UUID.
    assert "or name cache with" in broken("w@1", {"conf": ALL, "queues": [BROADCAST]}, ALL, {})[0]


def test_jobs_of_a_waived_queue_may_have_any_priority() -> None:
    routes = {"shop.a": {"queue": "ranked", "priority": 7}, "shop.b": {"priority": 9}}
    tasks = ["shop.a [priority=3]", "shop.b [priority=8]", "shop.c [priority=2 queue=ranked]"]
    answer = {"conf": {**ALL, "task_routes": routes}, "tasks": tasks, "destinations": {"shop.a": "ranked", "shop.b": "mail"}}
    (sentence,) = broken("w@1", answer, ALL, {}, {"ranked": "urgent first"})
    assert "its tasks have the priorities 8, 9, which are one" in sentence


def test_a_waived_queue_that_the_application_does_not_have_is_refused() -> None:
    answer = {"conf": {"task_default_queue": "shop"}, "queues": [RANKED, BROADCAST], "pools": {}}
    waived = dict.fromkeys(("ranked", "cache", "bcast", "shop", "mail", "rankde"), "a reason")
    (sentence,) = unknown_waivers("w@1", answer, ["mail"], waived)
    assert "application_waived_queues names rankde, which is not a queue of the application (bcast, " in sentence


def test_a_client_sends_to_a_broadcast_by_the_name_in_its_code() -> None:
    assert queues_sent_to({"conf": {"task_default_queue": "shop"}, "queues": [BROADCAST]}) == {
        "cache": "task_queues",
        "shop": "task_default_queue",
    }


@pytest.mark.parametrize(
    "routes",
    [
        {"shop.pay": {"queue": "heavy"}},
        {"shop.*": "heavy", "shop.mail": {"queue": "mail", "priority": 1}},
        [[["shop.*", {"queue": "heavy"}], ["shop.mail", {"queue": "mail"}]]],
        [{"shop.pay": {"queue": "heavy"}}, "<function route at 0x1>"],
    ],
)
def test_a_route_to_a_queue_without_consumers_is_refused(routes: object) -> None:
    """Review finding 7: a route in the application's code."""
    assert routed(routes) - {"mail"} == {"heavy"}
    conf = {"task_default_queue": "shop", "task_routes": routes}
    (sentence,) = unconsumed_jobs("w@1", {"conf": conf}, ["mail", "shop"], {})
    assert "task_routes sends jobs to the queue heavy" in sentence
    assert unconsumed_jobs("w@1", {"conf": conf}, ["mail", "shop"], {"task_routes": "another team's workers"}) == []
    assert unconsumed_jobs("w@1", {"conf": {"task_default_queue": "shop"}}, [], {}) == []
    (sentence,) = unconsumed_jobs("w@1", {"conf": {"task_default_queue": "celery"}}, ["shop"], {})
    assert "task_default_queue sends jobs to the queue celery" in sentence
    (sentence,) = unconsumed_jobs("w@1", {"conf": {"task_default_queue": "shop"}, "tasks": ["a [queue=big]"]}, ["shop"], {})
    assert "the queue big" in sentence
    state = {"conf": {"task_default_queue": "shop", "task_routes": ["<function route at 0x1>"]}}
    (sentence,) = unconsumed_jobs("w@1", {**state, "destinations": {"a": "shop", "b": "far"}}, ["shop"], {})
    assert "task_routes sends jobs to the queue far" in sentence


KNOWN = [*ALL, "task_acks_on_failure_or_timeout"]


@pytest.mark.parametrize(
    ("version", "unknown"),
    [
        ("5.7.0", ()),
        ("5.6.3", ("task_acks_on_failure", "task_acks_on_timeout")),
        ("5.5.3", ("task_acks_on_failure", "task_acks_on_timeout", "task_create_missing_queue_type")),
        ("5.4.0", ("task_acks_on_failure", "task_acks_on_timeout", "task_default_queue_type")),
    ],
)
def test_a_worker_is_judged_by_the_settings_that_its_celery_has(version: str, unknown: tuple):
    promises = {**ALL, "task_create_missing_queue_type": "quorum", "task_arguments_redacted": True}
    known = [setting for setting in (*KNOWN, "task_create_missing_queue_type") if setting not in unknown]
    sentences = refused(promises, promises, celery={"version": version, "settings": known})
    if version != "5.4.0":
        assert sentences == []
        return
    lacking = "w@1: Celery 5.4.0 lacks task_default_queue_type, which the promise needs. Lock Celery 5.5 to 5.7"
    assert [sentence[: len(lacking)] for sentence in sentences] == [lacking]
    waivers = {"task_default_queue_type": "a broker of another team"}
    assert refused(promises, promises, waivers, celery={"version": version, "settings": known}) == []


def test_a_waiver_lets_a_setting_pass() -> None:
    conf = {**PROMISES, "task_acks_late": False}
    waivers = {"task_acks_late": "sends mail, never twice"}
    assert refused(conf, waivers=waivers, tasks=["shop.pay [acks_late=False]"]) == []


def test_an_application_that_shows_arguments_is_refused_with_the_place() -> None:
    promises, leaks = {"task_arguments_redacted": True}, ["a line that a task logs"]
    (sentence,) = refused(promises, promises, leaks=leaks)
    assert "task arguments show in a line that a task logs" in sentence and "task_arguments_redacted" in sentence
    (sentence,) = refused({"task_arguments_redacted": False}, promises, leaks=["task_arguments_redacted is switched off"])
    assert "task_arguments_redacted is False, but the promise needs True" in sentence
    assert refused(promises, promises, {"task_arguments_redacted": "jobs of machines, about no person"}, leaks=leaks) == []
    assert refused(promises, promises, leaks=[]) == []


def test_a_task_line_is_read_as_celery_writes_it() -> None:
    assert task_settings("shop.pay [acks_late=True]") == ("shop.pay", {"acks_late": "True"})
    assert task_settings("shop.pay") == ("shop.pay", {})
