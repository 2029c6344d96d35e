"""Base chains of other firewalls on the host: in nftables a packet must pass every one, and in iptables' older engine too."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

OWN = ("inet", "grunnfjell")
HOOKS = ("input", "output", "forward")
# What a rule may hold beside its verdict and still meet every packet.
UNCONDITIONAL = {"counter", "log", "limit"}
# Programs that make chains, by what their chains' names hold.
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
    """The program that the names of a table and its chains give away; empty for none."""
    return next((owner for mark, owner in OWNERS.items() if mark in names.lower()), "")


def closes(rule: list[dict[str, Any]]) -> bool:
    """Whether the rule ends every packet's way."""
    kinds = {key for part in rule for key in part}
    return bool(kinds & {"drop", "reject"}) and kinds <= {"drop", "reject", *UNCONDITIONAL}


def of_nftables(ruleset: str) -> list[dict[str, Any]]:
    """Base chains for packets in, out and forward in what C(nft -j list ruleset) prints, the kit's own left out."""
    entries = json.loads(ruleset or "{}").get("nftables", [])
    chains = [entry["chain"] for entry in entries if "chain" in entry]
    rules: dict[tuple[str, str, str], list[Any]] = {}
    for rule in (entry["rule"] for entry in entries if "rule" in entry):
        rules.setdefault((rule["family"], rule["table"], rule["chain"]), []).append(rule.get("expr", []))
    found = []
    for chain in chains:
        table = (chain["family"], chain["table"])
        if chain.get("hook") not in HOOKS or chain.get("type") != "filter" or table == OWN:
            continue
        own = rules.get((*table, chain["name"]), [])
        names = " ".join([chain["table"], *(each["name"] for each in chains if (each["family"], each["table"]) == table)])
        found.append(
            {"chain": " ".join([*table, chain["name"]]), "hook": chain["hook"], "policy": chain.get("policy", "accept")}
            | {"rules": len(own), "closes": any(closes(rule) for rule in own[-1:]), "owner": owner_of(names)}
        )
    return found


def of_iptables(saved: str, family: str) -> list[dict[str, Any]]:
    """The same out of what C(iptables-save) prints."""
    found: list[dict[str, Any]] = []
    for table, body in re.findall(r"^\*(\S+)\n(.*?)^COMMIT", saved, re.M | re.S):
        if table != "filter":
            continue
        for name, policy in re.findall(r"^:(INPUT|OUTPUT|FORWARD) (\S+)", body, re.M):
            rules = re.findall(rf"^-A {name} (.*)$", body, re.M)
            last = rules[-1] if rules else ""
            found.append(
                {"chain": f"{family} {table} {name}", "hook": name.lower(), "policy": policy.lower(), "rules": len(rules)}
                | {"closes": bool(re.fullmatch(r"-j (DROP|REJECT)\b.*", last)), "owner": owner_of(body)}
            )
    return found


def measured(root: Path, run: Callable[..., str]) -> list[dict[str, Any]]:
    """Every base chain of others. iptables' older engine is asked only where it is in use: asking would load it."""
    printed = run("nft", "--json", "list", "ruleset")
    found = of_nftables(printed) if printed.startswith("{") else []
    for family, prefix in (("ip", "iptables"), ("ip6", "ip6tables")):
        old = root / "proc/net" / f"{family}_tables_names"
        try:
            in_use = "filter" in old.read_text().split()
        except OSError:
            in_use = False
        if in_use:
            found += of_iptables(run(f"{prefix}-legacy-save"), family)
        elif not printed:
            found += of_iptables(run(f"{prefix}-save"), family)
    return found
