"""Where role haproxy sends connections, as clients on its host see it, with servers on both hosts of the scenario."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from authority import unknown_authority

testinfra_hosts = ["ansible://haproxy"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

HERE = Path(__file__).parent
HOME = "/run/backend"
PKI = "/etc/grunnfjell/pki"
PLAYBOOK = "playbooks/haproxy.yml"
CONFIGURATION = "/etc/haproxy/grunnfjell.cfg"
DATABASE, BROKER, PLAIN = 5000, 5001, 5002
INFO = "echo 'show info' | socat stdio /run/grunnfjell-haproxy/admin.sock"
# Two failed checks half a second apart, on a busy machine.
PATIENCE_S = 20


def put(host, path: str, content: bytes) -> None:
    host.check_output(f"mkdir -p {HOME} && echo {base64.b64encode(content).decode()} | base64 -d > {path}")


@dataclass
class Backends:
    """The servers on both hosts, by host name."""

    hosts: dict

    def start(self, name: str, certificate: str = f"{PKI}/haproxy/certificate.pem", key: str = f"{PKI}/haproxy/key.pem") -> None:
        self.stop(name)
        command = f"python3 {HOME}/backend.py {name} {certificate} {key} {PKI}/authorities.pem"
        self.hosts[name].check_output(f"systemd-run --quiet --collect --unit=backend {command}")

    def stop(self, name: str) -> None:
        self.hosts[name].run("systemctl kill --signal=KILL backend; systemctl stop backend")

    def status(self, name: str, number: int) -> None:
        put(self.hosts[name], f"{HOME}/status.new", str(number).encode())
        self.hosts[name].check_output(f"mv {HOME}/status.new {HOME}/status")

    def pass_only(self, *names: str) -> None:
        """Let only these answer 200."""
        for name in sorted(self.hosts, key=lambda name: name in names):
            self.status(name, 200 if name in names else 503)


@pytest.fixture(scope="module")
def backends(host, fleet) -> Iterator[Backends]:
    servers = Backends(fleet)
    for name, server in fleet.items():
        put(server, f"{HOME}/backend.py", (HERE / "backend.py").read_bytes())
        put(server, f"{HOME}/client.py", (HERE / "client.py").read_bytes())
        servers.status(name, 503)
        servers.start(name)
    yield servers
    for name in fleet:
        servers.stop(name)


@pytest.fixture
def both(backends) -> Iterator[Backends]:
    """Both servers running and none in service; also started again after a failed test."""
    backends.pass_only()
    yield backends
    for name in backends.hosts:
        backends.start(name)


@pytest.fixture
def here(hostname) -> str:
    return hostname


@pytest.fixture
def there(fleet, here) -> str:
    (name,) = fleet.keys() - {here}
    return name


def eventually(look: Callable[[], object], expected: object) -> None:
    end = time.monotonic() + PATIENCE_S
    while (seen := look()) != expected:
        assert time.monotonic() < end, f"{seen!r} instead of {expected!r} after {PATIENCE_S} s"
        time.sleep(0.1)  # between two looks; the deadline ends them


def who(host, port: int) -> str:
    return host.check_output(f"python3 {HOME}/client.py who {port}")


def serves(host, port: int, name: str) -> None:
    """Wait until clients of this port get this server; an empty name: none."""
    eventually(lambda: who(host, port), name)


def down(host, listener: str, server: str) -> str:
    """HAProxy's code for the failed check of a server that is down."""
    state = host.check_output("echo 'show stat' | socat stdio /run/grunnfjell-haproxy/admin.sock")
    fields, *rows = [line.split(",") for line in state.removeprefix("# ").splitlines() if line]
    row = next(dict(zip(fields, row, strict=True)) for row in rows if row[:2] == [listener, server])
    return row["check_status"] if row["status"] == "DOWN" else ""


@pytest.fixture
def session(host) -> Iterator[Callable[[int], Callable[[], dict]]]:
    """Opens a session that stays open. Returns a function that reads its state."""
    units: list[str] = []

    def begin(port: int) -> Callable[[], dict]:
        unit, file = f"session{len(units)}", f"{HOME}/session{len(units)}.json"
        units.append(unit)
        host.check_output(
            f"rm -f {file}; systemd-run --quiet --collect --unit={unit} python3 {HOME}/client.py hold {port} {file}"
        )
        eventually(lambda: host.file(file).exists, True)
        return lambda: json.loads(host.check_output(f"cat {file}"))

    yield begin
    for unit in units:
        host.run(f"systemctl stop {unit}")


def test_clients_follow_the_healthy_server(host, both, here, there):
    for name in (here, there, here):
        both.pass_only(name)
        serves(host, DATABASE, name)


def test_no_client_gets_a_server_while_two_claim_to_be_the_only_one(host, both, here, there):
    both.pass_only(here)
    serves(host, DATABASE, here)
    both.pass_only(here, there)
    serves(host, DATABASE, "")
    both.pass_only(there)
    serves(host, DATABASE, there)


def test_no_client_gets_a_server_while_none_is_healthy(host, both, here):
    both.pass_only(here)
    serves(host, DATABASE, here)
    both.pass_only()
    serves(host, DATABASE, "")


def test_a_restart_sends_no_client_to_an_unchecked_server(host, both, there):
    both.pass_only(there)
    serves(host, DATABASE, there)
    host.check_output("systemctl restart haproxy")
    answers = json.loads(host.check_output(f"python3 {HOME}/client.py storm {DATABASE} 4"))
    assert set(answers) <= {there, ""} and answers[there], answers


def test_sessions_of_a_failed_server_end_and_others_stay(host, both, session, here, there):
    both.pass_only(here)
    serves(host, DATABASE, here)
    database, broker = session(DATABASE), session(PLAIN)
    assert database()["server"] == here
    both.pass_only(there)
    eventually(lambda: database()["ended"], True)
    serves(host, DATABASE, there)
    assert not broker()["ended"]


def test_a_reload_keeps_sessions_and_refuses_no_connection(host, both, session, here):
    both.pass_only(here)
    serves(host, DATABASE, here)
    eventually(lambda: down(host, "plain", here), "")
    sessions = [session(DATABASE), session(PLAIN)]
    host.check_output(
        f"systemd-run --quiet --collect --unit=storm sh -c 'python3 {HOME}/client.py storm {PLAIN} 6 > {HOME}/storm.json'"
    )
    for _ in range(2):
        host.check_output("systemctl reload haproxy")
        time.sleep(1)  # the storm goes on over each of them
    eventually(lambda: host.run("systemctl is-active storm").stdout.strip(), "inactive")
    answers = json.loads(host.check_output(f"cat {HOME}/storm.json"))
    assert sum(answers.values()) > 100 and "" not in answers, answers
    before = [state()["echoed"] for state in sessions]
    eventually(lambda: [state()["echoed"] > count for state, count in zip(sessions, before, strict=True)], [True, True])
    assert not any(state()["ended"] for state in sessions)


def test_an_old_process_ends_after_the_declared_number_of_reloads(host, both, session, inputs):
    eventually(lambda: who(host, PLAIN) != "", True)
    open_session = session(PLAIN)
    for reload in range(inputs["haproxy_mworker_max_reloads"] + 1):
        assert not open_session()["ended"], f"after {reload} reloads"
        before = host.check_output(f"{INFO} | grep ^Pid")
        host.check_output("systemctl reload haproxy")
        eventually(lambda before=before: host.run(f"{INFO} | grep ^Pid").stdout.strip() not in ("", before), True)
    eventually(lambda: open_session()["ended"], True)


def test_a_handshake_or_a_connection_is_enough_where_no_http_check_is_declared(host, both, here, there):
    for name in (here, there):
        eventually(lambda name=name: (down(host, "broker", name), down(host, "plain", name)), ("", ""))
    both.stop(there)
    serves(host, PLAIN, here)
    eventually(lambda: (down(host, "broker", there), down(host, "plain", there)), ("L4CON", "L4CON"))
    assert {who(host, PLAIN) for _ in range(5)} == {here}


@pytest.mark.parametrize("wrong", ["another authority's", "of another name"])
def test_a_server_with_a_wrong_certificate_is_not_in_service(host, both, authority, tmp_path, here, there, wrong):
    both.pass_only(there)
    serves(host, DATABASE, there)
    issued = (authority.issue(here), unknown_authority(tmp_path / "s").issue(there))[wrong == "another authority's"]
    for path, name in zip(issued, ("wrong.pem", "wrong-key.pem"), strict=True):
        put(both.hosts[there], f"{HOME}/{name}", Path(path).read_bytes())
    both.start(there, f"{HOME}/wrong.pem", f"{HOME}/wrong-key.pem")
    eventually(lambda: down(host, "database", there), "L6RSP")
    eventually(lambda: down(host, "broker", there), "L6RSP")
    assert who(host, DATABASE) == ""
    both.start(there)
    serves(host, DATABASE, there)


@pytest.mark.parametrize("process", ["parent", "child"])
def test_haproxy_comes_back_after_kill_9(host, both, here, process):
    both.pass_only(here)
    serves(host, DATABASE, here)
    main = host.check_output("systemctl show haproxy --property=MainPID --value")
    victim = main if process == "parent" else host.check_output(f"pgrep --newest --parent {main}")
    host.check_output(f"kill -9 {victim}")
    eventually(lambda: host.check_output("systemctl show haproxy --property=MainPID --value") not in ("0", main), True)
    serves(host, DATABASE, here)


def test_a_configuration_that_haproxy_refuses_is_not_installed(host, both, session, converge, here):
    both.pass_only(here)
    serves(host, DATABASE, here)
    before, open_session = host.check_output(f"sha256sum {CONFIGURATION}"), session(DATABASE)
    run = converge(PLAYBOOK, haproxy_parameters={"global": {"no-such-keyword": 1}})
    reason = "unknown keyword 'no-such-keyword' in 'global' section"
    run.assert_failed("was not put in place, since haproxy refuses it", reason)
    assert host.check_output(f"sha256sum {CONFIGURATION}") == before
    expected = {"errors", "grunnfjell.cfg", "grunnfjell.crt", "grunnfjell.key", "haproxy.cfg"}
    assert set(host.check_output("ls -A /etc/haproxy").split()) == expected
    run = converge(PLAYBOOK)
    assert run.returncode == 0 and "changed=0 " in run.text, run.output
    assert not open_session()["ended"]


def test_a_run_that_was_cut_off_before_the_reload_is_completed_by_the_next(host, both, session, converge, here):
    """The file is right, but the running process has read another one."""
    both.pass_only(here)
    serves(host, DATABASE, here)
    open_session = session(DATABASE)
    host.check_output(f"cp -a {CONFIGURATION} {HOME}/kept && sed -i 's/description .*/description another/' {CONFIGURATION}")
    host.check_output("systemctl reload haproxy")
    eventually(lambda: "description: another" in host.run(INFO).stdout, True)
    host.check_output(f"cp -a {HOME}/kept {CONFIGURATION}")
    run = converge(PLAYBOOK)
    assert run.returncode == 0 and "changed=1 " in run.text, run.output
    assert "description: another" not in host.check_output(INFO)
    assert not open_session()["ended"]


def test_a_stopped_service_is_started_by_the_next_run(host, both, converge):
    host.check_output("systemctl stop haproxy")
    run = converge(PLAYBOOK)
    assert run.returncode == 0, run.output
    assert host.service("haproxy").is_running


def test_the_journal_names_a_failed_server_and_its_reason(host, both, here):
    both.pass_only(here)
    serves(host, DATABASE, here)
    since = host.check_output("date +%s")
    both.pass_only()
    eventually(lambda: down(host, "database", here), "L7STS")
    journal = f"journalctl --no-pager --output=cat --unit=haproxy --since=@{since}"
    assert f"Server database/{here} is DOWN, reason: Layer7 wrong status, code: 503" in host.check_output(journal)
