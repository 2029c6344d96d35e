"""Queries etcd's members, with the certificate of this host's member."""

from __future__ import annotations

import http.client
import json
import ssl
import subprocess
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import bounded

PKI = Path("/etc/grunnfjell/pki")
AUTHORITIES = PKI / "authorities.pem"
DATA = Path("/var/lib/etcd/grunnfjell/member/wal")
# The alarm that etcd raises at its quota.
ALARMS = {1: "NOSPACE", 2: "CORRUPT"}
# Seconds. A healthy member answers in milliseconds, one without a majority after 5 s.
TIMEOUT_S = 8.0


class EtcdError(Exception):
    """A message for the operator."""


@dataclass(frozen=True)
class Member:
    """A member of the cluster. id: as etcdctl takes it.  client_urls: empty until its first start."""

    id: str
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]

    @property
    def started(self) -> bool:
        return bool(self.client_urls)


def bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


@dataclass(frozen=True)
class Cluster:
    """members: name to address.  identity: of role pki, by whose certificate etcd is asked."""

    members: dict[str, str]
    client_port: int
    peer_port: int
    identity: str = "etcd"

    def client_url(self, name: str) -> str:
        return f"https://{bracketed(self.members[name])}:{self.client_port}"

    def peer_url(self, name: str) -> str:
        return f"https://{bracketed(self.members[name])}:{self.peer_port}"

    @property
    def initial_cluster(self) -> str:
        return ",".join(f"{name}={self.peer_url(name)}" for name in self.members)

    def _file(self, name: str) -> str:
        return str(PKI / self.identity / name)

    def get(self, url: str) -> Any:
        """The answer of an HTTPS endpoint, also with an error status."""
        try:
            context = ssl.create_default_context(cafile=str(AUTHORITIES))
            context.load_cert_chain(self._file("certificate.pem"), self._file("key.pem"))
            verified = urllib.request.HTTPSHandler(context=context)
            with urllib.request.build_opener(urllib.request.ProxyHandler({}), verified).open(url, timeout=TIMEOUT_S) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")
            try:
                return json.loads(text)
            except json.JSONDecodeError:
                raise EtcdError(f"{url} answers {error.code}: {' '.join(text.split())[:200]}") from error
        except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
            raise EtcdError(f"{url}: {getattr(error, 'reason', error)}") from error

    def seen_by(self, name: str) -> list[Member]:
        """The members as one of them knows them, also without a majority."""
        return [
            Member(f"{entry['id']:x}", entry.get("name") or "", tuple(entry["peerURLs"]), tuple(entry.get("clientURLs") or ()))
            for entry in self.get(f"{self.peer_url(name)}/members")
        ]

    def seen_by_any(self, names: list[str]) -> tuple[str, list[Member]] | None:
        """The first answer of several members, and whose it is; None if none answers."""
        for name in names:
            try:
                return name, self.seen_by(name)
            except EtcdError:
                continue
        return None

    def trouble(self, name: str) -> str:
        """Why a member is not healthy: it does not answer, or finds no majority; empty if it is."""
        try:
            answer = self.get(f"{self.client_url(name)}/health")
        except EtcdError as error:
            return str(error)
        if str(answer.get("health")).lower() == "true":
            return ""
        return answer.get("reason") or "it reports that it is not healthy: it has no majority, or an alarm"

    def ctl(self, name: str, *arguments: str) -> Any:
        """etcdctl's answer, asked of one member."""
        command = ["etcdctl", f"--endpoints={self.client_url(name)}", f"--cacert={AUTHORITIES}"]
        command += [f"--cert={self._file('certificate.pem')}", f"--key={self._file('key.pem')}"]
        command += [f"--command-timeout={TIMEOUT_S:g}s", "--write-out=json", *arguments]
        try:
            done = bounded.run(command, 2 * TIMEOUT_S, cwd="/", env={"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"})
        except (FileNotFoundError, subprocess.TimeoutExpired) as error:
            raise EtcdError(f"etcdctl: {error}") from error
        if done.returncode:
            raise EtcdError(sentence_of(done.stderr) or f"etcdctl ended with {done.returncode}")
        return json.loads(done.stdout) if done.stdout.strip() else {}

    def status(self, name: str) -> dict[str, Any]:
        """Version, bytes, leader and alarms of a member."""
        (answer,) = self.ctl(name, "endpoint", "status")
        state = answer["Status"]
        return {
            "version": state["version"],
            "bytes": state["dbSize"],
            "id": f"{state['header']['member_id']:x}",
            "leader": f"{state.get('leader', 0):x}",
            "alarms": sorted({ALARMS.get(entry.get("alarm"), "unknown") for entry in self.alarms(name)}),
        }

    def alarms(self, name: str) -> list[dict[str, Any]]:
        return self.ctl(name, "alarm", "list").get("alarms") or []


def sentence_of(stderr: str) -> str:
    """etcdctl's error, without the lines of JSON that its client logs."""
    lines = [line for line in stderr.splitlines() if line.strip() and not line.startswith("{")]
    return " ".join(" ".join(lines).split())[:300]
