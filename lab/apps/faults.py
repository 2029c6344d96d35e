"""What happens to the fleet while an application works."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lab import playbooks
from lab.deadlines import until
from lab.demo.fleet import Fleet, Host
from lab.drill.hosts import container, shell
from lab.machine import REPOSITORY, podman


@dataclass(frozen=True)
class Place:
    """The application under test in its fleet."""

    inventory: str
    fleet: Fleet
    name: str

    @property
    def worker(self) -> Host:
        return next(host for host in self.fleet.group("celery_workers") if host.application == self.name)

    def play(self, playbook: str, *arguments: str) -> None:
        playbooks.play(self.inventory, playbook, "--limit", f"{self.name}:rabbitmq", *arguments)


def kill_worker_children(place: Place) -> None:
    """Each process of the pools of one host."""
    pools = "for main in $(pgrep -f 'celery.* worker' -u www-data --oldest); do pgrep -P $main; done"
    shell(place.worker, f"kill -9 $({pools})")


def kill_worker_host(place: Place) -> None:
    """Without a shutdown; it comes back after ten seconds."""
    podman("kill", container(place.worker))
    playbooks.play(place.inventory, "lab/create.yml")
    until(f"{place.worker.name}", lambda: "RUNNING" in shell(place.worker, "supervisorctl status || true"), 120)


def kill_broker(place: Place) -> None:
    broker = place.fleet.group("rabbitmq")[0]
    shell(broker, "kill -9 $(systemctl show --property MainPID --value rabbitmq-server)")
    shell(broker, "timeout 120 sh -c 'until rabbitmqctl -q await_startup; do sleep 1; done'")


@contextmanager
def changed_line(place: Place) -> Iterator[None]:
    """The application's source with one more line, as in every release."""
    file = Path(REPOSITORY, "examples", place.name, "release.txt")
    file.write_text("The next release.\n", encoding="utf-8")
    try:
        yield
    finally:
        file.unlink()


def deploy(place: Place) -> None:
    with changed_line(place):
        place.play("playbooks/deploy.yml")


def roll_back(place: Place) -> None:
    place.play("playbooks/deploy.yml", "-e", "release=previous")


FAULTS: dict[str, Callable[[Place], None]] = {
    "worker child killed": kill_worker_children,
    "worker host off": kill_worker_host,
    "broker killed": kill_broker,
    "deploy under load": deploy,
    "rollback under load": roll_back,
}
