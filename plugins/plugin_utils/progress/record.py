"""The state of a run, host by host."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# A task that takes longer is marked while it runs and listed at the end.
LONG_S = 30


def short_name(name: str) -> str:
    """'grunnfjell.platform.rabbitmq : Install the packages' as 'rabbitmq: Install the packages'."""
    return re.sub(r"^(?:\w+\.\w+\.)?([\w-]+) : ", r"\1: ", printable(name).strip())


def printable(text: str) -> str:
    """The text without control characters, which could move the cursor or change colours."""
    return "".join(sign for sign in text if sign == "\n" or sign.isprintable())


def duration(seconds: float) -> str:
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass
class HostState:
    """The state of a host. began, ended: seconds; outcome: None while the task runs; note: items done, attempts."""

    task_id: str
    task: str
    began: float
    ended: float | None = None
    outcome: str | None = None
    items: int = 0
    note: str = ""


@dataclass
class PlayRecord:
    """number: position among all plays; tasks: the started ones; long: durations of slow tasks.

    With strategy free, known: the tasks of every host; done: how many of these it has completed, skipped ones included. Tasks
        that are included during the run do not count.
    """

    id: str
    number: int
    name: str
    began: float
    hosts: list[str]
    ended: float | None = None
    tasks: set[str] = field(default_factory=set)
    changes: int = 0
    long: dict[str, float] = field(default_factory=dict)
    free: bool = False
    known: frozenset[str] = frozenset()
    done: dict[str, int] = field(default_factory=dict)

    def seconds(self, now: float) -> float:
        return (self.ended or now) - self.began


@dataclass
class Record:
    """The whole run. limit: how many hosts run a task at the same time."""

    play_ids: list[str] = field(default_factory=list)
    limit: int = 1
    plays: list[PlayRecord] = field(default_factory=list)
    hosts: dict[str, HostState] = field(default_factory=dict)
    # Host to its changed tasks in order, with how often each changed it.
    changes: dict[str, dict[str, int]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    task_id: str = ""
    task_limit: int = 1

    @property
    def play(self) -> PlayRecord | None:
        return self.plays[-1] if self.plays else None

    def start_play(self, id: str, name: str, hosts: Iterable[str], now: float) -> PlayRecord:
        """A further batch of a play with `serial` counts as the same play."""
        self.end_play(now)
        self.hosts, self.task_id = {}, ""
        number = self.play_ids.index(id) + 1 if id in self.play_ids else len(self.plays) + 1
        self.plays.append(PlayRecord(id, number, short_name(name), now, list(hosts)))
        return self.plays[-1]

    def end_play(self, now: float) -> None:
        if self.play and self.play.ended is None:
            self.play.ended = now

    def start_task(self, id: str, name: str, limit: int) -> None:
        self.task_id, self.names[id], self.task_limit = id, short_name(name), limit or self.limit
        if self.play:
            self.play.tasks.add(id)

    def start_host(self, host: str, task_id: str, name: str, now: float) -> None:
        self.hosts[host] = HostState(task_id, self.names.get(task_id) or short_name(name), now)

    def end_host(self, host: str, outcome: str, changed: bool, now: float) -> None:
        state = self.hosts.get(host)
        if state is None or self.play is None:
            return
        if state.task_id in self.play.known:
            self.play.done[host] = self.play.done.get(host, 0) + 1
        state.ended, state.outcome, state.note = now, "changed" if changed and outcome == "ok" else outcome, ""
        if now - state.began >= LONG_S:
            self.play.long[state.task] = max(now - state.began, self.play.long.get(state.task, 0))
        if changed:
            self.play.changes += 1
            tasks = self.changes.setdefault(host, {})
            tasks[state.task] = tasks.get(state.task, 0) + 1

    def end_item(self, host: str) -> None:
        if state := self.hosts.get(host):
            state.items += 1
            state.note = f"{count(state.items, 'item')} done"

    def retry(self, host: str, attempts: int, retries: int) -> None:
        if state := self.hosts.get(host):
            state.note = f"attempt {attempts + 1} of {retries}"
