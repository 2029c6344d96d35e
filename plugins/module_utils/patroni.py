"""Asks Patroni's REST API, with the certificate of this host's member, and decides what a member has to do."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .etcd import AUTHORITIES, PKI, bracketed

# Seconds. A member answers in milliseconds; a switchover may take some seconds.
TIMEOUT_S = 10.0
STREAMING = ("streaming", "running")  # Patroni before 3.0.3 does not know the first
LEADER = ("leader", "master", "primary", "standby_leader")

Reports = Mapping[str, Mapping[str, Any]]


class PatroniError(Exception):
    """A message for the operator."""


@dataclass(frozen=True)
class Api:
    """members: name to address.  port: of the REST API."""

    members: Mapping[str, str]
    port: int

    def ask(self, name: str, path: str, method: str = "GET", body: Any = None, timeout: float = TIMEOUT_S) -> tuple[int, Any]:
        """Status and answer of a member, parsed if it is JSON."""
        url = f"https://{bracketed(self.members[name])}:{self.port}{path}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data=data, method=method, headers={"Content-Type": "application/json"})
        try:
            context = ssl.create_default_context(cafile=str(AUTHORITIES))
            context.load_cert_chain(PKI / "patroni/certificate.pem", PKI / "patroni/key.pem")
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
            with opener.open(request, timeout=timeout) as answer:
                return answer.status, parsed(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, parsed(error.read())
        except (OSError, http.client.HTTPException) as error:
            raise PatroniError(f"{url}: {getattr(error, 'reason', error)}") from error

    def member(self, name: str) -> dict[str, Any] | None:
        """A member's own state; None if it does not answer."""
        try:
            answer = self.ask(name, "/patroni")[1]
        except PatroniError:
            return None
        return answer if isinstance(answer, dict) else None

    def cluster(self, names: Sequence[str]) -> dict[str, dict[str, Any]] | None:
        """Member to its part, as the first that answers reads it from etcd; None if none answers."""
        for name in names:
            try:
                answer = self.ask(name, "/cluster")[1]
            except PatroniError:
                continue
            if isinstance(answer, dict):
                return {entry["name"]: entry for entry in answer.get("members", [])}
        return None

    def config(self, name: str) -> dict[str, Any]:
        """The dynamic configuration; empty before anything was set."""
        status, answer = self.ask(name, "/config")
        if status not in (200, 502) or not isinstance(answer, dict | str):
            raise PatroniError(f"{name} answers {status} to /config: {answer}")
        return answer if isinstance(answer, dict) else {}


def parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text.decode(errors="replace").strip()


def without_etcd(own: Mapping[str, Any]) -> bool:
    """Whether a member goes on without etcd. It still answers with the members that it saw there last."""
    return bool(own.get("failsafe_mode_is_active"))


def leader_of(cluster: Mapping[str, Mapping[str, Any]] | None) -> str | None:
    """The member that holds the leader's key and runs."""
    names = [name for name, part in (cluster or {}).items() if part.get("role") in LEADER and part.get("state") in STREAMING]
    return names[0] if names else None


def differences(wanted: Mapping[str, Any], current: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """The part of the wanted configuration that is not in force; keys that it does not name stay as they are.

    >>> differences({"ttl": 20, "postgresql": {"use_slots": True}}, {"ttl": 20, "loop_wait": 5, "postgresql": {}})
    {'postgresql': {'use_slots': True}}
    """
    change: dict[str, Any] = {}
    for key, value in wanted.items():
        present = current.get(key)
        if isinstance(value, Mapping):
            if inner := differences(value, present if isinstance(present, Mapping) else {}):
                change[key] = inner
        elif str(value) != str(present):
            change[key] = value
    return change


def keys_of(change: Mapping[str, Any], path: str = "") -> list[str]:
    """The names of all keys of a change, with those of outer mappings.

    >>> keys_of({"ttl": 20, "postgresql": {"use_slots": True}})
    ['ttl', 'postgresql.use_slots']
    """
    names: list[str] = []
    for key, value in change.items():
        names += keys_of(value, f"{path}{key}.") if isinstance(value, Mapping) else [f"{path}{key}"]
    return names


def first_primary(members: Mapping[str, str], reports: Reports) -> str | None:
    """The member whose server is adopted where there is no cluster yet; None where a member already belongs to one.

    Refuses two servers with data, since one of them would be lost, and a new cluster while not every host has been asked.
    """
    if any(report.get("managed") for report in reports.values()):
        return None
    if unknown := sorted(set(members) - set(reports)):
        raise PatroniError(
            f"no member belongs to a cluster yet, and {', '.join(unknown)} did not take part in this run, so its data could be "
            f"missed. Run again without --limit"
        )
    filled = sorted(name for name, report in reports.items() if report.get("databases"))
    if len(filled) > 1:
        raise PatroniError(
            f"{' and '.join(filled)} both have databases, but one cluster has one history. Keep one of them, and move the data "
            f"directory of the others away"
        )
    return (filled or list(members))[0]


def disagreements(members: Mapping[str, str], cluster: Mapping[str, Mapping[str, Any]] | None) -> list[str]:
    """Sentences about members that are missing, not streaming, or on another timeline."""
    if cluster is None:
        return ["no member answers"]
    problems = [f"{name} is not in the cluster" for name in members if name not in cluster]
    problems += [f"the cluster has the member {name}, which is not in patroni_members" for name in cluster if name not in members]
    leaders = [name for name, part in cluster.items() if part.get("role") in LEADER]
    if len(leaders) != 1:
        problems.append(f"the cluster has {len(leaders)} leaders" + (f": {', '.join(leaders)}" if leaders else ""))
    problems += [
        f"{name} is {part.get('state')}"
        for name, part in cluster.items()
        if part.get("state") not in STREAMING and name in members
    ]
    if len(leaders) == 1 and (timeline := cluster[leaders[0]].get("timeline")):
        problems += [
            f"{name} is on timeline {part['timeline']}, and {leaders[0]}, the primary, on {timeline}. If it does not follow "
            f"within a minute, its history has forked: patronictl reinit copies it again"
            for name, part in cluster.items()
            if part.get("timeline") not in (None, timeline)
        ]
    if len(members) > 1 and not any(part.get("role") in ("sync_standby", "quorum_standby") for part in cluster.values()):
        problems.append("no standby is synchronous")
    return problems
