"""The settings that reach an application, and the judgement of its live workers."""

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.grunnfjell.platform.plugins.modules.application_release import Build, releases_to_remove
from ansible_collections.grunnfjell.platform.plugins.modules.celery_promises import broken, routed, task_settings, unconsumed_jobs
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing.celery import broker_url, fingerprint, python_literal
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing.supervisor import (
    beat_program,
    program_sections,
    supervisor_command,
    worker_programs,
)
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust.logins import (
    application_pools,
    application_problems,
    database_sslmode,
)
from hypothesis import given
from hypothesis import strategies as st

YAML_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)
PROMISES = {"task_acks_late": True, "task_reject_on_worker_lost": True, "task_time_limit": 540}


@given(YAML_VALUES)
def test_a_setting_reads_back_as_it_was_given(value: object) -> None:
    assert ast.literal_eval(python_literal(value)) == value


def test_a_broker_address_bears_any_password() -> None:
    assert broker_url(["10.0.0.1", "10.0.0.2"], 5672, "shop", "p@ss/w:d", "shop") == (
        "pyamqp://shop:p%40ss%2Fw%3Ad@10.0.0.1:5672/shop;pyamqp://shop:p%40ss%2Fw%3Ad@10.0.0.2:5672/shop"
    )


@given(st.dictionaries(st.text(), st.integers(), min_size=1))
def test_the_fingerprint_moves_with_every_value_and_not_with_their_order(settings: dict[str, int]) -> None:
    key = next(iter(settings))
    assert fingerprint(settings) == fingerprint(dict(reversed(settings.items())))
    assert fingerprint(settings) != fingerprint({**settings, key: settings[key] + 1})


def test_a_program_takes_from_the_host_what_it_leaves_out() -> None:
    one, two = worker_programs(
        [{"name": "celery-worker"}, {"name": "celery-mail", "queues": ["mail", "sms"], "concurrency": 2, "arguments": ["-E"]}],
        host="worker1",
        celery_app="shop.celery",
        queues=["shop"],
        concurrency=4,
        loglevel="INFO",
    )
    assert (one["node"], one["log"]) == ("celery-worker@worker1", "worker")
    assert "--queues=shop" in one["argv"] and "--concurrency=4" in one["argv"]
    assert two["log"] == "mail"
    assert {"--queues=mail,sms", "--concurrency=2", "-E"} <= set(two["argv"])


def test_beat_keeps_its_schedule_in_the_state_directory() -> None:
    assert "--schedule=/var/lib/shop/celerybeat-schedule" in beat_program("shop.celery", "/var/lib/shop", "INFO")["argv"]


def test_supervisord_gets_arguments_that_it_does_not_expand() -> None:
    assert supervisor_command(["gunicorn", "--access-logformat=%(h)s %(r)s"]) == "gunicorn '--access-logformat=%%(h)s %%(r)s'"


def test_a_section_has_supervisord_s_own_keys_and_words() -> None:
    (section,) = program_sections(
        [{"name": "celery-worker", "log": "worker", "argv": ["celery", "worker"]}],
        run="/opt/shop/run",
        log_directory="/var/log/celery",
        common={"stopasgroup": False, "stopwaitsecs": 600},
    )
    assert section == {
        "name": "celery-worker",
        "kind": "program",
        "settings": {
            "command": "/opt/shop/run celery worker",
            "stopasgroup": "false",
            "stopwaitsecs": 600,
            "stdout_logfile": "/var/log/celery/worker.log",
            "stderr_logfile": "/var/log/celery/worker.err.log",
        },
    }


def judged(conf: dict, promises: dict = PROMISES, waivers: dict | None = None, **answer: object) -> list[str]:
    return broken("w@1", {"conf": conf, **answer}, promises, waivers or {})


def test_a_worker_that_keeps_the_promise_is_not_refused() -> None:
    assert judged({**PROMISES, "other": 1}, tasks=["shop.pay [acks_late=True reject_on_worker_lost=True time_limit=540.0]"]) == []


def test_a_setting_that_breaks_the_promise_is_refused_by_name() -> None:
    (sentence,) = judged({**PROMISES, "task_acks_late": False})
    assert "task_acks_late is False, but the promise needs True" in sentence and "application_waivers" in sentence


TLS = {"broker_use_ssl": {"ca_certs": "/a", "keyfile": "/k", "cert_reqs": 2, "server_hostname": "10.0.0.1"}}


def test_tls_as_celery_tells_it_keeps_the_promise() -> None:
    told = {**TLS["broker_use_ssl"], "keyfile": "********", "certfile": "/c"}
    assert judged({"broker_use_ssl": told}, TLS) == []


@pytest.mark.parametrize(
    "told",
    [
        False,
        True,
        {**TLS["broker_use_ssl"], "cert_reqs": 0},
        {**TLS["broker_use_ssl"], "server_hostname": None},
        {key: value for key, value in TLS["broker_use_ssl"].items() if key != "server_hostname"},
    ],
)
def test_tls_that_does_not_look_whom_it_talks_to_breaks_it(told: object) -> None:
    (sentence,) = judged({"broker_use_ssl": told}, TLS)
    assert "broker_use_ssl is" in sentence


def test_a_task_that_overrides_the_promise_is_refused_by_its_name() -> None:
    (sentence,) = judged(PROMISES, tasks=["shop.pay [acks_late=False reject_on_worker_lost=True]"])
    assert "the task shop.pay sets acks_late=False" in sentence


PREFORK = "celery.concurrency.prefork:TaskPool"
ALL = {
    **PROMISES,
    "task_acks_on_failure": False,
    "task_acks_on_timeout": False,
    "task_soft_time_limit": 510,
    "task_default_queue_type": "quorum",
    "worker_pool": "prefork",
    "broker_transport_options": {"confirm_publish": True, "read_timeout": 10},
}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            "acks_on_failure=True acks_on_timeout=False",
            "sets acks_on_failure=True, but the promise needs False",
        ),
        ("acks_on_failure=False acks_on_timeout=True", "sets acks_on_timeout=True, but the promise needs False"),
        ("acks_on_failure_or_timeout=True", "sets acks_on_failure_or_timeout=True, but the promise needs False"),
        ("time_limit=7200", "sets time_limit=7200, but the promise needs more than 0 and at most 540 (task_time_limit)"),
        ("soft_time_limit=511.5", "sets soft_time_limit=511.5, but the promise needs more than 0 and at most 510"),
        ("time_limit=0", "sets time_limit=0"),
        ("acks_on_failure=False acks_on_timeout=False acks_on_failure_or_timeout=True time_limit=30.0 soft_time_limit=510", ""),
    ],
)
def test_each_option_of_a_task_is_held_against_the_promise(options: str, said: str) -> None:
    """Review finding 6."""
    sentences = judged(ALL, ALL, tasks=[f"shop.pay [{options}]"])
    assert (len(sentences) == 1 and said in sentences[0]) if said else sentences == []


@pytest.mark.parametrize(
    ("pool", "said"),
    [
        ({"implementation": PREFORK, "timeouts": [510, 540]}, ""),
        ({"implementation": PREFORK, "timeouts": [30.0, 540]}, ""),
        (
            {"implementation": PREFORK, "timeouts": [510, 7200]},
            "kills a task after 7200 s (time_limit)",
        ),
        (
            {"implementation": PREFORK, "timeouts": [0, 540]},
            "kills a task after 0 s (soft_time_limit)",
        ),
        ({"implementation": "celery.concurrency.thread:TaskPool"}, "its pool is celery.concurrency.thread:TaskPool"),
    ],
)
def test_a_pool_that_does_not_end_a_task_in_time_is_refused(pool: dict, said: str) -> None:
    """Review finding 6: what a command line says outweighs every setting."""
    sentences = judged(ALL, ALL, pools=pool)
    assert (len(sentences) == 1 and said in sentences[0]) if said else sentences == []
    waivers = dict.fromkeys(("worker_pool", "task_time_limit", "task_soft_time_limit"), "no task waits for anybody")
    assert judged(ALL, ALL, waivers, pools=pool) == []


@pytest.mark.parametrize("options", [{"visibility_timeout": 3600}, {"confirm_publish": False, "read_timeout": 10}, None])
def test_transport_options_without_confirms_are_refused(options: object) -> None:
    """Review finding 7."""
    (sentence,) = judged({**ALL, "broker_transport_options": options}, ALL)
    assert sentence.startswith("w@1: broker_transport_options is ")
    assert judged({**ALL, "broker_transport_options": {**ALL["broker_transport_options"], "visibility_timeout": 1}}, ALL) == []


@pytest.mark.parametrize(
    ("queue", "said"),
    [
        ({"queue_arguments": {"x-queue-type": "quorum"}, "no_ack": False, "expires": None}, ""),
        ({"queue_arguments": None}, "the queue mail is classic, but the promise needs quorum (task_default_queue_type)"),
        (
            {"queue_arguments": {"x-queue-type": "quorum"}, "no_ack": True},
            "sets no_ack=True, but the promise needs",
        ),
        ({"queue_arguments": {"x-queue-type": "quorum"}, "expires": 60.0}, "sets expires=60.0"),
    ],
)
def test_a_queue_that_keeps_no_job_safe_is_refused_by_its_name(queue: dict, said: str) -> None:
    """Review finding 7."""
    sentences = judged(ALL, ALL, queues=[{"name": "mail", **queue}])
    assert (len(sentences) == 1 and said in sentences[0]) if said else sentences == []


@pytest.mark.parametrize(
    "routes",
    [
        {"shop.pay": {"queue": "heavy"}},
        {"shop.*": "heavy", "shop.mail": {"queue": "mail", "priority": 1}},
        [[["shop.*", {"queue": "heavy"}], ["shop.mail", {"queue": "mail"}]]],
        [{"shop.pay": {"queue": "heavy"}}, "<function route at 0x1>"],
    ],
)
def test_a_job_that_nobody_would_take_is_refused_by_its_queue(routes: object) -> None:
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


def test_a_waiver_lets_a_setting_pass() -> None:
    conf = {**PROMISES, "task_acks_late": False}
    waivers = {"task_acks_late": "sends mail, never twice"}
    assert judged(conf, waivers=waivers, tasks=["shop.pay [acks_late=False]"]) == []


def test_an_application_that_goes_round_the_redaction_is_refused_by_where_it_shows() -> None:
    promises, shows = {"task_arguments_redacted": True}, ["a line that a task logs"]
    (sentence,) = judged(promises, promises, leaks=shows)
    assert "task arguments show in a line that a task logs" in sentence and "task_arguments_redacted" in sentence
    (sentence,) = judged({"task_arguments_redacted": False}, promises, leaks=["task_arguments_redacted is switched off"])
    assert "task_arguments_redacted is False, but the promise needs True" in sentence
    assert judged(promises, promises, {"task_arguments_redacted": "jobs of machines, about no person"}, leaks=shows) == []
    assert judged(promises, promises, leaks=[]) == []


def test_a_task_line_is_read_as_celery_writes_it() -> None:
    assert task_settings("shop.pay [acks_late=True]") == ("shop.pay", {"acks_late": "True"})
    assert task_settings("shop.pay") == ("shop.pay", {})


def test_old_releases_go_and_the_current_one_stays() -> None:
    ready = [(1.0, "a"), (2.0, "b"), (3.0, "c"), (4.0, "d")]
    assert releases_to_remove(ready, "a", keep=3, used=set()) == ["b"]
    assert releases_to_remove(ready, "d", keep=2, used=set()) == ["b", "a"]


def test_a_release_that_a_program_still_runs_stays() -> None:
    assert releases_to_remove([(1.0, "a"), (2.0, "b"), (3.0, "c"), (4.0, "d")], "d", keep=2, used={"a"}) == ["b"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "", "/run/postgresql"])
def test_a_database_on_this_host_needs_no_tls(host: str) -> None:
    assert database_sslmode(host) == "disable"
    assert application_problems(host, "disable") == []


@pytest.mark.parametrize("host", ["10.0.0.2", "db.example.org", "fd00::1"])
def test_a_database_anywhere_else_must_show_who_it_is(host: str) -> None:
    assert database_sslmode(host) == "verify-full"
    assert application_problems(host, "verify-full") == []
    assert "to any server that answers there" in application_problems(host, "disable")[0]


def test_a_bouncer_serves_the_databases_of_its_applications_and_no_other() -> None:
    assert application_pools(["shop"], "10.0.0.2") == {"shop": {"host": "10.0.0.2", "port": 5432}}


def test_a_migration_that_hangs_is_ended(tmp_path: Path) -> None:
    """Review finding 39."""

    def fail_json(msg: str) -> None:
        raise RuntimeError(msg)

    build = Build(SimpleNamespace(params={"timeout": 0.2}, fail_json=fail_json), tmp_path / "abc")
    with pytest.raises(RuntimeError, match=r"Release abc: its migration did not end within 0.2 s \(application_build_timeout\)"):
        build.command("its migration", ["sh", "-c", "sleep 600 & wait"])
    with pytest.raises(RuntimeError, match="its migration failed") as failed:
        build.command("its migration", ["sh", "-c", "echo why >&2; exit 3"])
    assert "why" in str(failed.value)
    build.command("its migration", ["true"])


def test_a_migration_is_repeated_when_the_pooler_answers_from_memory(tmp_path: Path) -> None:
    """The first client after the database was away gets PgBouncer's cached error; the migration has not begun then."""
    script = tmp_path / "migrate"
    script.write_text(
        f'[ -e {tmp_path}/asked ] && exit 0; touch {tmp_path}/asked; echo "FATAL:  server login has been failing, '
        'cached error: connect failed (server_login_retry)" >&2; exit 1\n'
    )
    build = Build(SimpleNamespace(params={"timeout": 10}), tmp_path / "abc")
    build.command("its migration", ["sh", str(script)])


def test_a_migration_that_fails_is_not_repeated(tmp_path: Path) -> None:
    def fail_json(msg: str) -> None:
        raise RuntimeError(msg)

    build = Build(SimpleNamespace(params={"timeout": 10}, fail_json=fail_json), tmp_path / "abc")
    with pytest.raises(RuntimeError, match="its migration failed"):
        build.command("its migration", ["sh", "-c", f"echo once >> {tmp_path}/log; echo 'column exists' >&2; exit 1"])
    assert (tmp_path / "log").read_text() == "once\n"


def test_a_build_that_fails_leaves_nothing_on_the_disk(tmp_path: Path) -> None:
    """Its name is never built again, and the disk may be what failed."""

    def fail_json(msg: str) -> None:
        raise RuntimeError(msg)

    directory = tmp_path / "abc"
    build = Build(SimpleNamespace(params={"timeout": 10, "artifact": "/dev/full-no-such-file"}, fail_json=fail_json), directory)
    with pytest.raises(RuntimeError, match=r"Release abc: .*The previous release still runs"):
        build.build()
    assert not directory.exists()
