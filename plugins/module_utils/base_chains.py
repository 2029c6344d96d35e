"""Base chains of other firewalls on the host, in nftables and in iptables' legacy engine: a packet must pass all of them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

OWN = ("inet", "grunnfjell")
HOOKS = ("input", "output", "forward")
# Statements beside the verdict with which a rule still matches every packet.
UNCONDITIONAL = {"counter", "log", "limit"}
# Programs that create chains, by a part of their chains' names.
OWNERS = {
    "ufw": "ufw",
    "docker": "Docker",
    "libvirt": "libvirt",
    "firewalld": "firewalld",
    "kube": "Kubernetes",
    "lxd": "LXD",
    "netavark": "podman",
}


def owner_of(names: str) -> str:
    """The program that created the chains, by their names; empty if unknown."""
    return next((owner for mark, owner in OWNERS.items() if mark in names.lower()), "")


def closes(rule: list[dict[str, Any]]) -> bool:
    """Whether the rule drops every packet."""
    kinds = {key for part in rule for key in part}
    return bool(kinds & {"drop", "reject"}) and kinds <= {"drop", "reject", *UNCONDITIONAL}


def acting(chain: str, targets: dict[str, list[str | None]], above: tuple[str, ...] = ()) -> int:
    """Number of effective rules of a chain. A jump to a chain without any, as a disabled ufw leaves, does not count.

    C(targets): for each chain, the target of each rule that jumps unconditionally, and None for any other rule.
    """
    return sum(
        target is None or (target not in above and acting(target, targets, (*above, chain)) > 0)
        for target in targets.get(chain, [])
    )


def jump_of(rule: list[dict[str, Any]]) -> str | None:
    """The chain that an nft rule jumps to unconditionally."""
    others = [part for part in rule if not part.keys() & {"jump", "goto", "counter"}]
    jumps = [part[word]["target"] for part in rule for word in ("jump", "goto") if word in part]
    return jumps[0] if jumps and not others else None


def of_nftables(ruleset: str) -> list[dict[str, Any]]:
    """Filter base chains in the output of C(nft -j list ruleset), without the kit's."""
    entries = json.loads(ruleset or "{}").get("nftables", [])
    chains = [entry["chain"] for entry in entries if "chain" in entry]
    rules: dict[tuple[str, str], dict[str, list[Any]]] = {}
    for rule in (entry["rule"] for entry in entries if "rule" in entry):
        rules.setdefault((rule["family"], rule["table"]), {}).setdefault(rule["chain"], []).append(rule.get("expr", []))
    base_chains = []
    for chain in chains:
        table = (chain["family"], chain["table"])
        if chain.get("hook") not in HOOKS or chain.get("type") != "filter" or table == OWN:
            continue
        of_table = rules.get(table, {})
        targets = {name: [jump_of(rule) for rule in body] for name, body in of_table.items()}
        names = " ".join([chain["table"], *(other["name"] for other in chains if (other["family"], other["table"]) == table)])
        base_chains.append(
            {"chain": " ".join([*table, chain["name"]]), "hook": chain["hook"], "policy": chain.get("policy", "accept")}
            | {"rules": acting(chain["name"], targets), "owner": owner_of(names)}
            | {"closes": any(closes(rule) for rule in of_table.get(chain["name"], [])[-1:])}
        )
    return base_chains


def of_iptables(saved: str, family: str) -> list[dict[str, Any]]:
    """The same from the output of C(iptables-save)."""
    base_chains: list[dict[str, Any]] = []
    for table, body in re.findall(r"^\*(\S+)\n(.*?)^COMMIT", saved, re.M | re.S):
        if table != "filter":
            continue
        targets: dict[str, list[str | None]] = {}
        for chain, rule in re.findall(r"^-A (\S+) (.*)$", body, re.M):
            jump = re.fullmatch(r"-[jg] (\S+)", rule)
            known = jump is not None and re.search(rf"^:{re.escape(jump[1])} ", body, re.M)
            targets.setdefault(chain, []).append(jump[1] if jump and known else None)
        for name, policy in re.findall(r"^:(INPUT|OUTPUT|FORWARD) (\S+)", body, re.M):
            last = re.findall(rf"^-A {name} (.*)$", body, re.M)[-1:]
            base_chains.append(
                {"chain": f"{family} {table} {name}", "hook": name.lower(), "policy": policy.lower()}
                | {"rules": acting(name, targets), "owner": owner_of(body)}
                | {"closes": any(re.fullmatch(r"-j (DROP|REJECT)\b.*", rule) for rule in last)}
            )
    return base_chains


def measured(root: Path, run: Callable[..., str]) -> list[dict[str, Any]]:
    """Every base chain of other programs. iptables' legacy engine is queried only if it is in use: a query would load it."""
    ruleset = run("nft", "--json", "list", "ruleset")
    chains = of_nftables(ruleset) if ruleset.startswith("{") else []
    for family, prefix in (("ip", "iptables"), ("ip6", "ip6tables")):
        old = root / "proc/net" / f"{family}_tables_names"
        try:
            in_use = "filter" in old.read_text().split()
        except OSError:
            in_use = False
        if in_use:
            chains += of_iptables(run(f"{prefix}-legacy-save"), family)
        elif not ruleset:
            chains += of_iptables(run(f"{prefix}-save"), family)
    return chains
