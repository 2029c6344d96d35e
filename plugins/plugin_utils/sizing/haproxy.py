"""The arithmetic and the rules of role haproxy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any

from ansible.errors import AnsibleFilterError

from ..fleet.inputs import mappings, number, whole
from ..fleet.model import Host, bracketed, ip, is_loopback, same_address
from ..fleet.units import MIB

# Defaults of a listener; the same as in the role's argument specs.
MAXCONN = 1000
STATUS = 200
METHOD = "GET"
# Texts that HAProxy's configuration accepts without quotes.
NAME = re.compile(r"[A-Za-z0-9_.-]+")
URL_PATH = re.compile(r"/[A-Za-z0-9_.~/?&=%:+-]*")
FILE = re.compile(r"/[A-Za-z0-9_./-]+")

Listener = Mapping[str, Any]


def haproxy_settings(own: Mapping[str, Any], parameters: Mapping[str, Any], section: str) -> list[str]:
    """The lines of section global or defaults: the role's keywords, then the operator's; refuses keywords set by both."""
    added = parameters.get(section) or {}
    if twice := sorted(set(own) & set(added)):
        raise AnsibleFilterError(
            f"haproxy_parameters.{section} names {', '.join(twice)}, which the role sets itself. Take it out, and set the input "
            f"of the keyword's name if there is one"
        )
    return [_line(section, str(key), value) for key, value in {**own, **added}.items()]


def _line(section: str, key: str, value: Any) -> str:
    text = key if value is True else f"{key} {value}"
    if isinstance(value, bool) and not value:
        raise AnsibleFilterError(
            f"haproxy_parameters.{section} sets {key} to false. Write true for a keyword without a value, or take it out"
        )
    if "\n" in text:
        raise AnsibleFilterError(f"haproxy_parameters.{section} has a line break in {key}. Write one keyword per line")
    return text


def haproxy_maxconn(listeners: list[Listener]) -> int:
    """Connections of the whole process: the sum over its listeners, so each listener can reach its limit."""
    return sum(_maxconn(listener) for listener in listeners) or MAXCONN


def _maxconn(listener: Listener) -> int:
    return whole(listener.get("maxconn", MAXCONN)) or 0


def haproxy_listen_sections(listeners: list[Listener], certificate: str) -> dict[str, list[str]]:
    """Name of each listen section to its lines. certificate: the client certificate for TLS health checks."""
    sections = {}
    for listener in listeners:
        check = listener.get("check") or {}
        lines = [f"bind {listener['bind']}", f"maxconn {_maxconn(listener)}"]
        if listener.get("exclusive"):
            lines.append(f"tcp-request connection reject if {{ nbsrv({listener['name']}) gt 1 }}")
        if "path" in check:
            lines += ["option httpchk", f"http-check send meth {check.get('method', METHOD)} uri {check['path']}"]
            lines.append(f"http-check expect status {check.get('status', STATUS)}")
        for name, endpoint in listener["servers"].items():
            words = [f"server {name} {endpoint}", *([f"port {check['port']}"] if "port" in check else [])]
            if "ca_file" in check:
                words.append(f"check-ssl verify required verifyhost {name} ca-file {check['ca_file']} crt {certificate}")
            lines.append(" ".join(words))
        sections[str(listener["name"])] = lines
    return sections


def haproxy_problems(listeners: Any) -> list[str]:
    """Faults of haproxy_listeners, as sentences; the argument specs refuse wrong types."""
    if not isinstance(listeners, list) or not all(isinstance(entry, dict) for entry in listeners):
        return []
    problems = [problem for listener in listeners for rule in (_listens, _checks, _dials) for problem in rule(listener)]
    for first, second in combinations(listeners, 2):
        here, there = _endpoint(first.get("bind")), _endpoint(second.get("bind"))
        if first.get("name") == second.get("name"):
            problems.append(f"haproxy_listeners has two listeners named '{first.get('name')}'. Give one of them another name.")
        elif here and there and here[1] == there[1] and same_address(here[0], there[0]):
            problems.append(
                f"haproxy_listeners: '{first.get('name')}' and '{second.get('name')}' both bind to {second['bind']}. "
                f"Give one of them another port."
            )
    return problems


def _endpoint(text: Any) -> tuple[str, int] | None:
    """Address and port of address:port; None for anything else."""
    address, _, port = str(text).rpartition(":")
    address = address.removeprefix("[").removesuffix("]") if address.startswith("[") else address
    valid = ip(address) and bracketed(address) == str(text).rpartition(":")[0] and port.isdigit() and 0 < int(port) < 65536
    return (address, int(port)) if valid else None


def _listens(listener: Listener) -> Iterator[str]:
    name, bind = listener.get("name"), listener.get("bind")
    where = _endpoint(bind)
    if not NAME.fullmatch(str(name)):
        yield f"haproxy_listeners: the name '{name}' may hold letters, digits, '_', '.' and '-' only. Correct it."
    if where is None:
        yield f"haproxy_listeners: '{name}' binds to '{bind}', which is not address:port, e.g. 127.0.0.1:5000. Correct it."
    elif not is_loopback(where[0]):
        yield (
            f"haproxy_listeners: '{name}' binds to {bind}, which is not loopback: any host could connect to the servers through "
            f"this one. Bind it to 127.0.0.1, and install HAProxy beside each client."
        )
    if _maxconn(listener) < 1:
        yield f"haproxy_listeners: '{name}' has maxconn {listener.get('maxconn')}, but needs at least 1. Correct it."


def _checks(listener: Listener) -> Iterator[str]:
    check, name = listener.get("check"), listener.get("name")
    if not isinstance(check, dict):
        return
    path, status, port, file = (check.get(key) for key in ("path", "status", "port", "ca_file"))
    if not file:
        yield (
            f"haproxy_listeners: the check of '{name}' has no ca_file, so any program could answer for a server. Name the file "
            f"of the authorities that issue the servers' certificates, e.g. /etc/grunnfjell/pki/authorities.pem."
        )
    elif not FILE.fullmatch(str(file)):
        yield f"haproxy_listeners: the check of '{name}' has the ca_file '{file}', which is not an absolute path. Correct it."
    if path is not None and not URL_PATH.fullmatch(str(path)):
        yield f"haproxy_listeners: the check of '{name}' has the path '{path}', which is not a URL's path. Begin it with '/'."
    if check.get("method") is not None and path is None:
        yield f"haproxy_listeners: the check of '{name}' has a method, but no path to ask for. Add path, or drop method."
    if status is not None and path is None:
        yield f"haproxy_listeners: the check of '{name}' expects status {status}, but has no path. Add path, or drop status."
    elif status is not None and not 100 <= (whole(status) or 0) <= 599:
        yield f"haproxy_listeners: the check of '{name}' expects status {status}, which HTTP does not have. Use 100 to 599."
    if port is not None and not 0 < (whole(port) or 0) < 65536:
        yield f"haproxy_listeners: the check of '{name}' has port {port}. Use 1 to 65535."


def _dials(listener: Listener) -> Iterator[str]:
    servers, name = listener.get("servers"), listener.get("name")
    if not isinstance(servers, dict):
        return
    if not servers:
        yield f"haproxy_listeners: '{name}' has no servers, so each connection would be refused. Add one, or drop the listener."
    for server, endpoint in servers.items():
        if not NAME.fullmatch(str(server)):
            yield f"haproxy_listeners: '{name}' has the server '{server}', which is not a host name. Correct it."
        if _endpoint(endpoint) is None:
            yield (
                f"haproxy_listeners: the server {server} of '{name}' is '{endpoint}', which is not address:port, "
                f"e.g. 10.0.0.21:5432. Correct it."
            )


# Measured on Debian 12 and 13 with two threads by proportional set size: parent and process; one of a former reload.
HAPROXY = 32 * MIB
OLDER = 16 * MIB
# Two buffers of 16 KiB (tune.bufsize) while data flows both ways, and the session's own structures.
CONNECTION = 36 * 1024
# Sockets of the process itself, pollers, the two ends of the parent's pipe, a console.
DESCRIPTOR_MARGIN = 100


def memory_parts(host: Host) -> list[tuple[str, int]] | None:
    """HAProxy's memory with every listener full; None if an input is unknown."""
    older = number(host, "haproxy_mworker_max_reloads")
    if older is None:
        return None
    most = haproxy_maxconn(mappings(host, "haproxy_listeners"))
    return [(f"HAProxy with {most} connections", HAPROXY + older * OLDER + most * CONNECTION)]


def descriptor_parts(host: Host) -> list[tuple[str, int]]:
    """A process's descriptors with every listener full: two for each connection, and one for each server's check."""
    listeners = mappings(host, "haproxy_listeners")
    checks = sum(len(listener.get("servers") or ()) for listener in listeners)
    connections = haproxy_maxconn(listeners)
    return [("connections", 2 * connections), ("checks", checks), ("its own", len(listeners) + DESCRIPTOR_MARGIN)]
