"""What plan says fits is what the servers really take: the last that fits runs, the next is refused before any change."""

from __future__ import annotations

import ipaddress
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from jobs import DONE_S, RESUME_S, SHORT, ended, programs, until
from playbook_runner import changed
from test_runs import AS_ROOT, play, started

from lab.demo import fleet
from lab.demo.fleet import Fleet, Host
from lab.machine import REPOSITORY

pytestmark = [pytest.mark.disruptive, pytest.mark.long]

PLAN = REPOSITORY / "build/plan.json"
HOLDING = Path(__file__).with_name("holding.py").read_text(encoding="utf-8")
POSTGRESQL = "connections to PostgreSQL"
# PostgreSQL takes no connection without a certificate of the fleet.
VERIFIED = (
    "sslmode=verify-full sslrootcert=/etc/grunnfjell/pki/authorities.pem "
    "sslcert=/etc/grunnfjell/pki/application/certificate.pem sslkey=/etc/grunnfjell/pki/application/key.pem"
)
# Past PgBouncer the firewall lets nobody but its own account; what it needs to log in, the application's group may read.
AS_PGBOUNCER = "setpriv --reuid postgres --regid postgres --groups www-data"


def plan(inventory: str | Path, *arguments: str) -> tuple[dict[str, Any], str]:
    PLAN.unlink(missing_ok=True)
    counts, said = play(inventory, "playbooks/plan.yml", *arguments)
    assert PLAN.exists(), said
    assert changed(counts) == {}, said
    return json.loads(PLAN.read_text(encoding="utf-8")), said


def line(told: dict[str, Any], what: str) -> dict[str, Any]:
    (found,) = [each for each in told["lines"] if each["what"] == what]
    return found


class Growing:
    """The inventory under test with worker hosts more, and their containers gone again afterwards."""

    def __init__(self, inventory: Path) -> None:
        self.home, self.inventory = inventory.with_name(f"{inventory.name}-plan"), inventory
        self.text = yaml.safe_load((inventory / "hosts.yml").read_text(encoding="utf-8"))
        groups = self.text["all"]["children"]
        taken = {
            ipaddress.ip_address(each["ansible_host"]) for group in groups.values() for each in group.get("hosts", {}).values()
        }
        workers = groups["celery_workers"]["hosts"]
        self.workers, self.first = workers, next(iter(workers))
        self.free = (address for address in _after(workers[self.first]["ansible_host"]) if address not in taken)
        self.names: list[str] = []

    def more(self) -> str:
        name = f"{self.first}-more{len(self.names) + 1}"
        self.workers[name] = {"ansible_host": str(next(self.free))}
        self.names.append(name)
        self.home.mkdir(exist_ok=True)
        (self.home / "hosts.yml").write_text(yaml.safe_dump(self.text), encoding="utf-8")
        if not (self.home / "group_vars").exists():
            (self.home / "group_vars").symlink_to(f"../{self.inventory.name}/group_vars")
        play(self.home, "lab/create.yml", prefix=AS_ROOT)
        return name

    def gone(self) -> None:
        containers = [f"grunnfjell-{name}" for name in self.names]
        subprocess.run([*AS_ROOT, "podman", "rm", "--force", "--time", "60", *containers], check=False, capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)


def _after(address: str) -> Iterator[ipaddress.IPv4Address]:
    current = ipaddress.ip_address(address)
    while True:
        current += 1
        yield current


@pytest.fixture(scope="module")
def inventory(request) -> Path:
    given = Path(request.config.option.ansible_inventory)
    return given if given.is_absolute() else REPOSITORY / given


@pytest.fixture(scope="module")
def growing(inventory) -> Iterator[Growing]:
    grown = Growing(inventory)
    yield grown
    grown.gone()
    counts, said = play(inventory, "site.yml")
    assert not any(count["failed"] for count in counts.values()), said


@pytest.fixture(scope="module")
def room_for_one(inventory) -> tuple[str, ...]:
    """What to say so that exactly one worker more fits, and fills the server to its last connection."""
    told, said = plan(inventory)
    assert told["refusals"] == [] and told["strangers"] == [], said
    (application,) = told["applications"].values()
    server = line(told, POSTGRESQL)
    (more,) = [each["more"] for each in application["takes"] if each["what"] == POSTGRESQL]
    assert told["workers_that_fit"] == server["left"] // more, said
    reserved = 3  # PostgreSQL's default, as the inventory leaves it
    return "--extra-vars", json.dumps({"postgresql_max_connections": server["used"] + more + reserved})


@contextmanager
def held(host: Host, count: int, *place: str) -> Iterator[dict[str, Any]]:
    """Server connections held open from this host, and what became of them."""
    account = AS_PGBOUNCER if place else "runuser -u www-data --"
    run = f"{account} /opt/{host.application}/current/run python -c"
    quoted = "'" + HOLDING.replace("'", "'\\''") + "'"
    writing, reading, failing = host.ssh.exec_command(f"{run} {quoted} {count} {' '.join(place)}", timeout=120)
    try:
        said = reading.readline()
        assert said, failing.read().decode()
        yield json.loads(said)
    finally:
        writing.channel.shutdown_write()
        reading.channel.recv_exit_status()


def ask(server: Host, sql: str) -> str:
    return server.run(["runuser", "-u", "postgres", "--", "psql", "-XAtc", sql]).strip()


def test_the_last_worker_that_fits_runs_and_postgresql_takes_every_pool_full(inventory, growing, room_for_one, upload):
    told, said = plan(inventory, *room_for_one)
    assert told["workers_that_fit"] == 1, said
    name = growing.more()
    counts, said = play(growing.home, "site.yml", *room_for_one)
    assert not any(count["failed"] or count["unreachable"] for count in counts.values()), said
    told, said = plan(growing.home, *room_for_one)
    assert told["refusals"] == [] and told["workers_that_fit"] == 0, said
    assert told["stopped_by"].startswith(POSTGRESQL), told["stopped_by"]
    account = line(told, POSTGRESQL)
    assert account["left"] == 0

    grown = fleet.read(str(growing.home))
    (worker,) = [host for host in grown.hosts if host.name == name]
    until("the new programs", lambda: all(state.startswith("RUNNING") for state in programs(worker).values()), RESUME_S)
    tasks_done = f"grep -c succeeded {worker.logs}/worker.err.log || true"

    def work_of_the_new_one() -> bool:
        for answer in [upload(SHORT) for _ in range(12)]:
            assert ended(answer)["state"] == "done"
        return int(worker.run(["sh", "-c", tasks_done]) or 0) > 0

    until(f"a task on {name}", work_of_the_new_one, DONE_S)
    every_pool_full(grown, worker, account)


def every_pool_full(grown: Fleet, worker: Host, account: dict[str, Any]) -> None:
    """All pools and reserves of all bouncers at once; what is left then is counted for those that ask for passwords."""
    (server,) = grown.group("postgresql")
    assert int(ask(server, "SHOW max_connections")) - int(ask(server, "SHOW superuser_reserved_connections")) == account["limit"]
    backends = (
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{worker.application}' AND state LIKE 'idle in transaction%'"
    )
    bouncers = grown.group("pgbouncer")
    with ExitStack() as stack:
        for bouncer in bouncers:
            size = "sed -n 's/^\\(default_pool_size\\|reserve_pool_size\\) = //p' /etc/pgbouncer/pgbouncer.ini"
            pool = sum(map(int, bouncer.run(["sh", "-c", size]).split()))
            assert stack.enter_context(held(bouncer, pool)) == {"held": pool, "refused": ""}, bouncer.name
            asking = account["used"] // len(bouncers) - pool
        assert int(ask(server, backends)) == account["used"] - asking * len(bouncers)
        # The rest is taken past PgBouncer, up to the last connection that the plan counts.
        others = int(ask(server, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")) - 1
        past = stack.enter_context(held(worker, account["limit"], f"host={server.address} port=5432 {VERIFIED}"))
        assert others + past["held"] == account["limit"], past
        assert "remaining connection slots are reserved" in past["refused"], past


@pytest.mark.parametrize(
    "entry", [("site.yml",), ("site.yml", "--tags", "pgbouncer"), ("playbooks/celery_worker.yml",)], ids=" ".join
)
def test_the_next_is_refused_with_both_numbers_before_any_change(growing, room_for_one, entry):
    while len(growing.names) < 2:
        growing.more()
    before = started(fleet.read(str(growing.inventory)))
    counts, said = play(growing.home, *entry, *room_for_one)
    told, _ = plan(growing.home, *room_for_one)
    account = line(told, POSTGRESQL)
    assert account["left"] < 0
    both = f"may open {account['used']} connections to {account['host']}, which grants {account['limit']}"
    assert both in " ".join(said.split()), said
    assert any(both in sentence for sentence in told["refusals"]), told["refusals"]
    assert told["workers_that_fit"] == 0 and any(count["failed"] for count in counts.values())
    assert changed(counts) == {}, said
    assert started(fleet.read(str(growing.inventory))) == before


def test_a_worker_that_consumes_without_a_line_in_the_inventory_is_named(inventory, growing, room_for_one):
    assert growing.names, "the host of the first test works"
    told, said = plan(inventory, *room_for_one)
    (sentence,) = told["strangers"]
    assert sentence.startswith(f"celery-worker@{growing.names[0]} at {growing.workers[growing.names[0]]['ansible_host']}"), (
        sentence
    )
    assert "NOT IN THE INVENTORY" in said
