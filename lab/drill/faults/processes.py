"""Killed or restarted processes, a stopped host, and a job that kills its process."""

from __future__ import annotations

import time
from collections.abc import Callable

from lab.deadlines import until
from lab.demo.fleet import Fleet
from lab.drill import hosts
from lab.drill.faults.fault import NOW, Fault, Moment, Place, Reading, amid_work, on
from lab.drill.hosts import shell
from lab.drill.ledger import Job
from lab.drill.proof import dead_letters
from lab.drill.scene import Scene
from lab.machine import podman

BROKER = "rabbitmq-server"
# For systemd to restart a killed service. Debian's unmodified units take up to 50 s, or never do.
START_S = 90
POISON = 2
# Prints its unit, whose name has the version.
POSTGRESQL = 'pg_lsclusters -h | awk \'{print "postgresql@" $1 "-" $2}\''

# All programs of supervisord on a host, with their children.
PIDS = "supervisorctl status | sed -n 's/.* RUNNING *pid \\([0-9]*\\),.*/\\1/p'"
PROGRAMS = f"""
tree() {{ for child in $(pgrep -P "$1"); do tree "$child"; done; echo "$1"; }}
pids=$({PIDS})
test -n "$pids"
all=$(for pid in $pids; do tree "$pid"; done)
kill -9 $all
"""


def kill_child(scene: Scene) -> float:
    victim = hosts.worker(scene.fleet)
    return float(shell(victim, f"kill -9 {scene.busy(victim)[0]}{NOW}"))


def main_pid(unit: str) -> str:
    return f"systemctl show --property MainPID --value {unit}"


def process_of(place: Place, unit: str) -> Reading:
    return Reading(f"MainPID of {unit}", place, main_pid(f"'{unit}'"))


def programs(place: Place) -> Reading:
    return Reading("processes of the programs", place, PIDS)


def kill_main_process(place: Place, unit: str) -> Moment:
    """Returns once systemd has noticed the kill, so that later readings are of the time after it."""
    return on(place, f"pid=$({main_pid(unit)})\nkill -9 $pid", f'until [ "$({main_pid(unit)})" != "$pid" ]; do sleep 0.05; done')


def active_again(place: Place, unit: str) -> Moment:
    """systemd has started it again."""
    look = f"systemctl is-active --quiet {unit}"
    show = f"systemctl status --no-pager --lines=0 {unit} >&2"
    return on(place, f"timeout {START_S} sh -c 'until {look}; do sleep 0.1; done' || {{ {show}; exit 1; }}")


def restart(place: Place, unit: str) -> Moment:
    """Returns when it began; systemctl waits until the unit is active again."""
    return on(place, "", f"systemctl restart {unit}")


def postgresql_unit(fleet: Fleet) -> str:
    return shell(hosts.database(fleet), POSTGRESQL).strip()


def of_postgresql(moment: Callable[[Place, str], Moment]) -> Moment:
    """For its unit, whose name has the version."""
    return lambda scene: moment(hosts.database, postgresql_unit(scene.fleet))(scene)


def stop_host(scene: Scene) -> float:
    began = time.time()
    podman("stop", hosts.container(hosts.worker(scene.fleet)))
    return began


def start_host(scene: Scene) -> float:
    podman("start", hosts.container(hosts.worker(scene.fleet)))
    return time.time()


def poison(scene: Scene) -> float:
    """Each kills its process until the broker makes it a dead letter."""
    before = dead_letters(scene.fleet)
    scene.post([Job(next(scene.numbers), 0.0, poison=True) for _ in range(POISON)])
    until("the poison among the dead letters", lambda: dead_letters(scene.fleet) >= before + POISON, 180)
    return time.time()


WORKER = (
    Fault("worker child killed", "process", kill_child, affects=hosts.worker, shows=("cut",)),
    Fault(
        "whole worker killed", "process", amid_work(on(hosts.worker, PROGRAMS)), affects=hosts.worker,
        shows=("cut",), readings=(programs(hosts.worker),),
    ),
    Fault(
        "supervisord killed", "process", amid_work(kill_main_process(hosts.worker, "supervisor")),
        affects=hosts.worker, shows=("cut",), readings=(process_of(hosts.worker, "supervisor"),),
    ),
    Fault(
        "worker host stopped and started", "host", amid_work(stop_host), start_host, hold_s=5, ends_within_s=60,
        affects=hosts.worker, readings=(Reading("start of init", hosts.worker, "cut -d ' ' -f 22 /proc/1/stat"),),
    ),
)  # fmt: skip

BROKER_ROWS = (
    Fault(
        "broker restarted", "process", amid_work(restart(hosts.broker, BROKER)), active_again(hosts.broker, BROKER),
        ends_within_s=30, accepts=True, shows=("cut", "repeated"), readings=(process_of(hosts.broker, BROKER),),
    ),
    Fault(
        "broker killed", "process", amid_work(kill_main_process(hosts.broker, BROKER)), active_again(hosts.broker, BROKER),
        ends_within_s=30, accepts=True, shows=("cut", "repeated"), readings=(process_of(hosts.broker, BROKER),),
    ),
)  # fmt: skip

DATABASE = (
    Fault(
        "PostgreSQL restarted", "process", amid_work(of_postgresql(restart)), of_postgresql(active_again),
        ends_within_s=15, readings=(process_of(hosts.database, "postgresql@*"),),
    ),
    Fault(
        "PostgreSQL killed", "process", amid_work(of_postgresql(kill_main_process)), of_postgresql(active_again),
        ends_within_s=15, readings=(process_of(hosts.database, "postgresql@*"),),
    ),
    Fault(
        "PgBouncer restarted", "process", amid_work(restart(hosts.worker, "pgbouncer")),
        active_again(hosts.worker, "pgbouncer"), ends_within_s=10, affects=hosts.worker,
        readings=(process_of(hosts.worker, "pgbouncer"),),
    ),
    Fault(
        "PgBouncer killed", "process", amid_work(kill_main_process(hosts.worker, "pgbouncer")),
        active_again(hosts.worker, "pgbouncer"), ends_within_s=10, affects=hosts.worker,
        shows=("cut",), readings=(process_of(hosts.worker, "pgbouncer"),),
    ),
)  # fmt: skip

PRODUCER = (
    Fault(
        "producer killed", "process", on(hosts.producer, PROGRAMS), affects=hosts.producer, accepts=True,
        # Not "repeated": supervisord keeps the socket, so requests may wait in it until the new processes answer them.
        readings=(programs(hosts.producer),),
    ),
)  # fmt: skip

POISONED = (Fault("poison job", "process", poison, shows=("dead",)),)
