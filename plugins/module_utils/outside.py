"""Servers that a host is set up to use: resolvers, package sources, a package index, time servers."""

from __future__ import annotations

import configparser
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

# Runs a program and returns its output; empty if it is not installed.
Run = Callable[..., str]

DEFAULT_PORTS = {"http": 80, "https": 443, "ftp": 21}
TARGETS = ("apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI) $(SOURCESENTRY)", "Created-By: Packages")
TIME_UNITS = ("systemd-timesyncd.service", "chrony.service", "ntpsec.service", "ntp.service")
# Weakest first, as pip reads them for root.
PIP_FILES = ("etc/xdg/pip/pip.conf", "etc/pip.conf", "root/.pip/pip.conf", "root/.config/pip/pip.conf")
PIP_DEFAULT = "pip's default"
LOOK_UP_SECONDS = 3


def lines_of(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()
    except OSError:
        return []


def unique(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without duplicates, in a stable order."""
    return [json.loads(text) for text in sorted({json.dumps(row, sort_keys=True) for row in rows})]


def resolvers(root: Path) -> list[str]:
    """The DNS servers; with systemd-resolved also those that it uses."""
    files = [root / "etc/resolv.conf", root / "run/systemd/resolve/resolv.conf"]
    fields = [line.split() for path in files for line in lines_of(path)]
    return sorted({words[1] for words in fields if len(words) > 1 and words[0] == "nameserver"})


def server(url: str, file: str, direct: bool = True) -> Iterator[dict[str, Any]]:
    """The server of a URL, without credentials; nothing for a file.  direct: whether the host itself connects to it."""
    try:
        parts = urlsplit(url)
        scheme = parts.scheme.rpartition("+")[2]
        port = parts.port or DEFAULT_PORTS.get(scheme)
    except ValueError:  # neither apt nor pip would accept it
        return
    if parts.hostname and port:
        yield {"address": parts.hostname, "port": port, "file": file, "direct": direct}


def apt_proxies(dump: str) -> dict[str, str]:
    """Scheme, or C(scheme::host), → apt's proxy; https uses that of http unless it has one.

    >>> apt_proxies('Acquire::http::Proxy "http' '://p.test:3128";')["https"]
    'http://p.test:3128'
    """
    setting = re.compile(r'^Acquire::(https?)::proxy(::[^"\s]+)? "([^"]*)";$', re.MULTILINE | re.IGNORECASE)
    proxies = {match[1].lower() + (match[2] or "").lower(): match[3] for match in setting.finditer(dump)}
    return {"https": proxies["http"], **proxies} if proxies.get("http") else proxies


def repositories(targets: str, root: Path) -> Iterator[tuple[str, str]]:
    """URI and file of each repository, and of each mirror in a list of mirrors, as Debian's cloud images have one."""
    for uri, _, entry in (line.partition(" ") for line in dict.fromkeys(targets.splitlines())):
        file = entry.rpartition(":")[0] or entry
        if uri.startswith("mirror+file:"):
            path = "/" + uri.removeprefix("mirror+file:").lstrip("/")
            words = [line.split() for line in lines_of(root / path.rstrip("/").lstrip("/"))]
            yield from ((line[0], path.rstrip("/")) for line in words if line and not line[0].startswith("#"))
        else:
            yield uri, file


def apt_sources(root: Path, run: Run) -> list[dict[str, Any]]:
    """Servers of apt's sources, as apt reads them, and its proxies."""
    proxies = apt_proxies(run("apt-config", "dump"))
    servers: list[dict[str, Any]] = []
    for uri, file in repositories(run(*TARGETS), root):
        parts = urlsplit(uri)
        scheme = parts.scheme.rpartition("+")[2]
        proxy = proxies.get(f"{scheme}::{parts.hostname}", proxies.get(scheme, ""))
        servers += server(uri, file, direct=proxy in ("", "DIRECT"))
    return unique([*servers, *(entry for proxy in proxies.values() for entry in server(proxy, "apt's Acquire::*::Proxy"))])


def pip_settings(root: Path, environment: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """pip's settings for C(install) → their value and its file or variable, by pip's precedence."""
    settings: dict[str, tuple[str, str]] = {}
    for name in PIP_FILES:
        parser = configparser.RawConfigParser()
        try:
            parser.read_string((root / name).read_text(errors="replace"))
        except (OSError, configparser.Error):
            continue
        for section in (section for section in ("global", "install") if parser.has_section(section)):
            settings |= {key.replace("_", "-"): (value or "", f"/{name}") for key, value in parser.items(section)}
    return settings | {
        name.removeprefix("PIP_").lower().replace("_", "-"): (value, name)
        for name, value in environment.items()
        if name.startswith("PIP_") and value
    }


def pip_sources(root: Path, environment: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Servers that pip connects to. Its default index is an entry without an address."""
    settings = pip_settings(root, os.environ if environment is None else environment)
    proxy = settings.get("proxy", ("", ""))[0]
    servers: list[dict[str, Any]] = [*server(*settings["proxy"])] if proxy else []
    for key in ("index-url", "extra-index-url", "find-links"):
        value, file = settings.get(key, ("", ""))
        if key == "find-links" or settings.get("no-index", ("",))[0].lower() not in ("1", "true", "yes", "on"):
            servers += [entry for url in value.split() for entry in server(url, file, direct=not proxy)]
            if key == "index-url" and not value:
                servers.append({"address": "", "port": 443, "file": PIP_DEFAULT, "direct": not proxy})
    return unique(servers)


def time_servers(root: Path, active: set[str]) -> list[str]:
    """Servers of the host's active time service: the configured ones, or else its built-in ones."""
    names = []
    if "systemd-timesyncd.service" in active:
        given = {}
        paths = [root / "etc/systemd/timesyncd.conf", *sorted(root.glob("etc/systemd/timesyncd.conf.d/*.conf"))]
        paths = [*sorted(root.glob("usr/lib/systemd/timesyncd.conf.d/*.conf")), *paths]
        for line in (line for path in paths for line in lines_of(path)):
            # Debian's file lists the built-in servers as a comment; they apply if none are configured.
            if match := re.match(r"^(?:#(?=Fallback))?(NTP|FallbackNTP)=(.*)", line):
                given[match[1]] = match[2].split()
        names += given.get("NTP") or given.get("FallbackNTP", [])
    for unit, globs in (("chrony.service", ("etc/chrony/chrony.conf", "etc/chrony/conf.d/*.conf", "etc/chrony/sources.d/*")),
                        ("ntpsec.service", ("etc/ntpsec/ntp.conf",)), ("ntp.service", ("etc/ntp.conf",))):  # fmt: skip
        if unit in active:
            for line in (line for pattern in globs for path in sorted(root.glob(pattern)) for line in lines_of(path)):
                if match := re.match(r"^\s*(?:server|pool|peer)\s+(\S+)", line):
                    names.append(match[1])
    return sorted(set(names))


def active_units(units: Iterable[str], run: Run) -> set[str]:
    """The active ones of the units; systemctl prints one state per line, in the order of its arguments."""
    names = list(units)
    return {unit for unit, state in zip(names, run("systemctl", "is-active", *names).split(), strict=False) if state == "active"}


def addresses_of(names: Iterable[str], seconds: float = LOOK_UP_SECONDS) -> dict[str, list[str]]:
    """Name → its addresses on this host; none for a name that is not resolved in time."""
    addresses: dict[str, list[str]] = {name: [] for name in names}

    def look_up(name: str) -> None:
        with suppress(OSError, UnicodeError):
            addresses[name] = sorted({entry[4][0] for entry in socket.getaddrinfo(name, None, proto=socket.IPPROTO_TCP)})

    threads = [threading.Thread(target=look_up, args=(name,), daemon=True) for name in addresses]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(seconds)
    return dict(addresses)


def measured(root: Path, run: Run) -> dict[str, Any]:
    """The servers as resource_facts returns them."""
    apt, pip = apt_sources(root, run), pip_sources(root)
    return {
        "resolvers": resolvers(root),
        "apt": apt,
        "pip": pip,
        "time_servers": time_servers(root, active_units(TIME_UNITS, run)),
        "names": addresses_of(sorted({entry["address"] for entry in [*apt, *pip] if entry["direct"] and entry["address"]})),
    }
