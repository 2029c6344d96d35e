"""The settings that reach an application, its programs, and the releases on a host."""

import ast
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils.releases import releases_to_remove
from ansible_collections.grunnfjell.platform.plugins.modules.application_release import Build, BuildError, prepare
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


@given(YAML_VALUES)
def test_a_setting_is_read_back_as_it_was_written(value: object) -> None:
    assert ast.literal_eval(python_literal(value)) == value


def test_a_broker_address_may_hold_any_password() -> None:
    assert broker_url(["10.0.0.1", "10.0.0.2"], 5672, "shop", "p@ss/w:d", "shop") == (
        "pyamqp://shop:p%40ss%2Fw%3Ad@10.0.0.1:5672/shop;pyamqp://shop:p%40ss%2Fw%3Ad@10.0.0.2:5672/shop"
    )


@given(st.dictionaries(st.text(), st.integers(), min_size=1))
def test_the_fingerprint_depends_on_every_value_and_not_on_their_order(settings: dict[str, int]) -> None:
    key = next(iter(settings))
    assert fingerprint(settings) == fingerprint(dict(reversed(settings.items())))
    assert fingerprint(settings) != fingerprint({**settings, key: settings[key] + 1})


def test_a_program_uses_the_defaults_of_the_host() -> None:
    first, second = worker_programs(
        [{"name": "celery-worker"}, {"name": "celery-mail", "queues": ["mail", "sms"], "concurrency": 2, "arguments": ["-E"]}],
        host="worker1",
        celery_app="shop.celery",
        queues=["shop"],
        concurrency=4,
        loglevel="INFO",
    )
    assert (first["node"], first["log"]) == ("celery-worker@worker1", "worker")
    assert "--queues=shop" in first["argv"] and "--concurrency=4" in first["argv"]
    assert second["log"] == "mail"
    assert {"--queues=mail,sms", "--concurrency=2", "-E"} <= set(second["argv"])


def test_beat_keeps_its_schedule_in_the_state_directory() -> None:
    assert "--schedule=/var/lib/shop/celerybeat-schedule" in beat_program("shop.celery", "/var/lib/shop", "INFO", 600)["argv"]


def test_a_beat_that_loses_its_signal_does_not_hold_a_deploy_for_as_long_as_a_task_may() -> None:
    """Seen with Mayan EDMS: TERM during a query of django-celery-beat, and the deploy waited for ten minutes."""
    programs = [{"name": "work", "log": "work", "argv": ["celery"]}, beat_program("shop.celery", "/var/lib/shop", "INFO", 600)]
    sections = program_sections(programs, "run", "/var/log", {"stopwaitsecs": 600})
    assert [section["settings"]["stopwaitsecs"] for section in sections] == [600, 30]
    assert beat_program("shop.celery", "/var/lib/shop", "INFO", 10)["settings"] == {"stopwaitsecs": 10}


def test_percent_signs_in_arguments_are_escaped_for_supervisord() -> None:
    assert supervisor_command(["gunicorn", "--access-logformat=%(h)s %(r)s"]) == "gunicorn '--access-logformat=%%(h)s %%(r)s'"


def test_a_section_has_the_keys_and_words_of_supervisord() -> None:
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


READY = [(1.0, "a"), (2.0, "b"), (3.0, "c"), (4.0, "d")]


def test_old_releases_are_removed_and_the_current_one_stays() -> None:
    assert releases_to_remove(READY, "a", keep=3, used=set()) == ["b"]
    assert releases_to_remove(READY, "d", keep=2, used=set()) == ["b", "a"]


def test_a_release_that_a_program_still_runs_stays() -> None:
    assert releases_to_remove(READY, "d", keep=2, used={"a"}) == ["b"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost", "", "/run/postgresql"])
def test_a_database_on_this_host_needs_no_tls(host: str) -> None:
    assert database_sslmode(host) == "disable"
    assert application_problems(host, "disable") == []


@pytest.mark.parametrize("host", ["10.0.0.2", "db.example.org", "fd00::1"])
def test_a_database_on_another_host_must_be_verified(host: str) -> None:
    assert database_sslmode(host) == "verify-full"
    assert application_problems(host, "verify-full") == []
    assert "to any server that answers there" in application_problems(host, "disable")[0]


def test_a_bouncer_serves_only_the_databases_of_its_applications() -> None:
    assert application_pools(["shop"], "10.0.0.2") == {"shop": {"host": "10.0.0.2", "port": 5432}}


def build_in(home: Path, **params: object) -> Build:
    def fail_json(msg: str) -> None:
        raise RuntimeError(msg)

    module = SimpleNamespace(params={"timeout": 10} | params, fail_json=fail_json)
    return Build(module, home / "abc", {"python": "/usr/bin/python3"})


def test_a_step_of_a_build_that_hangs_is_ended(tmp_path: Path) -> None:
    """Review finding 39."""
    build = build_in(tmp_path, timeout=0.2)
    with pytest.raises(BuildError, match=r"its wheel did not end within 0.2 s \(application_build_timeout\)"):
        build.command("its wheel", ["sh", "-c", "sleep 600 & wait"])
    with pytest.raises(BuildError, match="its wheel failed") as failed:
        build.command("its wheel", ["sh", "-c", "echo why >&2; exit 3"])
    assert "why" in str(failed.value)
    build.command("its wheel", ["true"])


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Runs shell scripts as the commands of release abc, as this account; a refusal is a RuntimeError."""
    release, tools = tmp_path / "abc", tmp_path / "tools"
    (release / "src").mkdir(parents=True)
    tools.mkdir()
    for file in (release / "run", tools / "runuser"):
        file.write_text("#!/bin/sh\n" + ("shift 3\n" if file.name == "runuser" else "") + 'exec "$@"\n')
        file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")

    def fail_json(msg: str, output: list[str]) -> None:
        raise RuntimeError("\n".join([msg, "printed before:", *output]))

    def run(*scripts: str, timeout: float = 10) -> list[str]:
        params = {
            "commands": [["sh", "-c", script] for script in scripts],
            "timeout": timeout,
            "user": "www-data",
            "service": "shop.session",
        }
        return prepare(SimpleNamespace(params=params, fail_json=fail_json), release)

    return run


def test_the_commands_of_a_release_run_in_order_and_their_output_is_returned(prepared) -> None:
    assert prepared("echo one; echo two >&2", "echo three") == [
        "$ sh -c echo one; echo two >&2", "one", "two", "$ sh -c echo three", "three"
    ]  # fmt: skip


def test_a_command_of_a_release_finds_its_database(prepared) -> None:
    assert prepared("echo $PGSERVICE")[1:] == ["shop.session"]


def test_a_command_of_a_release_begins_in_the_directory_of_its_code(prepared, tmp_path: Path) -> None:
    (tmp_path / "abc/src/manage.py").touch()
    assert prepared("ls")[1:] == ["manage.py"]


def test_a_command_of_a_release_that_hangs_is_ended(prepared) -> None:
    """Review finding 39."""
    limit = r"Release abc: application_release_commands\[1\] \(sh -c sleep 600 & wait\) did not end within 0.5 s"
    with pytest.raises(RuntimeError, match=limit) as failed:
        prepared("true", "sleep 600 & wait", "echo never", timeout=0.5)
    assert "never" not in str(failed.value) and "No program was changed." in str(failed.value)


def test_a_command_of_a_release_is_repeated_when_the_pooler_answers_from_memory(prepared, tmp_path: Path) -> None:
    """The first client after the database was down gets PgBouncer's cached error; the command has not begun then."""
    output = prepared(
        f'[ -e {tmp_path}/asked ] && exit 0; touch {tmp_path}/asked; echo "FATAL:  server login has been failing, '
        'cached error: connect failed (server_login_retry)" >&2; exit 1'
    )
    assert len(output) == 1


def test_a_command_of_a_release_that_fails_is_not_repeated_and_stops_the_next_one(prepared, tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match=r"application_release_commands\[0\] .* ended with status 3") as failed:
        prepared(f"echo once >> {tmp_path}/log; echo 'column exists' >&2; exit 3", f"echo twice >> {tmp_path}/log")
    assert "column exists" in str(failed.value) and (tmp_path / "log").read_text() == "once\n"


def test_a_build_that_fails_leaves_nothing_on_the_disk(tmp_path: Path) -> None:
    """No later run builds this name again, and a full disk may be why it failed."""
    with pytest.raises(RuntimeError, match=r"Release abc: .*No program runs yet"):
        build_in(tmp_path, artifact="/dev/full-no-such-file").build()
    assert not (tmp_path / "abc").exists()
