"""Asks etcd on a host under test with etcdctl."""

from __future__ import annotations

import json
import shlex
from typing import Any

from deadline import until

IDENTITY = ("/etc/grunnfjell/pki/etcd/certificate.pem", "/etc/grunnfjell/pki/etcd/key.pem")
AUTHORITIES = "/etc/grunnfjell/pki/authorities.pem"
DATA = "/var/lib/etcd/grunnfjell"


def command(endpoint: str, *arguments: str, identity: tuple[str, str] | None = IDENTITY) -> str:
    """The command line of etcdctl. identity: files of the certificate and the key, on the host."""
    words = ["env", "ETCDCTL_API=3", "etcdctl", f"--endpoints={endpoint}", f"--cacert={AUTHORITIES}", "--command-timeout=8s"]
    words += [f"--cert={identity[0]}", f"--key={identity[1]}"] if identity else []
    return shlex.join([*words, *arguments])


def own_endpoint(inputs: dict[str, Any]) -> str:
    return f"https://{inputs['etcd_listen_address']}:{inputs['etcd_client_port']}"


def ask(host, inputs: dict[str, Any], *arguments: str) -> Any:
    """The answer of the host's own member."""
    return json.loads(host.check_output(command(own_endpoint(inputs), "--write-out=json", *arguments)))


def members(host, inputs: dict[str, Any]) -> dict[str, str]:
    """Name to id, as this member knows them. One that was added and has not started has no name."""
    return {entry.get("name", ""): f"{entry['ID']:x}" for entry in ask(host, inputs, "member", "list")["members"]}


def healthy(host, inputs: dict[str, Any]) -> bool:
    """Whether the host's own member answers with a majority."""
    return host.run(command(own_endpoint(inputs), "endpoint", "health")).rc == 0


def put(host, inputs: dict[str, Any], key: str, value: str) -> None:
    """Puts a value. Just after the loss of the leader a try may end without an answer."""
    until(f"{key} is taken", lambda: host.run(command(own_endpoint(inputs), "put", key, value)).rc == 0)


def value(host, inputs: dict[str, Any], key: str) -> str:
    return host.check_output(command(own_endpoint(inputs), "get", "--print-value-only", key))
