"""The containers that act as the lab's hosts: which must be made, when they are ready, and removal.

containers.podman makes them in lab/tasks/create.yml. Each verb reads a list of hosts from standard input,
[{"name", "ip", "image", "memory"}, ...] with the optional fields of Host, and answers on standard output, both in JSON.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from lab import power, sites
from lab.access import BOOT_DEADLINE_S, boot, log_in, make_key, write_known_hosts
from lab.addresses import INSIDE_NETWORK, IPV6, LAB_NETWORK, NETWORKS, wrong_addresses
from lab.containers import (
    PREFIX,
    Container,
    Host,
    bridge,
    containers,
    network_settings,
    remove_containers,
    ulimits,
    unused_networks,
)
from lab.image import build
from lab.machine import REPOSITORY, STATE, Refusal, install_packages, podman, write_whole
from lab.verbs import serve

# How long the last creation took; the demo reports it.
CREATED = STATE / "created.json"


@dataclass
class Survey:
    create: list[Host] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


def check(hosts: list[Host]) -> list[str]:
    """Sentences about a list of hosts that cannot exist together."""
    names = [
        f"{host.name}: a host's name is lower-case letters, digits and hyphens, 63 at most."
        for host in hosts
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", host.name)
    ]
    return wrong_addresses([(host.name, host.ip) for host in hosts], NETWORKS[LAB_NETWORK]) + names


def survey(hosts: Iterable[Host], containers: Iterable[Container], checkout: str, checkouts: set[str]) -> Survey:
    """What must happen for `hosts` to exist. `checkouts` are those that still exist on this machine."""
    present = {container.name: container for container in containers}
    result = Survey()
    for host in hosts:
        container = present.get(host.container)
        if container is None:
            result.create.append(host)
        elif container.state in ("running", "stopping", "paused") and not container.alive:
            # Its processes ended without podman (a session that closed, a kill). podman 4 can only remove such a container.
            result.remove.append(container.name)
            result.create.append(host)
        elif container.checkout != checkout and container.alive and container.checkout in checkouts:
            result.refusals.append(
                f"{host.name} runs already, for the checkout in {container.checkout}: run `make demo-down` first, "
                "which removes it from here too."
            )
        elif container.checkout != checkout:
            result.remove.append(container.name)
            result.create.append(host)
        elif container.made_as != host.made_as:
            result.refusals.append(
                f"{host.name} exists as `{container.made_as}` (address, image, memory), and the inventory now says "
                f"`{host.made_as}`. A lab host is not changed in place: run `podman rm -f -t 0 {container.name}`, which "
                "removes its data too, and start again."
            )
        elif container.state == "created":
            # Its first start failed, so it holds nothing.
            result.remove.append(container.name)
            result.create.append(host)
    return result


def join_inside_network() -> None:
    """Give this machine an address in the second network, where it is the fleet's client; podman gives it none."""
    network = NETWORKS[INSIDE_NETWORK]
    command = ["ip", "address", "replace", f"{network[1]}/{network.prefixlen}", "dev", bridge(INSIDE_NETWORK)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def add_ipv6(hosts: list[Host]) -> None:
    """Give hosts and this machine their IPv6 addresses. They last until the host is stopped, so each start adds them."""
    command = ["ip", "-6", "address", "replace", f"{IPV6[1]}/{IPV6.prefixlen}", "dev", bridge(LAB_NETWORK), "nodad"]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
    for host in hosts:
        podman("exec", host.container, "ip", "-6", "address", "replace", f"{host.ipv6}/{IPV6.prefixlen}", "dev", "eth0", "nodad")


def ready(hosts: list[Host]) -> dict[str, list[str]]:
    """Start stopped hosts and wait for all; returns which were started and which units failed."""
    running = {container.name for container in containers() if container.state == "running"}
    stopped = [host.name for host in hosts if host.container not in running]
    if stopped:
        podman("start", *(PREFIX + name for name in stopped))
    if any(host.inside for host in hosts):
        join_inside_network()
    if dual := [host for host in hosts if host.ipv6]:
        add_ipv6(dual)
    deadline = time.monotonic() + BOOT_DEADLINE_S
    with ThreadPoolExecutor(max_workers=16) as pool:
        booted = list(pool.map(lambda host: boot(host, deadline), hosts))
        write_known_hosts({name: key for host, (key, _) in zip(hosts, booted, strict=True) for name in host.known_as})
        list(pool.map(lambda host: log_in(host, deadline), hosts))
    failed = [f"{host.name}: {unit}" for host, (_, units) in zip(hosts, booted, strict=True) for unit in units]
    created = json.loads(CREATED.read_text(encoding="utf-8"))
    write_created(created | {"hosts": len(hosts), "create_s": round(time.time() - created["began"], 1)})
    return {"started": stopped, "failed_units": failed}


def write_created(created: dict[str, object]) -> None:
    write_whole(CREATED, json.dumps(created) + "\n")


def prepare(hosts: list[Host]) -> dict[str, object]:
    """Everything before a container is made; returns which must be made, and how."""
    if sentences := check(hosts):
        raise Refusal("\n".join(sentences))
    install_packages()
    make_key()
    sites.write()
    present = containers()
    checkouts = {container.checkout for container in present if (Path(container.checkout) / "lab").is_dir()}
    plan = survey(hosts, present, str(REPOSITORY), checkouts)
    if plan.refusals:
        raise Refusal("\n".join(plan.refusals))
    for image in sorted({host.image for host in plan.create}):
        build(image.rpartition(":")[2])
    remove_containers(plan.remove)
    # The clock starts after the image is built.
    write_created({"began": time.time(), "created": len(plan.create)})
    labels = {"grunnfjell.checkout": str(REPOSITORY)}
    create = [
        {"name": host.name, "image": host.image, "memory": host.memory, "networks": host.networks}
        | {"kernel_settings": host.image.endswith("-cloud")}
        | {"labels": labels | {"grunnfjell.made-as": host.made_as, "grunnfjell.known-as": " ".join(host.known_as)}}
        for host in plan.create
    ]
    networks = [
        # The second has no way out: a host's default route is in the first.
        {"name": name, "subnet": str(network), "internal": name != LAB_NETWORK}
        for name, network in NETWORKS.items()
        if name == LAB_NETWORK or any(host.inside for host in hosts)
    ]
    limits = {"ulimits": ulimits(), "sysctl": network_settings()}
    return {"create": create, "networks": networks, "removed": plan.remove, **limits}


def remove(hosts: list[Host]) -> dict[str, object]:
    """Remove the given hosts, or all if none is given; returns what was removed and which networks may be removed too."""
    if not shutil.which("podman"):
        return {"removed": [], "networks": []}
    names = {host.container for host in hosts}
    gone = [container for container in containers() if not names or container.name in names]
    remove_containers([container.name for container in gone])
    power.remove([host.name for host in hosts])
    write_known_hosts({name: "" for container in gone for name in container.known_as})
    # Given hosts leave the networks alone: another scenario may be starting its hosts.
    return {"removed": [container.name for container in gone], "networks": [] if names else unused_networks()}


def read(entry: dict[str, object]) -> Host:
    texts = {key: str(entry.get(key) or "") for key in ("name", "ip", "image", "memory", "inside", "ipv6")}
    account, port = str(entry.get("account") or "root"), int(str(entry.get("port") or 22))
    return Host(**texts, account=account, port=port, sudo_password=bool(entry.get("sudo_password")))


def main() -> None:
    verbs = {"survey": prepare, "ready": ready, "remove": remove}
    serve(verbs, read, STATE, "hosts with systemd and addresses need root")


if __name__ == "__main__":
    main()
