"""The settings that reach an application, and the judgement of its live workers."""

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest
from application_release import Build, releases_to_remove
from applications import application_pools, application_problems, database_sslmode
from celery_promises import broken, task_settings
from celery_settings import broker_url, fingerprint, python_literal
from hypothesis import given
from hypothesis import strategies as st
from supervisor_sections import beat_program, program_sections, supervisor_command, worker_programs

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


def test_a_worker_that_keeps_the_promise_is_not_refused() -> None:
    assert broken("w@1", {**PROMISES, "other": 1}, ["shop.pay [acks_late=True reject_on_worker_lost=True]"], PROMISES, {}) == []


def test_a_setting_that_breaks_the_promise_is_refused_by_name() -> None:
    (sentence,) = broken("w@1", {**PROMISES, "task_acks_late": False}, [], PROMISES, {})
    assert "task_acks_late is False, but the promise needs True" in sentence and "application_waivers" in sentence


TLS = {"broker_use_ssl": {"ca_certs": "/a", "keyfile": "/k", "cert_reqs": 2, "server_hostname": "10.0.0.1"}}


def test_tls_as_celery_tells_it_keeps_the_promise() -> None:
    told = {**TLS["broker_use_ssl"], "keyfile": "********", "certfile": "/c"}
    assert broken("w@1", {"broker_use_ssl": told}, [], TLS, {}) == []


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
    (sentence,) = broken("w@1", {"broker_use_ssl": told}, [], TLS, {})
    assert "broker_use_ssl is" in sentence


def test_a_task_that_overrides_the_promise_is_refused_by_its_name() -> None:
    (sentence,) = broken("w@1", PROMISES, ["shop.pay [acks_late=False reject_on_worker_lost=True]"], PROMISES, {})
    assert "the task shop.pay sets acks_late=False" in sentence


def test_a_waiver_lets_a_setting_pass() -> None:
    conf = {**PROMISES, "task_acks_late": False}
    assert broken("w@1", conf, ["shop.pay [acks_late=False]"], PROMISES, {"task_acks_late": "sends mail, never twice"}) == []


def test_an_application_that_goes_round_the_redaction_is_refused_by_where_it_shows() -> None:
    promises, shows = {"task_arguments_redacted": True}, ["a line that a task logs"]
    (sentence,) = broken("w@1", promises, [], promises, {}, shows)
    assert "what tasks are called with shows in a line that a task logs" in sentence and "task_arguments_redacted" in sentence
    (sentence,) = broken("w@1", {"task_arguments_redacted": False}, [], promises, {}, ["task_arguments_redacted is switched off"])
    assert "task_arguments_redacted is False, but the promise needs True" in sentence
    assert broken("w@1", promises, [], promises, {"task_arguments_redacted": "jobs of machines, about no person"}, shows) == []
    assert broken("w@1", promises, [], promises, {}, []) == []


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
    assert "to whoever answers there" in application_problems(host, "disable")[0]


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
