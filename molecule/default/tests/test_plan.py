"""What `make plan` counts as fitting really runs: the last worker that fits works, the next is refused before any change."""

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
from jobs import assert_works
from operations import AS_ROOT, started
from playbook_runner import PlaybookRun, play

from lab.demo import fleet
from lab.demo.fleet import Fleet, Host
from lab.machine import REPOSITORY

pytestmark = [pytest.mark.disruptive, pytest.mark.long]

PLAN = REPOSITORY / "build/plan.json"
HOLDER = Path(__file__).with_name("connection_holder.py").read_text(encoding="utf-8")
POSTGRESQL = "connections to PostgreSQL"
# PostgreSQL accepts only connections with a certificate of the fleet.
VERIFIED = (
    "sslmode=verify-full sslrootcert=/etc/grunnfjell/pki/authorities.pem "
    "sslcert=/etc/grunnfjell/pki/application/certificate.pem sslkey=/etc/grunnfjell/pki/application/key.pem"
)
# The firewall lets only PgBouncer's account out to PostgreSQL; the application's group may read the login.
AS_PGBOUNCER = "setpriv --reuid postgres --regid postgres --groups www-data"


def plan(inventory: str | Path, *arguments: str) -> tuple[dict[str, Any], PlaybookRun]:
    """The plan's report, and its run, which changes nothing."""
    PLAN.unlink(missing_ok=True)
    run = play(inventory, "playbooks/plan.yml", *arguments)
    assert PLAN.exists(), run.output
    assert run.changed == {}, run.output
    return json.loads(PLAN.read_text(encoding="utf-8")), run


def line(report: dict[str, Any], what: str) -> dict[str, Any]:
    (match,) = [entry for entry in report["lines"] if entry["what"] == what]
    return match


class LargerFleet:
    """A copy of the inventory with more worker hosts. Removes their containers afterwards."""

    def __init__(self, inventory: Path) -> None:
        self.home, self.inventory = inventory.with_name(f"{inventory.name}-plan"), inventory
        self.hosts = yaml.safe_load((inventory / "hosts.yml").read_text(encoding="utf-8"))
        groups = self.hosts["all"]["children"]
        hosts = [host for group in groups.values() for host in group.get("hosts", {}).values()]
        taken = {ipaddress.ip_address(host["ansible_host"]) for host in hosts}
        self.workers = groups["celery_workers"]["hosts"]
        self.first = next(iter(self.workers))
        self.free = (address for address in _after(self.workers[self.first]["ansible_host"]) if address not in taken)
        self.names: list[str] = []

    def add_worker(self) -> str:
        name = f"{self.first}-more{len(self.names) + 1}"
        self.workers[name] = {"ansible_host": str(next(self.free))}
        self.names.append(name)
        self.home.mkdir(exist_ok=True)
        (self.home / "hosts.yml").write_text(yaml.safe_dump(self.hosts), encoding="utf-8")
        if not (self.home / "group_vars").exists():
            (self.home / "group_vars").symlink_to(f"../{self.inventory.name}/group_vars")
        play(self.home, "lab/create.yml", prefix=AS_ROOT)
        return name

    def remove(self) -> None:
        containers = [f"grunnfjell-{name}" for name in self.names]
        subprocess.run([*AS_ROOT, "podman", "rm", "--force", "--time", "60", *containers], check=False, capture_output=True)
        shutil.rmtree(self.home, ignore_errors=True)


def _after(address: str) -> Iterator[ipaddress.IPv4Address]:
    current = ipaddress.ip_address(address)
    while True:
        current += 1
        yield current


@pytest.fixture(scope="module")
def larger(inventory) -> Iterator[LargerFleet]:
    larger_fleet = LargerFleet(REPOSITORY / inventory)
    yield larger_fleet
    larger_fleet.remove()
    run = play(inventory, "site.yml")
    assert run.returncode == 0, run.output


@pytest.fixture(scope="module")
def room_for_one(inventory) -> tuple[str, ...]:
    """Arguments with which exactly one more worker fits, and uses the server's last connection."""
    report, run = plan(inventory)
    assert report["refusals"] == [] and report["strangers"] == [], run.output
    (application,) = report["applications"].values()
    server = line(report, POSTGRESQL)
    (more,) = [entry["more"] for entry in application["takes"] if entry["what"] == POSTGRESQL]
    assert report["workers_that_fit"] == server["left"] // more, run.output
    reserved = 3  # PostgreSQL's default, as the inventory leaves it
    return "--extra-vars", json.dumps({"postgresql_max_connections": server["used"] + more + reserved})


@contextmanager
def held(host: Host, count: int, *parameters: str) -> Iterator[dict[str, Any]]:
    """The result of holding server connections open from this host."""
    account = AS_PGBOUNCER if parameters else "runuser -u www-data --"
    run = f"{account} /opt/{host.application}/current/run python -c"
    program = "'" + HOLDER.replace("'", "'\\''") + "'"
    stdin, stdout, stderr = host.ssh.exec_command(f"{run} {program} {count} {' '.join(parameters)}", timeout=120)
    try:
        result = stdout.readline()
        assert result, stderr.read().decode()
        yield json.loads(result)
    finally:
        stdin.channel.shutdown_write()
        stdout.channel.recv_exit_status()


def ask(server: Host, sql: str) -> str:
    return server.run(["runuser", "-u", "postgres", "--", "psql", "-XAtc", sql]).strip()


def test_the_last_worker_that_fits_runs_and_postgresql_accepts_all_pools_when_full(inventory, larger, room_for_one, upload):
    report, run = plan(inventory, *room_for_one)
    assert report["workers_that_fit"] == 1, run.output
    name = larger.add_worker()
    run = play(larger.home, "site.yml", *room_for_one)
    assert run.returncode == 0, run.output
    report, run = plan(larger.home, *room_for_one)
    assert report["refusals"] == [] and report["workers_that_fit"] == 0, run.output
    assert report["stopped_by"].startswith(POSTGRESQL), report["stopped_by"]
    connections = line(report, POSTGRESQL)
    assert connections["left"] == 0

    site = fleet.read(str(larger.home))
    (worker,) = [host for host in site.hosts if host.name == name]
    assert_works(worker, upload)
    assert_every_pool_fits(site, worker, connections)


def assert_every_pool_fits(site: Fleet, worker: Host, connections: dict[str, Any]) -> None:
    """Fills all pools and reserves of all bouncers at once; the plan counts the rest for their auth_query."""
    (server,) = site.group("postgresql")
    assert (
        int(ask(server, "SHOW max_connections")) - int(ask(server, "SHOW superuser_reserved_connections")) == connections["limit"]
    )
    backends = (
        f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{worker.application}' AND state LIKE 'idle in transaction%'"
    )
    bouncers = site.group("pgbouncer")
    with ExitStack() as stack:
        for bouncer in bouncers:
            size = "sed -n 's/^\\(default_pool_size\\|reserve_pool_size\\) = //p' /etc/pgbouncer/pgbouncer.ini"
            pool = sum(map(int, bouncer.run(["sh", "-c", size]).split()))
            assert stack.enter_context(held(bouncer, pool)) == {"held": pool, "refused": ""}, bouncer.name
            auth_query = connections["used"] // len(bouncers) - pool
        assert int(ask(server, backends)) == connections["used"] - auth_query * len(bouncers)
        # The rest directly, up to the last connection that the plan counts.
        others = int(ask(server, "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'")) - 1
        direct = stack.enter_context(held(worker, connections["limit"], f"host={server.address} port=5432 {VERIFIED}"))
        assert others + direct["held"] == connections["limit"], direct
        assert "remaining connection slots are reserved" in direct["refused"], direct


@pytest.mark.parametrize(
    "entry", [("site.yml",), ("site.yml", "--tags", "pgbouncer"), ("playbooks/celery_worker.yml",)], ids=" ".join
)
def test_one_worker_too_many_is_refused_with_both_numbers_before_any_change(larger, room_for_one, entry):
    while len(larger.names) < 2:
        larger.add_worker()
    before = started(fleet.read(str(larger.inventory)))
    run = play(larger.home, *entry, *room_for_one)
    report, _ = plan(larger.home, *room_for_one)
    connections = line(report, POSTGRESQL)
    assert connections["left"] < 0
    both = f"may open {connections['used']} connections to {connections['host']}, which grants {connections['limit']}"
    assert both in run.text, run.output
    assert any(both in sentence for sentence in report["refusals"]), report["refusals"]
    assert report["workers_that_fit"] == 0 and run.failed
    assert run.changed == {}, run.output
    assert started(fleet.read(str(larger.inventory))) == before


def test_a_consuming_worker_that_is_not_in_the_inventory_is_named(inventory, larger, room_for_one):
    assert larger.names, "the host of the first test works"
    report, run = plan(inventory, *room_for_one)
    (sentence,) = report["strangers"]
    name = larger.names[0]
    assert sentence.startswith(f"celery-worker@{name} at {larger.workers[name]['ansible_host']}"), sentence
    assert "NOT IN THE INVENTORY" in run.output
