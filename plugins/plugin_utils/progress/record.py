"""What has happened in a run so far, host by host, and the lines that the live area shows of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# A task that has run this long is marked while it runs and listed at the end.
LONG_S = 30
COLOURS = {"changed": "yellow", "failed": "red", "unreachable": "red", "ok": "green"}
# A line of the live area and its colour, as ansible.utils.color names it.
Line = tuple[str, str | None]


def short_name(name: str) -> str:
    """'grunnfjell.platform.rabbitmq : Install the packages' as 'rabbitmq: Install the packages'."""
    return re.sub(r"^(?:\w+\.\w+\.)?([\w-]+) : ", r"\1: ", printable(name).strip())


def printable(text: str) -> str:
    """Without control characters, which could move the cursor or colour what follows."""
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


def bar(done: int, total: int, columns: int) -> str:
    cells = max(4, min(20, columns // 5))
    full = cells * done // total
    return "█" * full + "░" * (cells - full)


@dataclass
class HostState:
    """What a host is at. began, ended: seconds; outcome: None while the task runs; note: items done, attempts."""

    task_id: str
    task: str
    began: float
    ended: float | None = None
    outcome: str | None = None
    items: int = 0
    note: str = ""


@dataclass
class PlayRecord:
    """number: its place among all plays; tasks: how many have started; long: how long each task took that took long."""

    id: str
    number: int
    name: str
    began: float
    hosts: list[str]
    ended: float | None = None
    tasks: int = 0
    changes: int = 0
    long: dict[str, float] = field(default_factory=dict)

    def seconds(self, now: float) -> float:
        return (self.ended or now) - self.began


@dataclass
class Record:
    """All of a playbook. limit: how many hosts run one task at the same time."""

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

    def start_play(self, id: str, name: str, hosts: Iterable[str], now: float) -> None:
        """A batch of a play with `serial` counts as the same play again."""
        self.end_play(now)
        self.hosts, self.task_id = {}, ""
        number = self.play_ids.index(id) + 1 if id in self.play_ids else len(self.plays) + 1
        self.plays.append(PlayRecord(id, number, short_name(name), now, list(hosts)))

    def end_play(self, now: float) -> None:
        if self.play and self.play.ended is None:
            self.play.ended = now

    def start_task(self, id: str, name: str, limit: int) -> None:
        self.task_id, self.names[id], self.task_limit = id, short_name(name), limit or self.limit
        if self.play:
            self.play.tasks += 1

    def start_host(self, host: str, task_id: str, name: str, now: float) -> None:
        self.hosts[host] = HostState(task_id, self.names.get(task_id) or short_name(name), now)

    def end_host(self, host: str, outcome: str, changed: bool, now: float) -> None:
        state = self.hosts.get(host)
        if state is None or self.play is None:
            return
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

    def lines(self, columns: int, rows: int, now: float) -> list[Line]:
        """The play, the task with the hosts that have done it, then a line for each host as far as the rows reach.

        Names come last: a narrow terminal cuts them off."""
        if self.play is None:
            return []
        total = f" of {len(self.play_ids)}" if self.play_ids else ""
        parts = [f"Play {self.play.number}{total}", duration(self.play.seconds(now))]
        parts += [count(self.play.changes, "change")] if self.play.changes else []
        head: list[Line] = [(" · ".join([*parts, self.play.name]), "bright cyan")]
        if self.task_id:
            head.append((self._task_line(columns), None))
        return head + self._host_lines(rows - len(head), now)

    def _task_line(self, columns: int) -> str:
        """The bar counts hosts; how far a host is inside a task, nobody knows."""
        at_it = [state for state in list(self.hosts.values()) if state.task_id == self.task_id]
        done = sum(state.ended is not None for state in at_it)
        total = len(at_it)
        if total >= self.task_limit > 1:
            total = max(total, len(self.play.hosts) if self.play else 0)
        name = self.names[self.task_id]
        return f"{bar(done, total, columns)} {done} of {total} hosts · {name}" if total > 1 else name

    def _host_lines(self, rows: int, now: float) -> list[Line]:
        states = list(self.hosts.items())
        width = min(24, max((len(host) for host, _ in states), default=0))
        if len(states) > rows:
            # The hosts that have run longest come first: those are waited for.
            states.sort(key=lambda item: (item[1].ended is not None, item[1].began))
            left = states[rows - 1 :]
            running = sum(state.ended is None for _, state in left)
            more = [(f"  … and {count(len(left), 'host')} more, {running} of them running", None)]
            return [self._host_line(host, state, width, now) for host, state in states[: rows - 1]] + more
        return [self._host_line(host, state, width, now) for host, state in states]

    def _host_line(self, host: str, state: HostState, width: int, now: float) -> Line:
        seconds = (state.ended or now) - state.began
        text = f"  {printable(host)[:width]:<{width}}  {duration(seconds):>10}  {state.outcome or 'running'}"
        if state.task_id != self.task_id:
            return f"{text}: {state.task}", COLOURS.get(state.outcome or "")
        if state.note:
            text += f", {state.note}"
        if state.ended is None and seconds >= LONG_S:
            return f"{text}, takes long", "bright yellow"
        return text, COLOURS.get(state.outcome or "")
