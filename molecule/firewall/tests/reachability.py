"""Who can connect to whom."""

from __future__ import annotations

from typing import Any

from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.extra_flows import ends_named

# No service of the kit listens on these.
PORTS = (47001, 47002, 47003)
TABLE = "nft list table inet grunnfjell"


def reached(host, targets: set[tuple[str, int]]) -> set[tuple[str, int]]:
    """Those of the addresses and ports that the host can connect to now."""
    tries = [f"(timeout 3 bash -c ': < /dev/tcp/{a}/{p}' 2> /dev/null && echo {a} {p}) &" for a, p in sorted(targets)]
    lines = host.check_output("\n".join([*tries, "wait"])).splitlines()
    return {(address, int(port)) for address, port in (line.split() for line in lines)}


def guarded(inputs: dict[str, Any]) -> bool:
    return inputs.get("firewall_state") == "present"


def declared(inputs: dict[str, Any], to: set[str]) -> set[int]:
    """The ports of the extra flows to a destination; no other flow uses the ports of these tests."""
    return {port for flow in inputs.get("topology_flows_extra") or [] if to & set(ends_named(flow)) for port in flow["ports"]}
