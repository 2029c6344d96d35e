"""Hosts without a network."""

from __future__ import annotations

import time
from collections.abc import Callable

from lab.demo.fleet import Fleet, Host
from lab.drill import hosts
from lab.drill.faults.fault import Fault, Moment, Place, Reading, amid_work, on
from lab.drill.hosts import shell
from lab.drill.scene import Scene

# More than two heartbeats (rabbitmq_heartbeat is 20 s), after which the broker gives a silent host's jobs to others.
CUT_S = 50.0
# The host then ends the cut itself, in case the drill died.
BOUND_S = 300

RULES = """
table inet drill_cut {{
  chain in {{ type filter hook input priority -300; {incoming} counter drop; }}
  chain out {{ type filter hook output priority -300; {outgoing} counter drop; }}
}}
"""
REMOVE = "nft delete table inet drill_cut"


def cut_off(place: Place, peers: Callable[[Fleet], list[Host]] | None = None) -> Moment:
    """In the host's packet filter, both ways, silently: from these hosts, or from everything but loopback."""

    def cut(scene: Scene) -> float:
        incoming, outgoing = 'iifname != "lo"', 'oifname != "lo"'
        if peers:
            addresses = f"{{ {', '.join(host.address for host in peers(scene.fleet))} }}"
            incoming, outgoing = f"ip saddr {addresses}", f"ip daddr {addresses}"
        bound = f"systemd-run --quiet --collect --unit=drill-cut --on-active={BOUND_S} {REMOVE}"
        shell(place(scene.fleet), f"{bound}\nnft -f -", stdin=RULES.format(incoming=incoming, outgoing=outgoing))
        return time.time()

    return cut


def reconnect(place: Place) -> Moment:
    return on(place, f"{REMOVE}\nsystemctl stop drill-cut.timer")


def dropped(place: Place) -> Reading:
    """Whether the cut dropped packets, in both directions."""
    count = "nft list table inet drill_cut 2>/dev/null | grep -c 'counter packets [1-9]' || true"
    return Reading("directions in which packets were dropped", place, count)


def row(name: str, place: Place, *more_shows: str, accepts: bool = False, affects: Place | None = None) -> Fault:
    return Fault(
        f"{name} host cut off", "host", amid_work(cut_off(place)), reconnect(place), hold_s=CUT_S, ends_within_s=CUT_S + 10,
        affects=affects, accepts=accepts, shows=more_shows, readings=(dropped(place),),
    )  # fmt: skip


CUTS = (
    row("worker", hosts.worker, "cut", affects=hosts.worker),
    row("broker", hosts.broker, "repeated", accepts=True),
    row("database", hosts.database),
    row("producer", hosts.producer, "repeated", accepts=True, affects=hosts.producer),
)
