"""The faults, a row each: what hurts the fleet at work, what ends it, and where the fleet must be at work again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab.demo import trust
from lab.demo.fleet import BIN, Fleet, Host
from lab.drill import hosts
from lab.drill.hosts import shell
from lab.drill.ledger import Job
from lab.drill.proof import dead_letters
from lab.drill.scene import Scene, until
from lab.machine import REPOSITORY, Refusal, podman

# Seconds from a fault's end to work again.
WITHIN_S = {"process": 5.0, "host": 60.0}

# Above twice the heartbeat (rabbitmq_heartbeat is 20 s), after which the broker gives a silent host's jobs to others.
CUT_S = 50.0
# Until systemd must have started again what was killed. Debian's own units would take up to 50 s, or for ever.
START_S = 90
ALARM_S = 8.0
POISON = 2

# Everything that supervisord keeps on a host, with all that came of it.
PROGRAMS = """
tree() { for child in $(pgrep -P "$1"); do tree "$child"; done; echo "$1"; }
pids=$(supervisorctl status | sed -n 's/.* RUNNING *pid \\([0-9]*\\),.*/\\1/p')
test -n "$pids"
all=$(for pid in $pids; do tree "$pid"; done)
kill -9 $all
"""
NOW = "\ndate +%s.%N\n"
AUTHORITIES = "/etc/grunnfjell/pki/authorities.pem"

Moment = Callable[[Scene], float]


@dataclass(frozen=True)
class Fault:
    """`hurt` and `heal` answer the moment at which they had their effect; the fault ends with the last of them."""

    name: str
    kind: str
    hurt: Moment
    heal: Moment | None = None
    hold_s: float = 0.0
    # The host whose work must go on; none means anywhere.
    affects: Callable[[Fleet], Host] | None = None
    # Who answers 202 was struck: it is at work again with a job that was accepted after the end.
    accepts: bool = False
    # Jobs that are given to it in the act must be seen to come twice; otherwise the fault struck nobody.
    interrupts: bool = False
    # An operation that promises to cut nobody: no second delivery, no answer but 202.
    seamless: bool = False


def on(place: Callable[[Fleet], Host], script: str, then: str = "") -> Moment:
    return lambda scene: float(shell(place(scene.fleet), script + NOW + then).split()[-1])


def kill_child(scene: Scene) -> float:
    victim = hosts.worker(scene.fleet)
    return float(shell(victim, f"kill -9 {scene.busy(victim)[0]}{NOW}"))


def amid_work(moment: Moment) -> Moment:
    """Strike when the hurt worker's processes are in the midst of something."""

    def strike(scene: Scene) -> float:
        scene.busy(hosts.worker(scene.fleet))
        return moment(scene)

    return strike


def main_process_killed(place: Callable[[Fleet], Host], unit: str) -> Moment:
    """Answers once systemd has noticed, so that whoever asks afterwards is told of what came then."""
    main = f"systemctl show --property MainPID --value {unit}"
    return on(place, f"pid=$({main})\nkill -9 $pid", f'until [ "$({main})" != "$pid" ]; do sleep 0.05; done')


def active_again(place: Callable[[Fleet], Host], unit: str) -> Moment:
    """systemd has started it anew, by itself."""
    look = f"systemctl is-active --quiet {unit}"
    tell = f"systemctl status --no-pager --lines=0 {unit} >&2"
    return on(place, f"timeout {START_S} sh -c 'until {look}; do sleep 0.1; done' || {{ {tell}; exit 1; }}")


def postgresql_unit(fleet: Fleet) -> str:
    return shell(hosts.database(fleet), 'pg_lsclusters -h | awk \'{print "postgresql@" $1 "-" $2}\'').strip()


def of_postgresql(moment: Callable[[Callable[[Fleet], Host], str], Moment]) -> Moment:
    """Its unit carries the version, which the host knows."""
    return lambda scene: moment(hosts.database, postgresql_unit(scene.fleet))(scene)


def restarted(place: Callable[[Fleet], Host], unit: str) -> Moment:
    """Answers when it began; systemctl waits until it is active again."""
    return on(place, "", f"systemctl restart {unit}")


def cut_off(scene: Scene) -> float:
    """In the host's own packet filter, both ways, without a word to anybody. What it says to itself goes on."""
    rules = """
    table inet drill_cut {
      chain in { type filter hook input priority -300; iifname != "lo" drop; }
      chain out { type filter hook output priority -300; oifname != "lo" drop; }
    }
    """
    victim = hosts.worker(scene.fleet)
    shell(victim, "nft -f -", stdin=rules)
    return time.time()


def host_stopped(scene: Scene) -> float:
    podman("stop", hosts.container(hosts.worker(scene.fleet)))
    return time.time()


def host_started(scene: Scene) -> float:
    podman("start", hosts.container(hosts.worker(scene.fleet)))
    return time.time()


# The limits themselves are moved, and the broker's own monitors find that they are met.
MEMORY = "rabbitmqctl -q set_vm_memory_high_watermark absolute 1MiB"
DISK = "rabbitmqctl -q set_disk_free_limit 1000000GB"
# rabbitmq.conf holds the inventory's; what it says is read from the running node's own settings.
MEMORY_BACK = """
rabbitmqctl -q eval '
  {ok, Limit} = application:get_env(rabbit, vm_memory_high_watermark), vm_memory_monitor:set_vm_memory_high_watermark(Limit).'
"""
DISK_BACK = """
rabbitmqctl -q eval '
  {ok, Limit} = application:get_env(rabbit, disk_free_limit), rabbit_disk_monitor:set_disk_free_limit(Limit).'
"""
ALARM = "timeout 20 sh -c 'until rabbitmqctl -q eval \"rabbit_alarm:get_alarms().\" | grep -q {what}; do sleep 0.1; done'"
NO_ALARM = 'timeout 20 sh -c \'until [ "$(rabbitmqctl -q eval "rabbit_alarm:get_alarms().")" = "[]" ]; do sleep 0.1; done\''


def playbook(scene: Scene, name: str, *arguments: str) -> float:
    """Answers when it began."""
    began = time.time()
    command = [str(BIN / "ansible-playbook"), "-i", scene.inventory, *arguments, name]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refusal(f"{' '.join(command[1:])} failed:\n" + "\n".join(done.stdout.splitlines()[-40:]))
    return began


def deployed(scene: Scene) -> float:
    """The application with one line more: another release, and as good as the last."""
    release = REPOSITORY / "build" / "drill" / "release"
    shutil.rmtree(release, ignore_errors=True)
    shutil.copytree(REPOSITORY / "examples" / "ledger", release, ignore=shutil.ignore_patterns("__pycache__"))
    with (release / "ledger" / "__init__.py").open("a", encoding="utf-8") as file:
        file.write(f"\n# Deployed by the drill at {time.time():.0f}.\n")
    source = json.dumps({"application_source": {"directory": str(release)}})
    return playbook(scene, "playbooks/deploy.yml", "--extra-vars", source)


def rolled_back(scene: Scene) -> float:
    playbook(scene, "playbooks/deploy.yml", "--extra-vars", "release=previous")
    return time.time()


def now(scene: Scene) -> float:
    """The operation that went before has come to its end."""
    return time.time()


def drained(scene: Scene) -> float:
    """As an operator does it: the host's line says drained, and a run makes it so."""
    overlay = REPOSITORY / "build" / "drill" / "drained.yml"
    overlay.parent.mkdir(parents=True, exist_ok=True)
    line = {hosts.worker(scene.fleet).name: {"celery_worker_state": "drained"}}
    overlay.write_text(json.dumps({"all": {"hosts": line}}), encoding="utf-8")
    return playbook(scene, "site.yml", "-i", str(overlay))


def brought_back(scene: Scene) -> float:
    playbook(scene, "site.yml")
    return time.time()


@contextmanager
def clients_told(scene: Scene) -> Iterator[None]:
    """Whoever calls a producer must believe what the fleet believes, a new authority before it issues anything."""
    done = threading.Event()

    def tell() -> None:
        while not done.wait(1):
            trust.believe(shell(hosts.producer(scene.fleet), f"cat {AUTHORITIES}"))

    teller = threading.Thread(target=tell)
    teller.start()
    try:
        yield
    finally:
        done.set()
        teller.join()


def rotated(scene: Scene) -> float:
    """Every secret that the fleet has, in one run of the playbook that an operator uses."""
    with clients_told(scene):
        return playbook(scene, "playbooks/rotate.yml")


# The task in which the first of the workers is handed over.
MIDST = "TASK [celery_worker : Let the running tasks end"


def rotation_cut_off(scene: Scene) -> float:
    """The control machine dies while the fleet is half handed over, with a worker at the one login and the rest at the other."""
    began = time.time()
    command = [
        str(BIN / "ansible-playbook"),
        "-i",
        scene.inventory,
        "-e",
        "rotate=rabbitmq_user_passwords",
        "playbooks/rotate.yml",
    ]
    run = subprocess.Popen(
        command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )  # fmt: skip
    said = []
    for line in run.stdout or []:
        said.append(line)
        if line.startswith(MIDST):
            os.killpg(run.pid, signal.SIGKILL)
            break
    if run.wait() != -signal.SIGKILL:
        raise Refusal(f"{' '.join(command[1:])} was to be cut off, and ended:\n{''.join(said[-40:])}")
    return began


def rotation_taken_up(scene: Scene) -> float:
    playbook(scene, "playbooks/rotate.yml")
    return time.time()


def poisoned(scene: Scene) -> float:
    """Each takes its process with it until the broker has had enough."""
    before = dead_letters(scene.fleet)
    scene.post([Job(next(scene.numbers), 0.0, poison=True) for _ in range(POISON)])
    until("the poison among the dead letters", lambda: dead_letters(scene.fleet) >= before + POISON, 180)
    return time.time()


BROKER = "rabbitmq-server"

FAULTS = (
    Fault("worker child killed", "process", kill_child, affects=hosts.worker, interrupts=True),
    Fault("whole worker killed", "process", amid_work(on(hosts.worker, PROGRAMS)), affects=hosts.worker, interrupts=True),
    Fault(
        "supervisord killed", "process", amid_work(main_process_killed(hosts.worker, "supervisor")),
        affects=hosts.worker, interrupts=True,
    ),
    Fault(
        "worker host cut off", "host", amid_work(cut_off), on(hosts.worker, "nft delete table inet drill_cut"),
        hold_s=CUT_S, affects=hosts.worker, interrupts=True,
    ),
    Fault("worker host stopped and started", "host", amid_work(host_stopped), host_started, hold_s=5, affects=hosts.worker),
    Fault(
        "broker restarted", "process", amid_work(restarted(hosts.broker, BROKER)), active_again(hosts.broker, BROKER),
        interrupts=True, accepts=True,
    ),
    Fault(
        "broker killed", "process", amid_work(main_process_killed(hosts.broker, BROKER)), active_again(hosts.broker, BROKER),
        interrupts=True, accepts=True,
    ),
    Fault(
        "broker at its memory watermark", "process", on(hosts.broker, f"{MEMORY}\n{ALARM.format(what='memory')}"),
        on(hosts.broker, f"{MEMORY_BACK}\n{NO_ALARM}"), hold_s=ALARM_S, accepts=True,
    ),
    Fault(
        "broker's disk at its limit", "process", on(hosts.broker, f"{DISK}\n{ALARM.format(what='disk')}"),
        on(hosts.broker, f"{DISK_BACK}\n{NO_ALARM}"), hold_s=ALARM_S, accepts=True,
    ),
    Fault("PostgreSQL restarted", "process", amid_work(of_postgresql(restarted)), of_postgresql(active_again)),
    Fault(
        "PostgreSQL killed", "process", amid_work(of_postgresql(main_process_killed)),
        of_postgresql(active_again),
    ),
    Fault(
        "PgBouncer restarted", "process", amid_work(restarted(hosts.worker, "pgbouncer")),
        active_again(hosts.worker, "pgbouncer"), affects=hosts.worker,
    ),
    Fault("producer killed", "process", on(hosts.producer, PROGRAMS), affects=hosts.producer, accepts=True),
    Fault("deploy during load", "process", amid_work(deployed), rolled_back, seamless=True, accepts=True),
    Fault("scale-in during load", "process", amid_work(drained), brought_back, affects=hosts.worker, seamless=True),
    Fault("every secret rotated", "process", amid_work(rotated), now, seamless=True, accepts=True),
    Fault(
        "rotation cut off and taken up", "process", amid_work(rotation_cut_off), rotation_taken_up, seamless=True, accepts=True
    ),
    Fault("poison job", "process", poisoned),
)  # fmt: skip

# What `make test` asks: the most telling in a few minutes.
SHORT = ("worker child killed", "supervisord killed", "broker killed", "PostgreSQL killed", "producer killed", "poison job")
