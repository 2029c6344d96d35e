"""A section that supervisord refuses never reaches its files, and one that an older kit left there is replaced."""

from __future__ import annotations

import json
import shlex

import pytest

testinfra_hosts = ["ansible://supervisor"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive]

PATH = "/etc/supervisor/conf.d/bad_sections.conf"
BYSTANDER = "/etc/supervisor/conf.d/bystander.conf"


def section(name: str, **settings: str) -> str:
    lines = [f"{key}={value}" for key, value in {"command": "sleep infinity", "startsecs": "0", **settings}.items()]
    return "\n".join([f"[program:{name}]", *lines, ""])


GOOD = section("promise", stdout_logfile_maxbytes="50MB")
BAD = {
    "a size that it does not read": section("promise", stdout_logfile_maxbytes="50MiB"),
    "a name with a slash": section("pro/mise"),
    "an account that does not exist": section("promise", user="nobody-of-this-name"),
    "a directory for logs that does not exist": section("promise", stdout_logfile="/nowhere/promise.log"),
}


def programs(host, path: str, content: str | None, **more) -> dict:
    arguments = {"path": path, **({} if content is None else {"content": content}), **more}
    return host.ansible("supervisor_programs", json.dumps(arguments), check=False)


def pid(host, program: str) -> str:
    return host.check_output(f"supervisorctl pid {program}")


@pytest.fixture
def bystander(host):
    """Another program of the host, by its process."""
    assert not programs(host, BYSTANDER, section("bystander")).get("failed")
    yield pid(host, "bystander")
    host.run(f"rm -f {PATH} {BYSTANDER}; timeout 20 sh -c 'until supervisorctl update; do sleep 0.2; done'")


@pytest.fixture
def asked(host):
    """The module's answer, whether it failed or not."""

    def ask(content: str | None, **more) -> dict:
        try:
            return programs(host, PATH, content, **more)
        except host.ansible.AnsibleException as error:
            return error.result

    return ask


@pytest.mark.parametrize("fault", BAD)
def test_a_section_that_supervisord_refuses_is_not_written_and_the_next_run_succeeds(host, asked, bystander, fault):
    """Review finding 8."""
    for disturb in (False, True):
        answer = asked(BAD[fault], disturb=disturb)
        assert answer.get("failed") and "was not written, because supervisord cannot read it" in answer["msg"], answer
        assert not host.file(PATH).exists
    answer = asked(GOOD, disturb=False)
    assert answer["added"] == ["promise"] and not answer["pending"], answer
    running = pid(host, "promise")
    assert asked(BAD[fault]).get("failed")
    assert host.file(PATH).content_string == GOOD
    assert (pid(host, "promise"), pid(host, "bystander")) == (running, bystander)


def test_supervisord_restarts_after_a_section_was_refused(host, asked, bystander):
    """Review finding 8."""
    assert asked(BAD["a size that it does not read"]).get("failed")
    host.check_output("systemctl restart supervisor")
    assert not asked(GOOD, disturb=False).get("failed")
    assert pid(host, "bystander") != bystander


@pytest.mark.parametrize("fault", BAD)
def test_a_bad_file_of_an_older_kit_is_replaced_while_the_other_programs_run_on(host, asked, bystander, fault):
    """Review finding 8: the run before this one wrote the file without asking."""
    host.check_output(f"printf %s {shlex.quote(BAD[fault])} > {PATH}")
    answer = asked(GOOD, disturb=False)
    assert answer["added"] == ["promise"] and answer["changed"], answer
    assert pid(host, "bystander") == bystander
    assert not asked(GOOD, disturb=False)["changed"]


def test_a_supervisord_that_a_bad_file_keeps_down_comes_back(host, asked, bystander):
    """Review finding 8: the host was rebooted before the inventory was corrected."""
    host.check_output(f"printf %s {shlex.quote(BAD['a size that it does not read'])} > {PATH}")
    host.run("systemctl restart supervisor")
    host.check_output("timeout 20 sh -c 'until ! supervisorctl pid; do sleep 0.1; done'")
    answer = asked(GOOD, disturb=False)
    assert not answer.get("failed"), answer
    assert int(pid(host, "promise")) and int(pid(host, "bystander"))


def test_a_socket_that_cannot_be_opened_is_taken_back(host, asked, bystander):
    """Review finding 8: supervisord opens it as it adds the program, and would not start with it after a reboot."""
    socket = section("promise", socket="tcp://198.51.100.1:8000").replace("[program:", "[fcgi-program:")
    answer = asked(socket, disturb=False)
    assert answer.get("failed") and "cannot carry out" in answer["msg"], answer
    assert not host.file(PATH).exists
    assert pid(host, "bystander") == bystander
    assert host.check_output("supervisorctl reread") == "No config updates to processes"
