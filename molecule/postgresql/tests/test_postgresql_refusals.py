"""What PostgreSQL refuses is not left in its files, and a database goes only where it is named for removal."""

from __future__ import annotations

import shlex
from collections.abc import Callable

import pytest
from playbook_runner import PlaybookRun, play
from superuser import PSQL

testinfra_hosts = ["ansible://postgresql"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

ASIDE = "leaves_for_good"
# The module alone: no input leads to access rules that only PostgreSQL finds wrong.
CONFIGURE = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: Configure PostgreSQL
      grunnfjell.platform.postgresql_cluster: {version: "{{ major }}", settings: "{{ settings }}", hba: "{{ rules }}"}
"""


@pytest.fixture
def sql(host) -> Callable[..., str]:
    return lambda query, database="postgres": host.check_output(f"{PSQL} -d {database} -c {shlex.quote(query)}")


@pytest.fixture
def files(host, sql) -> Callable[[], tuple[str, ...]]:
    """Both of the role's files, and when the server began and read them."""
    times = "SELECT pg_postmaster_start_time(), pg_conf_load_time()"
    look = "cd /etc/postgresql/*/main && cat conf.d/grunnfjell.conf grunnfjell_hba.conf"
    return lambda: (sql(times), host.check_output(look))


@pytest.fixture
def converge(hostname, inventory) -> Callable[..., PlaybookRun]:
    return lambda playbook="playbooks/postgresql.yml", **variables: play(
        inventory, playbook, "--limit", hostname, variables=variables
    )


def test_a_setting_that_postgresql_does_not_know_changes_nothing(converge, files):
    before = files()
    run = converge(postgresql_parameters={"no_such_setting": 1})
    assert run.returncode != 0 and "PostgreSQL refuses these settings; nothing was changed" in run.text, run.output
    assert "no_such_setting" in run.text, run.output
    assert files() == before


def test_access_rules_that_postgresql_refuses_are_put_back(host, converge, files, sql, tmp_path):
    before = files()
    major = sql("SELECT current_setting('server_version_num')::int / 10000")
    home, playbook = f"/etc/postgresql/{major}/main", tmp_path / "configure.yml"
    playbook.write_text(CONFIGURE)
    rules = host.file(f"{home}/grunnfjell_hba.conf").content_string + "host all all 10.0.0.1/99 scram-sha-256\n"
    settings = host.file(f"{home}/conf.d/grunnfjell.conf").content_string
    run = converge(str(playbook), major=major, settings=settings, rules=rules)
    assert run.returncode != 0 and "PostgreSQL refuses the new access rules: " in run.text, run.output
    assert "The old ones are in place again." in run.text, run.output
    assert files() == before
    assert sql("SELECT count(*) FROM pg_hba_file_rules WHERE error IS NOT NULL") == "0"


def test_a_database_named_for_removal_goes_with_its_rows_and_no_other_loses_any(converge, sql, inputs):
    neighbours = [database["name"] for database in inputs["postgresql_databases"]]
    rows = "CREATE TABLE public.grunnfjell_rows AS SELECT generate_series(1, 7) AS row"
    sql(f"CREATE DATABASE {ASIDE}")
    for name in [ASIDE, *neighbours]:
        sql(rows, name)
    try:
        run = converge(postgresql_databases_removed=[ASIDE])
        assert run.returncode == 0 and run.changed, run.output
        assert sql(f"SELECT count(*) FROM pg_database WHERE datname = '{ASIDE}'") == "0"
        assert [sql("SELECT count(*) FROM public.grunnfjell_rows", name) for name in neighbours] == ["7"] * len(neighbours)
        again = converge(postgresql_databases_removed=[ASIDE])
        assert again.returncode == 0 and again.changed == {}, again.output
    finally:
        sql(f"DROP DATABASE IF EXISTS {ASIDE}")
        for name in neighbours:
            sql("DROP TABLE public.grunnfjell_rows", name)
