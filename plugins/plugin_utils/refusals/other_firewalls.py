"""Other firewalls on a host: what they drop stays dropped, and what they forward the kit's would drop."""

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
        found = [(chain, fault) for name, (chain, fault) in faults.items() if fault and name not in waivers(host)]
        if any(chain.get("owner") == "ufw" for chain, _ in found):
            yield (
                f"{host.name}: ufw is active and drops what it does not know. A packet must pass every firewall, so what the kit "
                "opens would stay shut. Declare what `ufw status` lists in topology_places or topology_flows_extra, then run "
                "`ufw disable`."
            )
        for chain, fault in found:
            if chain.get("owner") != "ufw":
                owner = f" of {chain['owner']}" if chain.get("owner") else ""
                yield (
                    f"{host.name}: the firewall's chain '{chain['chain']}'{owner} {fault}. Remove it, or say why it may stay: "
                    f"firewall_waivers: {{{chain['chain']}: <reason>}}."
                )


def fault_of(chain: dict[str, Any]) -> str:
    """What is wrong with the chain beside the kit's own, as the middle of a sentence; empty for one that disturbs nobody."""
    if chain["hook"] == "forward" and (chain["rules"] or chain["policy"] == "drop"):
        return "forwards packets of others, and the kit's firewall forwards none: containers or guests would lose their network"
    if chain["hook"] != "forward" and (chain["policy"] == "drop" or chain["closes"]):
        return "drops what it does not know, and a packet must pass every firewall: what the kit opens would stay shut"
    return ""


def firewall_waivers_unsound(fleet: Fleet) -> Iterator[str]:
    for host in guarded(fleet):
        for chain, reason in waivers(host).items():
            if not str(reason or "").strip():
                yield f"{host.name}: firewall_waivers keeps the chain '{chain}' without a reason. Write one as its value."
