"""Full disks and memory."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from lab.drill import hosts
from lab.drill.faults.fault import Fault, Place, Reading, amid_work, attempt, on
from lab.drill.faults.operations import current, deploy, release
from lab.drill.faults.processes import POSTGRESQL, active_again, of_postgresql
from lab.drill.hosts import machine_shell
from lab.drill.scene import Scene
from lab.machine import Refusal

ALARM_S = 8.0
# The limits are moved, and the broker's monitors raise the alarms.
MEMORY = "rabbitmqctl -q set_vm_memory_high_watermark absolute 1MiB"
DISK = "rabbitmqctl -q set_disk_free_limit 1000000GB"
# The limits of rabbitmq.conf, from the running node's settings.
MEMORY_BACK = """
rabbitmqctl -q eval '
  {ok, Limit} = application:get_env(rabbit, vm_memory_high_watermark), vm_memory_monitor:set_vm_memory_high_watermark(Limit).'
"""
DISK_BACK = """
rabbitmqctl -q eval '
  {ok, Limit} = application:get_env(rabbit, disk_free_limit), rabbit_disk_monitor:set_disk_free_limit(Limit).'
"""
ALARMS = 'rabbitmqctl -q eval "rabbit_alarm:get_alarms()."'
ALARM = f"timeout 20 sh -c 'until {ALARMS} | grep -q {{what}}; do sleep 0.1; done'"
NO_ALARM = f'timeout 20 sh -c \'until [ "$({ALARMS})" = "[]" ]; do sleep 0.1; done\''


def alarm(name: str, limit: str, what: str, back: str) -> Fault:
    return Fault(
        name, "process", on(hosts.broker, f"{limit}\n{ALARM.format(what=what)}"), on(hosts.broker, f"{back}\n{NO_ALARM}"),
        hold_s=ALARM_S, ends_within_s=ALARM_S + 12, accepts=True,
        shows=("repeated",), readings=(Reading("alarms", hosts.broker, ALARMS),),
    )  # fmt: skip


# The directory stays reachable under /mnt.
MOUNT = """
for unit in {stopped}; do systemctl stop $unit; done
mount --bind {path} /mnt
mount -t tmpfs -o size=$(($(du -sm {path} | cut -f1) + {room_mib}))m drill {path}
chown --reference=/mnt {path}
chmod --reference=/mnt {path}
cp -a /mnt/. {path}/
for unit in {started}; do systemctl restart $unit; done
"""
UNMOUNT = """
for unit in {stopped}; do systemctl stop $unit; done
rm -f {path}/drill-filler
find /mnt -mindepth 1 -delete || true  # except directories on which something is mounted
cp -a {path}/. /mnt/
umount --lazy {path}
umount /mnt
for unit in {started}; do systemctl restart $unit; done
"""


@dataclass(frozen=True)
class SmallDisk:
    """A directory on a separate disk in memory: a host shares this machine's disk, which must not be filled.

    `units` have files open there. They are stopped in this order, and started in the reverse order.
    """

    place: Place
    path: str
    room_mib: int
    units: tuple[str, ...] = ()

    @contextmanager
    def mounted(self, scene: Scene) -> Iterator[None]:
        host = self.place(scene.fleet)
        units = {"stopped": " ".join(self.units), "started": " ".join(reversed(self.units))}
        names = {"path": self.path, "room_mib": self.room_mib, **units}
        machine_shell(host, MOUNT.format(**names))
        try:
            yield
        finally:
            machine_shell(host, UNMOUNT.format(**names))

    @property
    def fill(self) -> str:
        return f"cat /dev/zero > {self.path}/drill-filler 2>/dev/null || true"

    @property
    def free(self) -> str:
        return f"rm {self.path}/drill-filler"

    @property
    def room(self) -> Reading:
        left = f"df --output=avail {self.path} | tail -n 1"
        return Reading(f"room in {self.path}", self.place, f"[ $({left}) -gt 1024 ] && echo enough || echo none")


CLUSTER = SmallDisk(hosts.database, "/var/lib/postgresql", 64, (f"$({POSTGRESQL})",))
LOGS = SmallDisk(hosts.worker, "/var/log", 16, ("supervisor", "pgbouncer", "systemd-journald"))
# Room for one more release. Programs run from there and are not stopped: only a deploy changes anything there.
RELEASES = SmallDisk(hosts.worker, "/opt/ledger/releases", 256)

FULL = "No space left on device"


def free_space(scene: Scene) -> float:
    """Returns when PostgreSQL could go on; systemd restarts it if it stopped."""
    on(CLUSTER.place, CLUSTER.free)(scene)
    return of_postgresql(active_again)(scene)


def deploy_without_space(scene: Scene) -> float:
    """It must fail because the disk is full, and the current release must stay in use."""
    before = current(hosts.worker).look(scene)
    began = on(RELEASES.place, RELEASES.fill)(scene)
    done = attempt(scene, *release())
    if not done.returncode or FULL not in done.stdout:
        raise Refusal("a deploy to a full disk did not fail because of it:\n" + done.stdout[-2000:])
    if current(hosts.worker).look(scene) != before:
        raise Refusal("a failed build has changed the current release")
    return began


def deploy_with_space(scene: Scene) -> float:
    on(RELEASES.place, RELEASES.free)(scene)
    deploy(scene)
    return time.time()


DISKS = (
    alarm("broker at its memory watermark", MEMORY, "memory", MEMORY_BACK),
    alarm("broker's disk at its limit", DISK, "disk", DISK_BACK),
    Fault(
        "database's disk full", "process", amid_work(on(CLUSTER.place, CLUSTER.fill)), free_space, hold_s=15, ends_within_s=45,
        stage=CLUSTER.mounted,
        readings=(CLUSTER.room, Reading(
            "lines in PostgreSQL's log that lack space", hosts.database,
            f"cat /var/log/postgresql/postgresql-*.log | grep -c '{FULL}' || true",
        )),
    ),
    # It stays full to the end of the row, and work must go on.
    Fault(
        "worker's /var/log full", "process", amid_work(on(LOGS.place, LOGS.fill)), affects=hosts.worker, seamless=True,
        stage=LOGS.mounted, readings=(LOGS.room,),
    ),
    Fault(
        "disk full during a release's build", "process", deploy_without_space, deploy_with_space, ends_within_s=900,
        seamless=True, accepts=True, stage=RELEASES.mounted, readings=(RELEASES.room, current(hosts.worker)),
    ),
)  # fmt: skip
