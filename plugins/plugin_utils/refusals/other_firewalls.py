"""Other firewalls on a host: a packet must pass all of them, and the kit's forwards nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..fleet.model import Fleet, Host
from .firewall import guarded


def waivers(host: Host) -> dict[str, Any]:
    given = host.inputs.get("firewall_waivers")
    return given if isinstance(given, dict) else {}


def other_firewalls(fleet: Fleet) -> Iterator[str]:
    for host in guarded(fleet):
        faults = {chain["chain"]: (chain, fault_of(chain)) for chain in host.measured.get("base_chains") or []}
        conflicts = [(chain, fault) for name, (chain, fault) in faults.items() if fault and name not in waivers(host)]
        if any(chain.get("owner") == "ufw" for chain, _ in conflicts):
            yield (
                f"{host.name}: ufw is active and drops unknown packets. A packet must pass every firewall, so the kit's ports "
                "would stay closed. Declare what `ufw status` lists in topology_sites or topology_flows_extra, then run "
                "`ufw disable`."
            )
        for chain, fault in conflicts:
            if chain.get("owner") != "ufw":
                owner = f" of {chain['owner']}" if chain.get("owner") else ""
                yield (
                    f"{host.name}: the firewall's chain '{chain['chain']}'{owner} {fault}. Remove it, or say why it may stay: "
                    f"firewall_waivers: {{{chain['chain']}: <reason>}}."
                )


def fault_of(chain: dict[str, Any]) -> str:
    """How the chain conflicts with the kit's rules, as the middle of a sentence; empty for one that does not."""
    if chain["hook"] == "forward" and (chain["rules"] or chain["policy"] == "drop"):
        return "forwards packets, but the kit's firewall forwards none: containers or guests would lose their network"
    if chain["hook"] != "forward" and (chain["policy"] == "drop" or chain["closes"]):
        return "drops unknown packets, and a packet must pass every firewall: the kit's ports would stay closed"
    return ""


def unexplained_firewall_waivers(fleet: Fleet) -> Iterator[str]:
    for host in guarded(fleet):
        for chain, reason in waivers(host).items():
            if not str(reason or "").strip():
                yield f"{host.name}: firewall_waivers keeps the chain '{chain}' without a reason. Write one as its value."
