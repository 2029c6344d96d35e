"""Three core hosts, each with a broker, a database and a member of etcd: the one that leads is struck, or a majority."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from lab import playbooks
from lab.deadlines import until
from lab.demo.fleet import Fleet, Host
from lab.drill import hosts
from lab.drill.faults.fault import NOW, Fault, Moment, Reading, amid_work, now, on, playbook
from lab.drill.faults.network import cut_off, dropped, reconnect
from lab.drill.faults.operations import current, deploy, roll_back
from lab.drill.faults.processes import BROKER, active_again, kill_main_process, process_of
from lab.drill.faults.secrets import SECRETS
from lab.drill.hosts import shell
from lab.drill.scene import Scene
from lab.machine import Refusal, podman

PATRONI = "patroni@$(pg_lsclusters -h | awk '{print $1 \"-\" $2}')"
ETCD = "etcd"
POSTMASTER = "head -n 1 /var/lib/postgresql/*/main/postmaster.pid"
SWITCHOVER = "cd / && patronictl -c /etc/patroni/*-main.yml switchover main --force >&2"
LEADERS = """rabbitmqctl -q eval '[element(2, amqqueue:get_pid(Q)) || Q <- rabbit_amqqueue:list(<<"%s">>),
    amqqueue:get_type(Q) =:= rabbit_quorum_queue].'"""
PEERS = "ss -Htn state established '( sport = :2380 or dport = :2380 )' | wc -l"
STANDBYS = "runuser -u postgres -- psql -XAtc 'SELECT count(*) FROM pg_stat_replication'"
SYNCHRONOUS = "SELECT application_name FROM pg_stat_replication WHERE sync_state = 'sync' LIMIT 1"
MEMORY = "rabbitmqctl -q set_vm_memory_high_watermark absolute"
CONFIGURED = "$(sed -n 's/^vm_memory_high_watermark.absolute = //p' /etc/rabbitmq/rabbitmq.conf)"
# dpkg believes that it has installed an earlier version; apt then finds an update, and installs it like any other.
UPDATED = ("etcd-server", "patroni", "postgresql-17", "rabbitmq-server")
OLDER = "\n".join(f"sed -i '/^Package: {name}$/,/^$/ s/^Version: .*[^r]$/&~earlier/' /var/lib/dpkg/status" for name in UPDATED)
# Longer than it takes the others to notice the silence of a broker (10 s) and of a primary (20 s).
CUT_S = 60.0


@dataclass
class Member:
    """A core host, chosen before the row's load and the same until its end: after the fault another one leads."""

    find: Callable[[Fleet], Host]
    found: Host | None = None

    def __call__(self, fleet: Fleet) -> Host:
        self.found = self.found or self.find(fleet)
        return self.found

    @contextmanager
    def chosen(self, scene: Scene) -> Iterator[None]:
        self.found = self.find(scene.fleet)
        yield


def leader(fleet: Fleet) -> Host:
    """The host whose broker leads most queues of the application."""
    # Not list_queues: one queue that does not answer within a minute, such as a worker's on a lost member, fails the whole list.
    nodes = re.findall(r"rabbit@[\w-]+", shell(hosts.broker(fleet), LEADERS % fleet.group("celery_workers")[0].application))
    node = Counter(nodes).most_common(1)[0][0]
    return next(host for host in fleet.group("rabbitmq") if node.endswith(f"@{host.name}"))


def standby(fleet: Fleet) -> Host:
    """The host of the synchronous standby."""
    name = shell(hosts.database(fleet), f'runuser -u postgres -- psql -XAtc "{SYNCHRONOUS}"').strip()
    return next(host for host in fleet.group("postgresql") if host.name == name)


LEADER, PRIMARY, STANDBY, PRODUCER = Member(leader), Member(hosts.database), Member(standby), Member(hosts.producer)


def others(group: str, member: Member) -> Callable[[Fleet], list[Host]]:
    """The hosts of the group except that member."""
    return lambda fleet: [host for host in fleet.group(group) if host != member(fleet)]


def on_each(places: Callable[[Fleet], list[Host]], script: str) -> Moment:
    """On all of them at once; the moment at which the last one was ready."""

    def moment(scene: Scene) -> float:
        with ThreadPoolExecutor() as pool:
            answers = pool.map(lambda host: shell(host, script + NOW), places(scene.fleet))
            return max(float(answer.split()[-1]) for answer in answers)

    return moment


def primary_again(scene: Scene) -> float:
    """One of the servers takes writes."""

    def look() -> Host | None:
        try:
            return hosts.database(scene.fleet)
        except Refusal:
            return None

    until("a primary", look, 90)
    return time.time()


def standbys_again(scene: Scene) -> float:
    """Every standby streams."""
    count = len(scene.fleet.group("postgresql")) - 1
    until("the standbys", lambda: shell(hosts.database(scene.fleet), STANDBYS).strip() == str(count), 90)
    return time.time()


def start_patroni(places: Callable[[Fleet], list[Host]]) -> Moment:
    """Until all standbys stream again."""

    def moment(scene: Scene) -> float:
        on_each(places, f"systemctl start {PATRONI}")(scene)
        return standbys_again(scene)

    return moment


def alone(member: Member) -> Callable[[Fleet], list[Host]]:
    return lambda fleet: [member(fleet)]


def make_older(scene: Scene) -> None:
    """The packages of the core hosts seem older than those of the archive."""
    for host in scene.fleet.group("rabbitmq"):
        shell(host, OLDER)


def update(scene: Scene) -> float:
    make_older(scene)
    return playbook(scene, "playbooks/update.yml")


def deploy_without_a_broker(scene: Scene) -> float:
    began = on_each(alone(LEADER), f"systemctl stop {BROKER}")(scene)
    deploy(scene)
    return began


def broker_and_release_back(scene: Scene) -> float:
    on_each(alone(LEADER), f"systemctl start {BROKER}")(scene)
    return roll_back(scene)


def burn(member: Member) -> Moment:
    """The host is gone for ever, with its disks."""

    def moment(scene: Scene) -> float:
        began = time.time()
        podman("rm", "--force", "--time", "0", hosts.container(member(scene.fleet)))
        return began

    return moment


def replace(scene: Scene) -> float:
    """A blank machine under the same line of the inventory, and a run."""
    playbooks.play(scene.inventory, "lab/create.yml")
    playbook(scene, "site.yml")
    return time.time()


def restart_brokers(scene: Scene) -> float:
    """A changed setting that each broker reads when it starts."""
    return playbook(scene, "playbooks/rabbitmq.yml", "-e", "rabbitmq_heartbeat=21")


def restart_brokers_again(scene: Scene) -> float:
    playbook(scene, "playbooks/rabbitmq.yml")
    return time.time()


def postmaster(place: Member) -> Reading:
    return Reading("postmaster", place, POSTMASTER)


def init(place: Member) -> Reading:
    return Reading("start of init", place, "cut -d ' ' -f 22 /proc/1/stat")


MEMBERS = (
    Fault(
        "leading broker killed", "process", amid_work(kill_main_process(LEADER, BROKER)), active_again(LEADER, BROKER),
        ends_within_s=60, accepts=True, stage=LEADER.chosen, readings=(process_of(LEADER, BROKER),),
        accept_gap_s=2,
    ),
    Fault(
        "leading broker's host cut off", "host", amid_work(cut_off(LEADER)), reconnect(LEADER), hold_s=CUT_S,
        ends_within_s=CUT_S + 15, accepts=True, stage=LEADER.chosen, readings=(dropped(LEADER),),
        accept_gap_s=20,
    ),
    Fault(
        # The third one has paused, and starts again once it sees another.
        "two of three brokers stopped", "host",
        amid_work(on_each(others("rabbitmq", LEADER), f"systemctl stop {BROKER}")),
        on_each(others("rabbitmq", LEADER), f"systemctl start {BROKER}"), hold_s=15, ends_within_s=150, accepts=True,
        stage=LEADER.chosen, shows=("repeated",),
    ),
    Fault(
        "brokers restarted one after another", "process", amid_work(restart_brokers), restart_brokers_again,
        ends_within_s=900, accepts=True, readings=(process_of(hosts.broker, BROKER),),
        accept_gap_s=10,
    ),
    Fault(
        "primary killed", "process", amid_work(on(PRIMARY, f"kill -9 $({POSTMASTER})")), primary_again, ends_within_s=60,
        stage=PRIMARY.chosen, readings=(postmaster(PRIMARY),),
        work_gap_s=35,
    ),
    Fault(
        "primary's host cut off", "host", amid_work(cut_off(PRIMARY)), reconnect(PRIMARY), hold_s=CUT_S,
        ends_within_s=CUT_S + 15, stage=PRIMARY.chosen, readings=(dropped(PRIMARY),),
        work_gap_s=35,
    ),
    Fault(
        "planned switchover", "process", amid_work(on(PRIMARY, "", SWITCHOVER)), primary_again, ends_within_s=60,
        stage=PRIMARY.chosen, readings=(postmaster(PRIMARY),),
        work_gap_s=10,
    ),
    Fault(
        "synchronous standby stopped", "process", amid_work(on(STANDBY, f"systemctl stop {PATRONI}")),
        start_patroni(alone(STANDBY)), hold_s=20, ends_within_s=60, stage=STANDBY.chosen,
        readings=(postmaster(STANDBY),),
    ),
    Fault(
        "both standbys stopped", "process", amid_work(on_each(others("postgresql", PRIMARY), f"systemctl stop {PATRONI}")),
        start_patroni(others("postgresql", PRIMARY)), hold_s=15, ends_within_s=60,
        stage=PRIMARY.chosen, readings=(Reading("standbys", PRIMARY, STANDBYS),),
    ),
    Fault(
        "etcd without a majority", "process", amid_work(on_each(others("etcd", PRIMARY), f"systemctl stop {ETCD}")),
        on_each(others("etcd", PRIMARY), f"systemctl start {ETCD}"), hold_s=40, ends_within_s=100, stage=PRIMARY.chosen,
        readings=(Reading("connections to other members of etcd", PRIMARY, PEERS),),
    ),
    Fault(
        "primary cut off from its peers", "host", amid_work(cut_off(PRIMARY, others("postgresql", PRIMARY))), reconnect(PRIMARY),
        hold_s=CUT_S, ends_within_s=CUT_S + 15, stage=PRIMARY.chosen, readings=(dropped(PRIMARY),),
        work_gap_s=35,
    ),
    Fault(
        "memory alarm on one broker", "process", amid_work(on(LEADER, f"{MEMORY} 1M")), on(LEADER, f"{MEMORY} {CONFIGURED}"),
        hold_s=15, ends_within_s=40, accepts=True, stage=LEADER.chosen, shows=("repeated",),
    ),
    Fault(
        "deploy while a broker is stopped", "process", amid_work(deploy_without_a_broker), broker_and_release_back,
        ends_within_s=900, accepts=True, stage=LEADER.chosen, readings=(current(hosts.worker), current(hosts.producer)),
    ),
    SECRETS[0],
    Fault(
        "every core host updated", "process", amid_work(update), now, ends_within_s=900, accepts=True, stage=PRIMARY.chosen,
        readings=(process_of(PRIMARY, BROKER), process_of(PRIMARY, ETCD), postmaster(PRIMARY)),
        accept_gap_s=10, work_gap_s=10,
    ),
)  # fmt: skip

# Last, since each takes many minutes.
LOST = (
    Fault(
        "leading broker's host lost for ever and replaced", "host", amid_work(burn(LEADER)), replace, ends_within_s=1500,
        accepts=True, stage=LEADER.chosen, readings=(init(LEADER),),
    ),
    Fault(
        "primary's host lost for ever and replaced", "host", amid_work(burn(PRIMARY)), replace, ends_within_s=1500,
        accepts=True, stage=PRIMARY.chosen, readings=(init(PRIMARY),), work_gap_s=35,
    ),
    Fault(
        # With what it accepted on its disk: the jobs are with the brokers, the uploads of newsroom with another producer
        # (tests/test_newsroom_copies.py).
        "producer's host lost for ever and replaced", "host", amid_work(burn(PRODUCER)), replace, ends_within_s=1500,
        accepts=True, stage=PRODUCER.chosen, readings=(init(PRODUCER),), accept_gap_s=20, work_gap_s=20,
    ),
)  # fmt: skip
