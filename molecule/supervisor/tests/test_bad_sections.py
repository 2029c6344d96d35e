"""A section that supervisord refuses is never written, and one that an older kit wrote is replaced."""

from __future__ import annotations

import json
import shlex

import pytest

testinfra_hosts = ["ansible://supervisor"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

PATH = "/etc/supervisor/conf.d/bad_sections.conf"
BYSTANDER = "/etc/supervisor/conf.d/bystander.conf"


def section(name: str, **settings: str) -> str:
    lines = [f"{key}={value}" for key, value in {"command": "sleep infinity", "startsecs": "0", **settings}.items()]
    return "\n".join([f"[program:{name}]", *lines, ""])


GOOD = section("promise", stdout_logfile_maxbytes="50MB")
BAD = [
    section("promise", stdout_logfile_maxbytes="50MiB"),
    section("pro/mise"),
    section("promise", user="nobody-of-this-name", stdout_logfile="/nowhere/promise.log"),
]


def write(host, path: str, content: str) -> None:
    host.check_output(f"printf %s {shlex.quote(content)} > {path}")


def pid(host, program: str) -> int:
    return int(host.check_output(f"supervisorctl pid {program}"))


@pytest.fixture
def bystander(host):
    """The pid of another program on the host."""
    write(host, BYSTANDER, section("bystander"))
    host.check_output("supervisorctl update bystander")
    yield pid(host, "bystander")
    host.run(f"rm -f {PATH} {BYSTANDER}; timeout 20 sh -c 'until supervisorctl update; do sleep 0.2; done'")


@pytest.fixture
def apply(host):
    """The module's result, with a message if it failed."""

    def module(content: str) -> dict:
        arguments = json.dumps({"path": PATH, "content": content, "disturb": False})
        try:
            return host.ansible("grunnfjell.platform.supervisor_programs", arguments, check=False)
        except host.ansible.AnsibleException as error:
            return error.result

    return module


def test_a_section_that_supervisord_refuses_is_not_written_and_the_next_run_succeeds(host, apply, bystander):
    """Review finding 8."""
    for bad in BAD:
        assert "was not written, because supervisord cannot read it" in apply(bad)["msg"]
        assert not host.file(PATH).exists
    result = apply(GOOD)
    assert result["added"] == ["promise"] and result["changed"] and not result["pending"], result
    running = pid(host, "promise")
    assert "was not written" in apply(BAD[0])["msg"]
    assert host.file(PATH).content_string == GOOD
    assert (pid(host, "promise"), pid(host, "bystander")) == (running, bystander)
    host.check_output("systemctl restart supervisor")
    host.check_output("timeout 20 sh -c 'until supervisorctl pid promise; do sleep 0.1; done'")


def test_a_bad_file_of_an_older_kit_is_replaced_while_other_programs_keep_running(host, apply, bystander):
    """Review finding 8: an older kit wrote the file without checking it."""
    write(host, PATH, BAD[0])
    result = apply(GOOD)
    assert result.get("added") == ["promise"] and result["changed"], result
    assert pid(host, "bystander") == bystander
    assert not apply(GOOD)["changed"]


def test_a_supervisord_that_a_bad_file_stopped_comes_back(host, apply, bystander):
    """Review finding 8: the host was rebooted before the inventory was corrected."""
    write(host, PATH, BAD[0])
    host.run("systemctl restart supervisor")
    host.check_output("timeout 20 sh -c 'until ! supervisorctl pid; do sleep 0.1; done'")
    assert "msg" not in (result := apply(GOOD)), result
    assert pid(host, "promise") and pid(host, "bystander") != bystander


def test_a_section_whose_socket_cannot_be_opened_is_rolled_back(host, apply, bystander):
    """Review finding 8: supervisord opens the socket when it adds the program, and could not start after a reboot."""
    result = apply(section("promise", socket="tcp://198.51.100.1:8000").replace("[program:", "[fcgi-program:"))
    assert "cannot carry out" in result["msg"], result
    assert not host.file(PATH).exists
    assert pid(host, "bystander") == bystander
    assert host.check_output("supervisorctl reread") == "No config updates to processes"
