"""Where role haproxy sends connections, seen by clients on its host with servers on both hosts of the scenario."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import testinfra
from authority import stranger
from playbook_runner import play

testinfra_hosts = ["ansible://haproxy"]
pytestmark = [pytest.mark.once, pytest.mark.disruptive, pytest.mark.scenario]

HERE = Path(__file__).parent
HOME = "/run/backend"
PKI = "/etc/grunnfjell/pki"
CONFIGURATION = "/etc/haproxy/grunnfjell.cfg"
DATABASE, BROKER, PLAIN = 5000, 5001, 5002
INFO = "echo 'show info' | socat stdio /run/grunnfjell-haproxy/admin.sock"
# Two failed checks half a second apart, on a busy machine.
PATIENCE_S = 20


def put(host, path: str, content: bytes) -> None:
    host.check_output(f"mkdir -p {HOME} && echo {base64.b64encode(content).decode()} | base64 -d > {path}")


@dataclass
class Backends:
    """The servers of both hosts, by the host's name."""

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

    def passes(self, *names: str) -> None:
        """Those alone answer 200."""
        for name in sorted(self.hosts, key=lambda name: name in names):
            self.status(name, 200 if name in names else 503)


@pytest.fixture(scope="module")
def backends(host, request) -> Iterator[Backends]:
    inventory = request.config.option.ansible_inventory
    names = host.backend.ansible_runner.get_hosts()
    found = Backends({name: testinfra.get_host(f"ansible://{name}", ansible_inventory=inventory) for name in names})
    for name, server in found.hosts.items():
        put(server, f"{HOME}/backend.py", (HERE / "backend.py").read_bytes())
        put(server, f"{HOME}/client.py", (HERE / "client.py").read_bytes())
        found.status(name, 503)
        found.start(name)
    yield found
    for name in found.hosts:
        found.stop(name)


@pytest.fixture
def both(backends) -> Iterator[Backends]:
    """The servers as they are at first, also after a test that failed: running, and none of them in service."""
    backends.passes()
    yield backends
    for name in backends.hosts:
        backends.start(name)


@pytest.fixture
def here(host) -> str:
    return host.backend.get_hostname()


@pytest.fixture
def there(host, here) -> str:
    (name,) = set(host.backend.ansible_runner.get_hosts()) - {here}
    return name


def eventually(what: Callable[[], object], wanted: object, seconds: float = PATIENCE_S) -> None:
    end = time.monotonic() + seconds
    while (found := what()) != wanted:
        assert time.monotonic() < end, f"{found!r} instead of {wanted!r} after {seconds} s"
        time.sleep(0.1)  # between two looks; the deadline ends them


def who(host, port: int) -> str:
    return host.check_output(f"python3 {HOME}/client.py who {port}")


def down(host, listener: str, server: str) -> str:
    """Why the server is down, by HAProxy's word for what its check found."""
    state = host.check_output("echo 'show stat' | socat stdio /run/grunnfjell-haproxy/admin.sock")
    fields, *rows = [line.split(",") for line in state.removeprefix("# ").splitlines() if line]
    row = next(dict(zip(fields, row, strict=True)) for row in rows if row[:2] == [listener, server])
    return row["check_status"] if row["status"] == "DOWN" else ""


@pytest.fixture
def session(host) -> Iterator[Callable[[int], Callable[[], dict]]]:
    """Opens a session that stays open, and answers with what looks at it."""
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


def test_clients_reach_the_server_that_passes_and_follow_it(host, both, here, there):
    for name in (here, there, here):
        both.passes(name)
        eventually(lambda: who(host, DATABASE), name)


def test_no_client_is_sent_anywhere_while_two_servers_claim_to_be_the_only_one(host, both, here, there):
    both.passes(here)
    eventually(lambda: who(host, DATABASE), here)
    both.passes(here, there)
    eventually(lambda: who(host, DATABASE), "")
    both.passes(there)
    eventually(lambda: who(host, DATABASE), there)


def test_no_client_is_sent_anywhere_while_no_server_passes(host, both, here):
    both.passes(here)
    eventually(lambda: who(host, DATABASE), here)
    both.passes()
    eventually(lambda: who(host, DATABASE), "")


def test_a_restart_sends_no_client_to_a_server_that_has_not_been_checked(host, both, there):
    both.passes(there)
    eventually(lambda: who(host, DATABASE), there)
    host.check_output("systemctl restart haproxy")
    answered = json.loads(host.check_output(f"python3 {HOME}/client.py storm {DATABASE} 4"))
    assert set(answered) <= {there, ""} and answered[there], answered


def test_sessions_of_a_server_that_goes_down_end_and_the_others_stay(host, both, session, here, there):
    both.passes(here)
    eventually(lambda: who(host, DATABASE), here)
    database, broker = session(DATABASE), session(PLAIN)
    assert database()["server"] == here
    both.passes(there)
    eventually(lambda: database()["ended"], True)
    eventually(lambda: who(host, DATABASE), there)
    assert not broker()["ended"]


def test_a_reload_keeps_sessions_and_refuses_no_connection(host, both, session, here):
    both.passes(here)
    eventually(lambda: who(host, DATABASE), here)
    eventually(lambda: down(host, "plain", here), "")
    kept = [session(DATABASE), session(PLAIN)]
    host.check_output(
        f"systemd-run --quiet --collect --unit=storm sh -c 'python3 {HOME}/client.py storm {PLAIN} 6 > {HOME}/storm.json'"
    )
    for _ in range(2):
        host.check_output("systemctl reload haproxy")
        time.sleep(1)  # the storm goes on over each of them
    eventually(lambda: host.run("systemctl is-active storm").stdout.strip(), "inactive")
    answered = json.loads(host.check_output(f"cat {HOME}/storm.json"))
    assert sum(answered.values()) > 100 and "" not in answered, answered
    before = [look()["echoed"] for look in kept]
    eventually(lambda: [look()["echoed"] > count for look, count in zip(kept, before, strict=True)], [True, True])
    assert not any(look()["ended"] for look in kept)


def test_an_old_process_does_not_stay_for_ever(host, both, session, inputs):
    eventually(lambda: who(host, PLAIN) != "", True)
    kept = session(PLAIN)
    for reload in range(inputs["haproxy_mworker_max_reloads"] + 1):
        assert not kept()["ended"], f"after {reload} reloads"
        before = host.check_output(f"{INFO} | grep ^Pid")
        host.check_output("systemctl reload haproxy")
        eventually(lambda before=before: host.run(f"{INFO} | grep ^Pid").stdout.strip() not in ("", before), True)
    eventually(lambda: kept()["ended"], True)


def test_a_handshake_or_a_connection_is_enough_where_the_inventory_asks_for_no_more(host, both, here, there):
    for name in (here, there):
        eventually(lambda name=name: (down(host, "broker", name), down(host, "plain", name)), ("", ""))
    both.stop(there)
    eventually(lambda: who(host, PLAIN), here)
    eventually(lambda: (down(host, "broker", there), down(host, "plain", there)), ("L4CON", "L4CON"))
    assert {who(host, PLAIN) for _ in range(5)} == {here}


@pytest.mark.parametrize("wrong", ["another authority's", "of another name"])
def test_a_server_with_a_certificate_that_is_not_its_own_is_not_in_service(host, both, authority, tmp_path, here, there, wrong):
    both.passes(there)
    eventually(lambda: who(host, DATABASE), there)
    issued = (authority.issue(here), stranger(tmp_path / "s").issue(there))[wrong == "another authority's"]
    for path, name in zip(issued, ("wrong.pem", "wrong-key.pem"), strict=True):
        put(both.hosts[there], f"{HOME}/{name}", Path(path).read_bytes())
    both.start(there, f"{HOME}/wrong.pem", f"{HOME}/wrong-key.pem")
    eventually(lambda: down(host, "database", there), "L6RSP")
    eventually(lambda: down(host, "broker", there), "L6RSP")
    assert who(host, DATABASE) == ""
    both.start(there)
    eventually(lambda: who(host, DATABASE), there)


@pytest.mark.parametrize("whom", ["parent", "child"])
def test_it_comes_back_after_kill_9(host, both, here, whom):
    both.passes(here)
    eventually(lambda: who(host, DATABASE), here)
    main = host.check_output("systemctl show haproxy --property=MainPID --value")
    victim = main if whom == "parent" else host.check_output(f"pgrep --newest --parent {main}")
    host.check_output(f"kill -9 {victim}")
    eventually(lambda: host.check_output("systemctl show haproxy --property=MainPID --value") not in ("0", main), True)
    eventually(lambda: who(host, DATABASE), here)


@pytest.fixture
def converge(host, request):
    """The role's playbook on this host, as an operator runs it."""

    def run(**inputs):
        limit = ["--limit", host.backend.get_hostname()]
        return play(request.config.option.ansible_inventory, "playbooks/haproxy.yml", *limit, variables=inputs or None)

    return run


def test_a_configuration_that_haproxy_refuses_is_not_put_in_place(host, both, session, converge, here):
    both.passes(here)
    eventually(lambda: who(host, DATABASE), here)
    before, kept = host.check_output(f"sha256sum {CONFIGURATION}"), session(DATABASE)
    done = converge(haproxy_parameters={"global": {"no-such-keyword": 1}})
    assert done.returncode and "was not put in place, since haproxy refuses it" in done.said, done.printed
    assert "unknown keyword 'no-such-keyword' in 'global' section" in done.said, done.printed
    assert host.check_output(f"sha256sum {CONFIGURATION}") == before
    own = {"errors", "grunnfjell.cfg", "grunnfjell.crt", "grunnfjell.key", "haproxy.cfg"}
    assert set(host.check_output("ls -A /etc/haproxy").split()) == own
    done = converge()
    assert done.returncode == 0 and "changed=0 " in done.said, done.printed
    assert not kept()["ended"]


def test_a_run_that_was_cut_off_before_the_reload_is_completed_by_the_next(host, both, session, converge, here):
    """The file is as it should be, and the running process has read another one."""
    both.passes(here)
    eventually(lambda: who(host, DATABASE), here)
    kept = session(DATABASE)
    host.check_output(f"cp -a {CONFIGURATION} {HOME}/kept && sed -i 's/description .*/description another/' {CONFIGURATION}")
    host.check_output("systemctl reload haproxy")
    eventually(lambda: "description: another" in host.run(INFO).stdout, True)
    host.check_output(f"cp -a {HOME}/kept {CONFIGURATION}")
    done = converge()
    assert done.returncode == 0 and "changed=1 " in done.said, done.printed
    assert "description: another" not in host.check_output(INFO)
    assert not kept()["ended"]


def test_a_stopped_service_is_started_by_the_next_run(host, both, converge):
    host.check_output("systemctl stop haproxy")
    done = converge()
    assert done.returncode == 0, done.printed
    assert host.service("haproxy").is_running


def test_the_journal_says_which_server_went_down_and_why(host, both, here):
    both.passes(here)
    eventually(lambda: who(host, DATABASE), here)
    since = host.check_output("date +%s")
    both.passes()
    eventually(lambda: down(host, "database", here), "L7STS")
    journal = f"journalctl --no-pager --output=cat --unit=haproxy --since=@{since}"
    assert f"Server database/{here} is DOWN, reason: Layer7 wrong status, code: 503" in host.check_output(journal)
