"""The lines of the live area: the play, the task, and the state of each host."""

from __future__ import annotations

from .record import LONG_S, HostState, PlayRecord, Record, count, duration, printable

# A line and its colour, as ansible.utils.color names it.
Line = tuple[str, str | None]
COLOURS = {"changed": "yellow", "failed": "red", "unreachable": "red", "ok": "green"}
# Narrower terminals have no room for a bar.
BAR_COLUMNS = 90


def lines_of(record: Record, columns: int, rows: int, now: float) -> list[Line]:
    """At most ``rows`` lines. Names come last, where a narrow terminal cuts them off."""
    play = record.play
    if play is None:
        return []
    total = f" of {len(record.play_ids)}" if record.play_ids else ""
    parts = [f"Play {play.number}{total}", duration(play.seconds(now))]
    parts += [count(play.changes, "change")] if play.changes else []
    head: list[Line] = [(" · ".join([*parts, play.name]), "bright cyan")]
    if record.task_id and not play.free:
        head.append((_task_line(record, play, columns), None))
    states = list(record.hosts.items())
    more: list[Line] = []
    if len(states) > rows - len(head):
        # Running hosts come first, the longest-running one on top.
        states.sort(key=lambda item: (item[1].ended is not None, item[1].began))
        shown = rows - len(head) - 1
        running = sum(state.ended is None for _, state in states[shown:])
        more = [(f"  … and {count(len(states) - shown, 'host')} more, {running} of them running", None)]
        states = states[:shown]
    return [*head, *_host_lines(record, play, states, columns, now), *more]


def bar(done: int, total: int, cells: int) -> str:
    full = cells * done // total
    return "█" * full + "░" * (cells - full)


def _task_line(record: Record, play: PlayRecord, columns: int) -> str:
    """The bar counts hosts, since the progress inside a task is unknown."""
    states = [state for state in list(record.hosts.values()) if state.task_id == record.task_id]
    done, total = sum(state.ended is not None for state in states), len(states)
    if total >= record.task_limit > 1:
        total = max(total, len(play.hosts))
    name = record.names[record.task_id]
    return f"{bar(done, total, max(4, min(20, columns // 5)))} {done} of {total} hosts · {name}" if total > 1 else name


def _host_lines(record: Record, play: PlayRecord, states: list[tuple[str, HostState]], columns: int, now: float) -> list[Line]:
    width = min(24, max((len(host) for host, _ in states), default=0))
    lines: list[Line] = []
    for host, state in states:
        seconds = (state.ended or now) - state.began
        long = state.ended is None and seconds >= LONG_S
        head = f"  {printable(host)[:width]:<{width}}  {_tasks_done(play, host, columns)}{duration(seconds):>10}  "
        what = _own_task(play, host, state) if play.free else _common_task(record, state)
        text = ", ".join([what, *filter(None, [state.note]), *(["takes long"] if long else [])])
        lines.append((head + text, "bright yellow" if long else COLOURS.get(state.outcome or "")))
    return lines


def _tasks_done(play: PlayRecord, host: str, columns: int) -> str:
    """With strategy free: how many of the play's tasks the host has completed."""
    done, total = play.done.get(host, 0), len(play.known)
    if not play.known:
        return ""
    places = len(str(total))
    return f"{bar(done, total, 20)} {done:>{places}} of {total} tasks" if columns >= BAR_COLUMNS else f"{done:>{places}}/{total}"


def _common_task(record: Record, state: HostState) -> str:
    """The outcome; with the task's name if it is not the common one, which is in the line above."""
    outcome = state.outcome or "running"
    return outcome if state.task_id == record.task_id else f"{outcome}: {state.task}"


def _own_task(play: PlayRecord, host: str, state: HostState) -> str:
    if state.ended is None:
        return state.task
    if play.known and play.done.get(host, 0) == len(play.known):
        return "done"
    return f"{state.outcome}: {state.task}"
