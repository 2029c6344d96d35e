"""Whether a host is what was paid for: measures, limits, exceptions, and the validity of a record."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

# Raise it when records of older versions no longer hold what this one needs.
FORMAT = 1
GIB = 2**30


@dataclass(frozen=True)
class Measure:
    """One measured property of a host.

    what: its name in sentences.  limit: the input with its limit; empty where there is nothing to set.
    show: formats a value.  demand: formats the limit.  good: whether the value keeps the limit.  why, remedy: for the refusal.
    paid: the limit is what was paid for; 0 for no claim.  recorded: expensive, so measured once and then read from the record.
    """

    name: str
    what: str
    limit: str
    show: Callable[[Any], str]
    demand: Callable[[Any], str]
    good: Callable[[Any, Any], bool]
    why: str
    remedy: str
    paid: bool = False
    recorded: bool = False


def share(value: float) -> str:
    return f"{value * 100:.3g} %"


def milliseconds(value: float) -> str:
    return f"{value:.3g} ms"


def gibibytes(value: float) -> str:
    return f"{value / GIB:.2f} GiB"


def count(value: float) -> str:
    return f"{value:,.0f}"


def at_least(show: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda limit: f"at least {show(limit)}"


def at_most(show: Callable[[Any], str]) -> Callable[[Any], str]:
    return lambda limit: f"at most {show(limit)}"


def reaches(value: float, limit: float) -> bool:
    return value >= limit


def stays_within(value: float, limit: float) -> bool:
    return value <= limit


MEASURES = (
    Measure(
        "virtualization", "its virtualization", "acceptance_virtualization",
        str, lambda kinds: " or ".join(map(str, kinds)), lambda value, kinds: value in kinds,
        "a container shares its kernel, and with it memory, limits and every hole, with other customers",
        "Order a KVM guest or a dedicated machine",
    ),
    Measure(
        "cpus", "the number of its processors", "acceptance_cpus", count, at_least(count), reaches,
        "fewer processors than were paid for", "Ask the provider for the rest, or correct acceptance_cpus", paid=True,
    ),
    Measure(
        "memory", "its memory", "acceptance_memory_bytes", gibibytes, at_least(gibibytes), reaches,
        "less than was paid for, by more than acceptance_size_tolerance",
        "Ask the provider for the rest, or correct acceptance_memory_bytes", paid=True,
    ),
    Measure(
        "disk", "the size of its data directory's filesystem", "acceptance_disk_bytes", gibibytes, at_least(gibibytes), reaches,
        "less than was paid for, by more than acceptance_size_tolerance",
        "Grow the filesystem to the disk, ask the provider for the rest, or correct acceptance_disk_bytes", paid=True,
    ),
    Measure(
        "own_name", "the address of its host name", "",
        str, lambda _: "one of its addresses", lambda value, _: value != "nothing",
        "the broker and cron's mail resolve their host by it and hang without an answer",
        "Write the host's name into its /etc/hosts beside its address",
    ),
    Measure(
        "iops", "its random reads per second at the data directory", "acceptance_iops_min", count, at_least(count), reaches,
        "that is a spinning or an oversold disk, at which queues and database wait", "Ask the provider for an SSD", recorded=True,
    ),
    Measure(
        "fsync", "its 99th percentile of fsync at the data directory", "acceptance_fsync_p99_max",
        milliseconds, at_most(milliseconds), stays_within,
        "each confirmed message and each commit waits for one",
        "Ask the provider for a disk with a protected write cache", recorded=True,
    ),
    Measure(
        "steal", "its share of processor time stolen under load", "acceptance_steal_max", share, at_most(share), stays_within,
        "the machine below is oversold, and heartbeats will be missed when the neighbours work",
        "Ask the provider for dedicated processors", recorded=True,
    ),
    Measure(
        "exchange", "its round trip to the exchange point", "acceptance_round_trip_max",
        milliseconds, at_most(milliseconds), stays_within,
        "the host is farther away than sold, or its traffic takes a detour",
        "Ask the provider for its location and its route to acceptance_exchange_address", recorded=True,
    ),
)  # fmt: skip
NAMES = tuple(measure.name for measure in MEASURES)
RECORDED = tuple(measure.name for measure in MEASURES if measure.recorded)


@dataclass(frozen=True)
class Finding:
    """The result of one measure. verdict: accepted, excepted, refused, or unclaimed where the inventory claims nothing.

    needed: whether the exception is needed, or can be taken out.  reason: the exception's, empty without one.
    """

    measure: str
    value: Any
    shown: str
    demanded: str
    verdict: str
    reason: str = ""
    needed: bool = False
    sentence: str = ""


def problems(exceptions: Any, exchange_address: Any) -> list[str]:
    """Mistakes in the inventory, found before any host is measured. The argument specs refuse wrong types."""
    sentences = []
    exceptions = exceptions if isinstance(exceptions, dict) else {}
    for name in exceptions:
        if name not in NAMES:
            sentences.append(f"acceptance_exceptions names {name}, which is not a measure ({', '.join(NAMES)}). Correct it.")
        elif not reason_of(exceptions, name):
            sentences.append(f"acceptance_exceptions excepts {name} without a reason. Write one as its value, or take it out.")
    if not exchange_address and not reason_of(exceptions, "exchange"):
        sentences.append(
            "acceptance_exchange_address is empty, so the round trip could not be measured. Name an address at your "
            'exchange point (in Norway: NIX in Oslo), or say why not: acceptance_exceptions: {exchange: "..."}.'
        )
    return sentences


def reason_of(exceptions: dict[str, Any], name: str) -> str:
    """The exception's reason; an empty text where there is none."""
    reason = exceptions.get(name)
    return reason.strip() if isinstance(reason, str) else ""


def findings_of(
    host: str, measures: dict[str, Any], errors: dict[str, str], limits: dict[str, Any], exceptions: dict[str, Any]
) -> list[Finding]:
    """A finding for each measure of the table.

    measures: name → value; errors: name → why it has no value.  limits: input → its value.
    """
    return [
        finding_of(host, measure, measures.get(measure.name), errors.get(measure.name, ""), limits, exceptions)
        for measure in MEASURES
    ]


def finding_of(
    host: str, measure: Measure, value: Any, error: str, limits: dict[str, Any], exceptions: dict[str, Any]
) -> Finding:
    limit, reason = limits.get(measure.limit), reason_of(exceptions, measure.name)
    shown = f"not measured: {error or 'the measure did not run'}" if value is None else measure.show(value)
    if measure.paid and not limit:
        return Finding(measure.name, value, shown, "nothing: the inventory claims nothing", "unclaimed", reason)
    demanded = measure.demand(limit)
    if value is not None and measure.good(value, limit):
        return Finding(measure.name, value, shown, demanded, "accepted", reason)
    if reason:
        return Finding(measure.name, value, shown, demanded, "excepted", reason, needed=True)
    sentence = (
        f"{host}: {measure.what} {'was' if value is None else 'is'} {shown}, but must be {demanded}"
        f"{f' ({measure.limit})' if measure.limit else ''}: {measure.why}. {measure.remedy}. "
        f'If that is intended, give a reason in the inventory: acceptance_exceptions: {{{measure.name}: "..."}}.'
    )
    return Finding(measure.name, value, shown, demanded, "refused", sentence=sentence)


def refused(findings: list[Finding]) -> list[str]:
    return [finding.sentence for finding in findings if finding.verdict == "refused"]


def paid(claimed: float, tolerance: float) -> float:
    """The smallest acceptable value of what was paid for: the kernel and the filesystem reserve a part."""
    return claimed * (1 - tolerance)


def is_valid(record: Any, now: str, machine_id: str, method: dict[str, Any], valid_days: float) -> bool:
    """Whether the record is of this machine, measured with this method, and recent enough."""
    if not isinstance(record, dict) or record.get("format") != FORMAT:
        return False
    if record.get("machine_id") != machine_id or not machine_id or record.get("method") != method:
        return False
    try:
        age = datetime.fromisoformat(now) - datetime.fromisoformat(record["measured_at"])
    except (KeyError, TypeError, ValueError):
        return False
    # A record from the future was written with a wrong clock.
    return timedelta(0) <= age <= timedelta(days=valid_days)


def record_of(
    state: dict[str, Any], method: dict[str, Any], findings: list[Finding], measures: dict[str, Any], errors: dict[str, str]
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "measured_at": state["now"],
        "machine_id": state["machine_id"],
        "method": method,
        "measures": measures,
        "errors": errors,
        "accepted": not refused(findings),
        "findings": [asdict(finding) for finding in findings],
    }


def exceptions_of(hosts: dict[str, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Every declared exception of the fleet, needed or not."""
    for name, host in hosts.items():
        for finding in host.get("findings", []):
            if finding["reason"]:
                yield {"host": name} | {key: finding[key] for key in ("measure", "shown", "demanded", "reason", "needed")}


def fleet_report(inventory: str, asked_at: str, hosts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """hosts: name → {accepted, measured_at, machine_id, clock_offset_seconds, findings}, or {error}."""
    return {
        "inventory": inventory,
        "asked_at": asked_at,
        "accepted": bool(hosts) and all(host.get("accepted") is True for host in hosts.values()),
        "hosts": hosts,
        "exceptions": list(exceptions_of(hosts)),
        "refused": [finding["sentence"] for host in hosts.values() for finding in host.get("findings", []) if finding["sentence"]]
        + [f"{name}: {host['error']}" for name, host in hosts.items() if "error" in host],
    }
