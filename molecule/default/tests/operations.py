"""Work that goes on while an operator changes the fleet, and what the fleet tells of it afterwards."""

from __future__ import annotations

import http.client
import itertools
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
from jobs import ended, programs

from lab.demo import traffic, trust
from lab.demo.fleet import Fleet, Host

# Between two requests of one client: many enough to meet every moment of a handover.
PAUSE_S = 0.1
# Between two uploads to one producer: the machine that plays the fleet has other work too.
UPLOAD_EVERY_S = 6.0


@dataclass
class Traffic:
    """What clients got: how many answers, the jobs that were accepted, and everything that was not a 2xx."""

    answers: int = 0
    accepted: list[traffic.Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def ask(self, url: str) -> None:
        """One request on a connection of its own."""
        with urllib.request.urlopen(url, timeout=traffic.TIMEOUT_S, context=trust.context()) as answer:
            answer.read()

    def send(self, base: str, film: Path) -> None:
        answer = traffic.post(base, film)
        if answer.status != 202:
            raise OSError(f"{answer.status} {answer.body}")
        self.accepted.append(answer)


@contextmanager
def meanwhile(threads: list[threading.Thread], over: threading.Event) -> Iterator[None]:
    """The threads work until the block ends, which they learn from the event."""
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
    """Clients that ask and send without a pause longer than theirs, until the block ends."""
    seen, over = Traffic(), threading.Event()

    def loop(what, *arguments: object, pause: float) -> None:
        while not over.wait(pause):
            try:
                what(*arguments)
                seen.answers += 1
            except (OSError, http.client.HTTPException) as error:
                seen.failures.append(f"{datetime.now():%H:%M:%S.%f} {what.__name__} {arguments[0]}: {error!r}")

    threads = [
        threading.Thread(target=loop, args=(what, producer.url + path, *rest), kwargs={"pause": pause})
        for producer in site.group("producers")
        for what, path, rest, pause in (
            (seen.ask, "/healthz", (), PAUSE_S),
            (seen.ask, "/healthz", (), PAUSE_S),
            (seen.send, "", (film,), UPLOAD_EVERY_S),
        )
    ]
    with meanwhile(threads, over):
        yield seen


def assert_nothing_lost_or_cut(seen: Traffic, *more: traffic.Answer) -> None:
    assert seen.failures == [], f"{len(seen.failures)} of {seen.answers} requests"
    assert seen.answers > 100 and seen.accepted
    told = [ended(answer) for answer in (*more, *seen.accepted)]
    cut_or_lost = [each for each in told if (each["state"], each["attempts"]) != ("done", 1)]
    assert cut_or_lost == [], f"{len(cut_or_lost)} of {len(told)} jobs"
    print(f"{seen.answers} requests, none refused; {len(told)} jobs accepted, all done in one attempt")


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
    """For each host the times when the program was certainly not RUNNING: from one look's answer to another's question."""
    seen: dict[str, list[list[float]]] = {host.name: [] for host in hosts}
    over = threading.Event()

    def watch(host: Host) -> None:
        away = False
        while not over.wait(PAUSE_S):
            asked = time.monotonic()
            if programs(host).get(program, "").startswith("RUNNING"):
                away = False
            elif away:
                seen[host.name][-1][1] = asked
            else:
                away = True
                seen[host.name].append([time.monotonic(), time.monotonic()])

    threads = [threading.Thread(target=watch, args=(replace(host),)) for host in hosts]
    with meanwhile(threads, over):
        yield seen


def overlaps(times: list[list[float]]) -> list[tuple[list[float], list[float]]]:
    return [pair for pair in itertools.combinations(sorted(times), 2) if pair[1][0] < pair[0][1]]


@contextmanager
def edited(inventory: str, edit) -> Iterator[Path]:
    """The inventory with its hosts file edited, beside the inventory itself, so that its relative paths hold."""
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
