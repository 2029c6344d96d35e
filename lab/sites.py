"""The sites that the lab's hosts reach outside the lab: this machine's package sources and resolver.

They are written to build/lab/sites.yml, from which the lab's inventories take `topology_sites`.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.package_index import default_urls

from lab.machine import STATE, fail, give_back, write_whole
from lab.sources import apt_targets, read_apt_options, read_pip_settings

FILE = STATE / "sites.yml"
# ISO 3166 reserves ZZ for private use.
NOWHERE = "ZZ"
WHY = "The lab takes its packages from where this machine does, and nobody declared the country."
DEFAULT_PORTS = {"http": 80, "https": 443}


def endpoints(urls: list[str]) -> dict[tuple[str, ...], list[int]]:
    """Servers, grouped by equal ports → the ports.

    >>> endpoints(["http" + "://mirror.test/debian", "https" + "://mirror.test/", "https" + "://u:p@other.test:8443/x", "file:///x"])
    {('mirror.test',): [80, 443], ('other.test',): [8443]}
    """
    ports: dict[str, set[int]] = {}
    for url in urls:
        parts = urlsplit(url.strip('";'))
        if parts.hostname and (port := parts.port or DEFAULT_PORTS.get(parts.scheme)):
            ports.setdefault(parts.hostname, set()).add(port)
    together: dict[tuple[int, ...], list[str]] = {}
    for name, numbers in ports.items():
        together.setdefault(tuple(sorted(numbers)), []).append(name)
    return {tuple(sorted(names)): list(numbers) for numbers, names in together.items()}


def pip_urls(settings: dict[str, str], defaults: list[str]) -> list[str]:
    """Where pip connects: the machine's indexes, or pip's default; and its proxy if it has one."""
    urls = [word for key in ("index-url", "extra-index-url", "proxy") for word in settings.get(key, "").split()]
    return urls if "index-url" in settings else urls + defaults


def resolvers(resolv_conf: str) -> list[str]:
    """The servers that containers get too; they cannot use a resolver on the machine's loopback."""
    fields = (line.split() for line in resolv_conf.splitlines())
    servers = [words[1] for words in fields if len(words) > 1 and words[0] == "nameserver"]
    return [server for server in servers if not server.startswith("127.") and server != "::1"]


def sites(apt: list[str], pip: list[str], servers: list[str]) -> list[dict[str, object]]:
    """The entries of topology_sites."""
    sites: list[dict[str, object]] = []
    for name, urls in (("debian", apt), ("python", pip)):
        for number, (addresses, ports) in enumerate(endpoints(urls).items(), start=1):
            sites.append(
                {"name": f"{name}{number}", "kind": "package_mirror", "addresses": list(addresses), "ports": ports}
                | {"country": NOWHERE, "reason": WHY}
            )
    if servers:
        # In the machine's country, and the lab pretends to be in Norway.
        sites.append({"name": "resolver", "kind": "resolver", "addresses": servers, "country": "NO"})
    return sites


def observed() -> list[dict[str, object]]:
    try:
        options = read_apt_options()
        apt = apt_targets("REPO_URI").split()
        apt += [line.rpartition(" ")[2] for line in options if "::proxy" in line.lower()]
    except (OSError, subprocess.CalledProcessError):
        apt = []  # not a Debian machine
    resolv_conf = Path("/etc/resolv.conf")
    servers = resolvers(resolv_conf.read_text(encoding="utf-8")) if resolv_conf.exists() else []
    return sites(apt, pip_urls(read_pip_settings(), [*default_urls()]), servers)


def write(file: Path = FILE) -> None:
    head = "# Written by lab/sites.py from this machine's settings.\n"
    write_whole(file, head + yaml.safe_dump({"topology_sites": observed()}, sort_keys=False))


if __name__ == "__main__":
    if len(sys.argv) > 1:
        fail("this takes no arguments; it writes build/lab/sites.yml")
    write()
    give_back(STATE)
