"""Traffic while an operator changes the fleet, and what the fleet runs before and after."""

from __future__ import annotations

import http.client
import itertools
import os
import re
import shutil
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path

import yaml
from host_services import UNITS
from jobs import ended, programs

from lab.demo import traffic, trust
from lab.demo.fleet import Fleet, Host

# Between two requests of a client: short enough to meet every moment of a handover.
PAUSE_S = 0.1
# Between two uploads to a producer: one machine runs the whole lab.
UPLOAD_EVERY_S = 6.0

CELERY_WORKERS = "playbooks/celery_worker.yml"
# Containers with their own address need root.
AS_ROOT = ["sudo", "--preserve-env"] if os.geteuid() else []


@dataclass
class Traffic:
    """The clients' answers, the accepted jobs, and every failure."""

    answers: int = 0
    accepted: list[traffic.Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def get(self, url: str) -> None:
        """One request on a new connection."""
        with urllib.request.urlopen(url, timeout=traffic.TIMEOUT_S, context=trust.context()) as answer:
            answer.read()

    def upload(self, base: str, film: Path) -> None:
        answer = traffic.post(base, film)
        if answer.status != 202:
            raise OSError(f"{answer.status} {answer.body}")
        self.accepted.append(answer)


@contextmanager
def meanwhile(threads: list[threading.Thread], over: threading.Event) -> Iterator[None]:
    """Run threads until the block ends, which sets the event."""
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()


@contextmanager
def clients(site: Fleet, film: Path) -> Iterator[Traffic]:
    """Clients that request and upload until the block ends."""
    record, over = Traffic(), threading.Event()

    def loop(request, *arguments: object, pause: float) -> None:
        while not over.wait(pause):
            try:
                request(*arguments)
                record.answers += 1
            except (OSError, http.client.HTTPException) as error:
                record.failures.append(f"{datetime.now():%H:%M:%S.%f} {request.__name__} {arguments[0]}: {error!r}")

    threads = [
        threading.Thread(target=loop, args=(request, producer.url + path, *rest), kwargs={"pause": pause})
        for producer in site.group("producers")
        for request, path, rest, pause in (
            (record.get, "/healthz", (), PAUSE_S),
            (record.get, "/healthz", (), PAUSE_S),
            (record.upload, "", (film,), UPLOAD_EVERY_S),
        )
    ]
    with meanwhile(threads, over):
        yield record


def assert_nothing_lost_or_interrupted(record: Traffic, *more: traffic.Answer) -> None:
    assert record.failures == [], f"{len(record.failures)} of {record.answers} requests"
    assert record.answers > 100 and record.accepted
    jobs = [ended(answer) for answer in (*more, *record.accepted)]
    faulty = [job for job in jobs if (job["state"], job["attempts"]) != ("done", 1)]
    assert faulty == [], f"{len(faulty)} of {len(jobs)} jobs"
    print(f"{record.answers} requests, none refused; {len(jobs)} jobs accepted, all done in one attempt")


def started(site: Fleet) -> dict[str, str]:
    """The start of each service and the process of each program, per host."""
    show = f"systemctl show --property=Id,ActiveEnterTimestampMonotonic,MainPID {' '.join(map(repr, UNITS))}"
    pids = "! command -v supervisorctl >/dev/null || supervisorctl pid all"
    return {host.name: host.run(["sh", "-c", show]) + host.run(["sh", "-c", pids]) for host in site.hosts}


def release_of(host: Host) -> str:
    return host.run(["readlink", f"/opt/{host.application}/current"]).strip().rsplit("/", 1)[1]


def releases_run_by(host: Host) -> set[str]:
    """The releases in the command lines of the host's processes."""
    lines = host.run(["ps", "-eo", "args"])
    return set(re.findall(rf"/opt/{host.application}/releases/([0-9a-f]+)/venv", lines))


def process_ids(host: Host) -> str:
    return host.run(["supervisorctl", "pid", "all"])


@contextmanager
def absences(hosts: list[Host], program: str) -> Iterator[dict[str, list[list[float]]]]:
    """For each host the times when the program was certainly not RUNNING: from the end of one look to the start of the next."""
    times: dict[str, list[list[float]]] = {host.name: [] for host in hosts}
    over = threading.Event()

    def watch(host: Host) -> None:
        away = False
        while not over.wait(PAUSE_S):
            look_began = time.monotonic()
            if programs(host).get(program, "").startswith("RUNNING"):
                away = False
            elif away:
                times[host.name][-1][1] = look_began
            else:
                away = True
                times[host.name].append([time.monotonic(), time.monotonic()])

    threads = [threading.Thread(target=watch, args=(replace(host),)) for host in hosts]
    with meanwhile(threads, over):
        yield times


def overlaps(times: list[list[float]]) -> list[tuple[list[float], list[float]]]:
    return [pair for pair in itertools.combinations(sorted(times), 2) if pair[1][0] < pair[0][1]]


@contextmanager
def edited(inventory: str, edit) -> Iterator[Path]:
    """A copy of the inventory with an edited hosts file, in the same directory, because group_vars has relative paths."""
    home = Path(inventory).resolve()
    copy = home.with_name(f"{home.name}-edited")
    hosts = yaml.safe_load((home / "hosts.yml").read_text(encoding="utf-8"))
    edit(hosts["all"]["children"])
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    (copy / "hosts.yml").write_text(yaml.safe_dump(hosts), encoding="utf-8")
    (copy / "group_vars").symlink_to(home / "group_vars")
    try:
        yield copy
    finally:
        shutil.rmtree(copy)
