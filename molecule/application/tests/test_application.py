"""What role application promises on its hosts."""

from __future__ import annotations

import json
import subprocess

import pytest
from authority import REPOSITORY
from deadline import until
from playbook_runner import play

testinfra_hosts = ["ansible://application"]

SECRETS = ("grunnfjell_settings.py", "pg_service.conf", "environment")


@pytest.fixture(scope="module")
def root(inputs) -> str:
    return f"/opt/{inputs['application_name']}"


@pytest.fixture(scope="module")
def config(inputs) -> str:
    return f"/etc/{inputs['application_name']}"


@pytest.fixture(scope="module")
def in_the_release(host, root, inputs):
    """What a line of Python prints in the application's environment, as the application's user."""

    def run(line: str) -> str:
        return host.check_output("runuser -u %s -- %s/current/run python -c %s", inputs["application_user"], root, line)

    return run


@pytest.mark.once
def test_the_current_release_is_complete(host, root):
    current = host.check_output(f"readlink {root}/current")
    assert host.file(f"{current}/.ready").exists
    assert host.run(f"{current}/venv/bin/python -c 'import celery'").rc == 0


@pytest.mark.scenario
def test_the_packages_came_from_the_control_machine(host, root):
    """The scenario's hosts have no way to the package index."""
    asked = host.run(f"{root}/current/environment/bin/pip download --no-cache-dir --retries 0 --dest /tmp celery")
    assert asked.rc != 0, asked.stdout
    assert host.run(f"{root}/current/venv/bin/python -c 'import celery'").rc == 0


@pytest.mark.scenario
def test_the_packages_of_the_build_have_left_the_host(host, root, inputs):
    for name in inputs["application_build_packages"]:
        log = [line.split()[2:4] for line in host.check_output("cat /var/log/dpkg.log").splitlines()]
        assert ["install", f"{name}:amd64"] in log or ["install", f"{name}:arm64"] in log, "it was never there"
        assert not host.package(name).is_installed
    assert not host.file(f"{root}/build-packages.json").exists


@pytest.mark.scenario
@pytest.mark.one_host
def test_a_release_s_commands_ran_once_per_environment_on_one_host(fleet, inputs):
    written = {name: host.run("cat /var/lib/newsroom/released").stdout.splitlines() for name, host in fleet.items()}
    service = f"{inputs['application_name']}.session"
    # `removal` takes a variable out of the environment, and no line of the code.
    removed = "NEWSROOM_GONE_TOMORROW" not in inputs["application_environment"]
    assert [lines for lines in written.values() if lines] == [[f"{service} 1", *([f"{service} "] if removed else [])]], written


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.one_host
def test_one_command_runs_in_the_release_s_environment(inventory, inputs):
    name = inputs["application_name"]
    program = "python -c 'import os, celery; print(os.environ[\"PGSERVICE\"], os.getuid() != 0)'"
    ran = play(inventory, "playbooks/run.yml", variables={"run_command": program})
    assert ran.returncode == 0 and f"{name} True" in ran.text, ran.output
    failed = play(inventory, "playbooks/run.yml", variables={"run_command": "python -c 'exit(3)'", "run_application": name})
    assert failed.returncode != 0 and "non-zero return code" in failed.text, failed.output


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.one_host
def test_a_console_reads_what_is_typed_in_the_release_s_environment(inventory, inputs, tmp_path):
    variables = {"run_command": "python -i", "run_console": str(tmp_path / "console")}
    assert play(inventory, "playbooks/run.yml", variables=variables).returncode == 0
    typed = "import os\nprint(os.environ['PGSERVICE'], os.getuid() != 0)\n"
    done = subprocess.run(["sh", tmp_path / "console"], cwd=REPOSITORY, input=typed, capture_output=True, text=True, timeout=60)
    assert f"{inputs['application_name']} True" in done.stdout, done


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.one_host
@pytest.mark.parametrize("wrong", [{}, {"run_command": " "}, {"run_command": "true", "run_application": "another"}])
def test_a_run_without_a_command_or_with_an_unknown_application_runs_nothing(inventory, inputs, wrong):
    refused = play(inventory, "playbooks/run.yml", variables=wrong)
    assert refused.returncode != 0 and "Nothing was run." in refused.text, refused.output
    assert f"one of the applications {inputs['application_name']}" in refused.text, refused.output


def test_no_more_releases_are_kept_than_promised(host, root, inputs):
    assert len(host.check_output(f"ls {root}/releases").split()) <= inputs["application_releases_kept"]


@pytest.mark.once
def test_the_application_s_user_cannot_change_the_release(host, root, inputs):
    probe = f"test -w {root}/current/src || test -w {root}/current/venv"
    assert host.run(f"runuser -u {inputs['application_user']} -- sh -c '{probe}'").rc == 1


@pytest.mark.parametrize("name", SECRETS)
def test_nobody_else_reads_the_secrets(host, config, inputs, name):
    assert host.run(f"runuser -u {inputs['application_user']} -- cat {config}/{name}").rc == 0
    assert host.run(f"runuser -u nobody -- cat {config}/{name}").rc != 0


@pytest.mark.once
def test_no_secret_is_in_the_process_list(host, config):
    secrets = host.check_output(f"grep -ohE '[0-9a-f]{{64}}' {config}/grunnfjell_settings.py {config}/pg_service.conf").split()
    assert secrets
    listing = host.check_output("ps -eo args")
    assert not [secret for secret in secrets if secret in listing]


def test_the_environment_of_the_programs_is_what_the_inventory_declares(in_the_release, inputs):
    declared = {*inputs["application_environment"], *inputs["application_secret_environment"]}
    usual = {"CELERY_CONFIG_MODULE", "PYTHONPATH", "PGSERVICEFILE", "PGSERVICE", "PATH", "LANG", "PWD", "HOME", "SHLVL", "_"}
    present = set(in_the_release("import os; print(*os.environ)").split())
    assert declared <= present
    prefixes = {name.split("_")[0] for name in declared}
    assert {name for name in present - declared - usual if name.split("_")[0] in prefixes} == set()


def test_libraries_may_write_in_the_home_of_the_programs(in_the_release, inputs):
    line = "import os, pathlib; print(pathlib.Path.home(), os.access(pathlib.Path.home(), os.W_OK))"
    assert in_the_release(line) == f"/var/lib/{inputs['application_name']} True"


@pytest.mark.once
@pytest.mark.disruptive
@pytest.mark.one_host
def test_the_owner_of_the_database_adds_trusted_extensions_and_settings(in_the_release, inputs):
    code = (
        "import psycopg; c = psycopg.connect('', autocommit=True, prepare_threshold=None); "
        "c.execute('CREATE EXTENSION IF NOT EXISTS citext'); "
        f"c.execute('ALTER DATABASE {inputs['application_name']} SET statement_timeout = 86399999'); "
        f"c.execute('ALTER DATABASE {inputs['application_name']} RESET statement_timeout'); "
        "print(c.execute(\"SELECT 'A'::citext = 'a'\").fetchone()[0]); c.execute('DROP EXTENSION citext')"
    )
    assert in_the_release(code) == "True"


def test_celery_reads_the_promised_time_limits(in_the_release, inputs):
    line = "import grunnfjell_settings as c; print(c.task_soft_time_limit, c.task_time_limit, c.task_acks_late)"
    limits = f"{inputs['application_soft_time_limit']} {inputs['application_time_limit']}"
    assert in_the_release(line) == f"{limits} True"


def test_the_programs_reach_their_database_through_pgbouncer(host, root, inputs):
    """By libpq, whatever driver the application has."""
    psql = f"runuser -u {inputs['application_user']} -- {root}/current/run psql --no-psqlrc -At"
    answer = host.check_output(f"{psql} -c %s -c %s", "select current_user, current_database()", r"\echo :PORT")
    name, port = inputs["application_name"], inputs["application_database_port"]
    assert answer.splitlines() == [f"{name}|{name}", str(port)]


@pytest.fixture
def timers(inputs) -> dict[str, dict]:
    """Unit of each declared timer to its declaration."""
    return {f"grunnfjell-timer-{inputs['application_name']}-{timer['name']}": timer for timer in inputs["application_timers"]}


def test_only_the_declared_timers_exist_with_their_times(host, timers):
    # Without a timer, newer versions of systemctl exit with 1.
    listed = host.run("systemctl list-unit-files --plain --no-legend 'grunnfjell-timer-*'").stdout.splitlines()
    found = {line.split()[0]: line.split()[1] for line in listed}
    assert found == {f"{unit}.{kind}": state for unit in timers for kind, state in (("timer", "enabled"), ("service", "static"))}
    for unit, timer in timers.items():
        written = (
            host.check_output("systemd-analyze calendar %s", timer["calendar"]).split("Normalized form: ")[1].splitlines()[0]
        )
        assert f"OnCalendar={written} ;" in host.check_output(f"systemctl show {unit}.timer --property TimersCalendar")


@pytest.mark.scenario
def test_a_timer_runs_its_command_in_the_release_s_environment_as_its_user(host, inputs, timers):
    def ticks() -> list[str]:
        return host.run("cat /var/lib/newsroom/ticks").stdout.splitlines()

    for unit in timers:
        before = len(ticks())
        until("two more runs", lambda before=before: len(ticks()) >= before + 2, 60)
        assert ticks()[-1] == f"{inputs['application_name']} {inputs['application_user']} 100%"
        assert host.check_output(f"systemctl show {unit}.service --property NoNewPrivileges --value") == "yes"


@pytest.mark.once
@pytest.mark.scenario
@pytest.mark.disruptive
def test_status_names_a_timer_whose_last_run_failed(host, inputs, timers):
    def failed() -> list[dict]:
        sections = {"sections": {"application": {"name": inputs["application_name"]}}}
        return host.ansible("grunnfjell.platform.platform_status", json.dumps(sections))["sections"]["application"][
            "failed_timers"
        ]

    (unit,) = timers
    folder = f"/run/systemd/system/{unit}.service.d"
    try:
        host.check_output(f"mkdir -p {folder} && printf '[Service]\\nExecStart=\\nExecStart=false\\n' > {folder}/fails.conf")
        host.check_output("systemctl daemon-reload")
        assert until("a run that fails", failed, 60) == [{"unit": f"{unit}.service", "why": "exit-code"}]
    finally:
        host.check_output(f"rm -r {folder} && systemctl daemon-reload")
    until("a run that succeeds", lambda: not failed(), 60)
