"""What the lab's hosts reach outside the lab: this machine's own package sources and its resolver, written where they are read.

No file of the kit names a mirror or an index: what this machine is set up to use is what its lab uses. They go to
build/lab/places.yml, which the lab's inventories take their `topology_places` from.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network.package_index import default_urls

from lab.image import apt_options, read_pip_settings
from lab.machine import STATE, fail, give_back

FILE = STATE / "places.yml"
# ISO 3166 leaves ZZ to whoever needs a country that is none.
NOWHERE = "ZZ"
WHY = "The lab takes its packages from wherever this machine does, and nobody declared where that is."
DEFAULT_PORTS = {"http": 80, "https": 443}


def answer(*command: str) -> str:
    try:
        return subprocess.run(command, text=True, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def endpoints(urls: list[str]) -> dict[tuple[str, ...], list[int]]:
    """Names of servers, together with those that share their ports → the ports.

    >>> endpoints(["http" + "://mirror.test/debian", "https" + "://mirror.test/", "https" + "://u:p@other.test:8443/x", "file:///x"])
    {('mirror.test',): [80, 443], ('other.test',): [8443]}
    """
    ports: dict[str, set[int]] = {}
    for url in urls:
        parts = urlsplit(url.strip('";'))
        if parts.hostname and (port := parts.port or DEFAULT_PORTS.get(parts.scheme)):
            ports.setdefault(parts.hostname, set()).add(port)
    together: dict[tuple[int, ...], list[str]] = {}
    for name, own in ports.items():
        together.setdefault(tuple(sorted(own)), []).append(name)
    return {tuple(sorted(names)): list(own) for own, names in together.items()}


def pip_urls(settings: dict[str, str], asked: str) -> list[str]:
    """Where pip goes: the machine's own indexes, or else its default; through its proxy if it has one."""
    own = [word for key in ("index-url", "extra-index-url", "proxy") for word in settings.get(key, "").split()]
    return own if "index-url" in settings else own + asked.split()


def resolvers(resolv_conf: str) -> list[str]:
    """The servers that containers are given too; a resolver on the machine's own loopback is no use to them."""
    fields = (line.split() for line in resolv_conf.splitlines())
    servers = [words[1] for words in fields if len(words) > 1 and words[0] == "nameserver"]
    return [server for server in servers if not server.startswith("127.") and server != "::1"]


def places(apt: list[str], pip: list[str], servers: list[str]) -> list[dict[str, object]]:
    """What the machine says as entries of topology_places."""
    found: list[dict[str, object]] = []
    for name, urls in (("debian", apt), ("python", pip)):
        for number, (addresses, ports) in enumerate(endpoints(urls).items(), start=1):
            found.append(
                {"name": f"{name}{number}", "kind": "package_mirror", "addresses": list(addresses), "ports": ports}
                | {"country": NOWHERE, "reason": WHY}
            )
    if servers:
        # The machine's own, or its network's: it stands where the machine stands, and the machine plays Norway.
        found.append({"name": "resolver", "kind": "resolver", "addresses": servers, "country": "NO"})
    return found


def observed() -> list[dict[str, object]]:
    apt = answer("apt-get", "indextargets", "--no-release-info", "--format", "$(REPO_URI)", "Created-By: Packages").split()
    apt += [line.rpartition(" ")[2] for line in apt_options(answer("apt-config", "dump")) if "::proxy" in line.lower()]
    resolv_conf = Path("/etc/resolv.conf")
    servers = resolvers(resolv_conf.read_text(encoding="utf-8")) if resolv_conf.exists() else []
    return places(apt, pip_urls(read_pip_settings(), " ".join(default_urls())), servers)


def write(file: Path = FILE) -> None:
    """In one piece: scenarios create their hosts side by side."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_suffix(f".{os.getpid()}")
    head = "# Written by lab/places.py from this machine's own settings.\n"
    draft.write_text(head + yaml.safe_dump({"topology_places": observed()}, sort_keys=False), encoding="utf-8")
    draft.replace(file)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        fail("this takes no arguments; it writes build/lab/places.yml")
    write()
    give_back(STATE)
