"""The whole fleet in one sentence: an accepted job is result. `make verify` ends with it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
import yaml

testinfra_hosts = ["ansible://producer"]

DEFAULTS = yaml.safe_load(Path(__file__).parents[3].joinpath("roles/application/defaults/main.yml").read_text(encoding="utf-8"))


@pytest.fixture
def application(host) -> dict:
    """This producer's application in the inventory, and its worker hosts."""
    expressions = {
        "name": "application_name",
        "user": f"application_user | default('{DEFAULTS['application_user']}')",
        "command": f"application_probe_command | default({DEFAULTS['application_probe_command']})",
        "workers": "groups[application_name] | default([]) | intersect(groups['celery_workers'] | default([]))",
    }
    message = ", ".join(f"'{key}': {expression}" for key, expression in expressions.items())
    answer = host.ansible("debug", f"msg={{{{ {{{message}}} | to_json }}}}", check=False)["msg"]
    return answer if isinstance(answer, dict) else json.loads(answer)


@pytest.mark.job
def test_an_accepted_job_is_done_and_its_result_received(host, application):
    name = host.backend.host
    if not application["command"]:
        pytest.skip(f"{application['name']} declares no application_probe_command, so no real job was sent through {name}")
    if not application["workers"]:
        pytest.skip(f"no host of this inventory works for {application['name']}, so a job sent to {name} would wait forever")
    current = f"/opt/{application['name']}/current"
    run = f"env --chdir={current}/src {current}/run {shlex.join(application['command'])}"
    result = host.run(f"runuser -u {application['user']} -- {run}")
    print(f"\n{name}, {application['name']}: {(result.stdout + result.stderr).strip()}")
    assert result.rc == 0, (
        f"{shlex.join(application['command'])} ended with {result.rc} on {name}: {result.stdout}{result.stderr}"
    )
