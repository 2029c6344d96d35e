"""A login that a program still uses is not retired, and one that nobody uses is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playbook_runner import PlaybookRun, play

testinfra_hosts = ["ansible://rabbitmq"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

CHECK = """\
- hosts: all
  gather_facts: false
  tasks:
    - name: Check that nobody uses them
      ansible.builtin.import_role: {name: grunnfjell.platform.rabbitmq, tasks_from: check_retired, rolespec_validate: false}
      vars: {__rabbitmq_expect: unused, __rabbitmq_former_logins: "{{ former_logins }}", __rabbitmq_former_cookies: []}
"""


@pytest.fixture
def check(hostname, inventory, application, tmp_path) -> Callable[[], PlaybookRun]:
    playbook = tmp_path / "check.yml"
    playbook.write_text(CHECK)
    login = {"name": application["vhost"], "login": application["user"], "secret": application["password"]}
    limit = ["--limit", hostname]
    return lambda: play(inventory, playbook, *limit, variables={"former_logins": [login]})


def test_a_login_in_use_stops_its_retirement_until_its_session_ends(check, connect, application):
    with connect(**application):
        held = check()
    assert held.returncode != 0, held.output
    assert f"rabbitmq still serves clients that are logged in as {application['user']}" in held.text, held.output
    assert application["password"] not in held.output
    free = check()
    assert free.returncode == 0, free.output
