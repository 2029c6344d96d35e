"""A configuration that PgBouncer refuses reaches neither its files nor its process."""

from __future__ import annotations

import pytest
from playbook_runner import play

testinfra_hosts = ["ansible://pgbouncer"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]


@pytest.mark.parametrize("parameters", [{"no_such_key": 1}, {"server_idle_timeout": "soon"}], ids=["key", "value"])
def test_a_key_or_value_that_pgbouncer_does_not_know_changes_nothing(host, hostname, inventory, inputs, parameters):
    console = f"psql -Xqw --csv -h {inputs['pgbouncer_unix_socket_dir']} -p {inputs['pgbouncer_listen_port']} -U pgbouncer"
    look = (
        "systemctl show --property=MainPID --value pgbouncer; cat /etc/pgbouncer/pgbouncer.ini; "
        f"runuser -u postgres -- {console} -d pgbouncer -c 'SHOW CONFIG'"
    )
    before = host.check_output(look)
    run = play(inventory, "playbooks/pgbouncer.yml", "--limit", hostname, variables={"pgbouncer_parameters": parameters})
    assert run.returncode != 0 and "PgBouncer refuses this configuration; nothing was changed" in run.text, run.output
    assert next(iter(parameters)) in run.text, run.output
    assert host.check_output(look) == before
