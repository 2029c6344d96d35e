"""Which hosts a connection reaches: directly, or through the HAProxy on the host where it begins."""

from __future__ import annotations

from collections.abc import Iterator

from .inputs import mapping, mappings
from .model import Fleet, Host


def split_place(text: object) -> tuple[str, int] | None:
    """Address and port of C(address:port); None if it is not that."""
    address, _, port = str(text).rpartition(":")
    valid = address and port.isdigit() and 0 < int(port) < 65536
    return (address.removeprefix("[").removesuffix("]"), int(port)) if valid else None


def listed(value: object) -> list[str]:
    """The entries of a list, the values of a mapping, or the parts of a text separated by commas."""
    value = list(value.values()) if isinstance(value, dict) else value
    entries = value if isinstance(value, list) else str(value or "").split(",")
    return [text for entry in entries if (text := str(entry).strip())]


def resolved(host: Host, address: str) -> str:
    """The address, or a name, as the host's own hosts file has it."""
    return str(mapping(host, "host_names").get(address, address))


def reached(fleet: Fleet, host: Host, address: str, port: int) -> Iterator[tuple[Host | None, str, int]]:
    """Each server, with its address and port, that a connection from the host to the place may reach; None outside the fleet."""
    place = resolved(host, address), port
    behind = [
        server
        for listener in (mappings(host, "haproxy_listeners") if "haproxy" in host.roles else ())
        if split_place(listener.get("bind")) == place
        for server in map(split_place, listed(listener.get("servers")))
        if server
    ]
    for at, its_port in behind or [place]:
        yield fleet.at(at, host), at, its_port
