"""Look after the containers that play the lab's hosts: what stands, what is missing, when it is ready, and removal.

Making a container is left to containers.podman in lab/tasks/create.yml. Each verb reads the list of hosts from its standard
input, [{"name", "ip", "image", "memory"}, ...] with the optional fields of Host, and answers on standard output, both in JSON.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import re
import resource
import shutil
import subprocess
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from lab import places
from lab.image import build
from lab.keys import BECOME_PASSWORD, KEY, make_keys
from lab.machine import REPOSITORY, STATE, Refusal, install_packages, podman
from lab.verbs import serve

PREFIX = "grunnfjell-"
NETWORK = ipaddress.ip_network("10.77.0.0/24")
INSIDE_NETWORK = "grunnfjell-inside"
INSIDE = ipaddress.ip_network("10.79.0.0/24")
KNOWN_HOSTS = STATE / "known_hosts"
# What the last creation took; the demo reports it.
CREATED = STATE / "created.json"
# Generous: a host boots in under a second, but five of them on a busy CI machine share two cores.
BOOT_DEADLINE_S = 90.0


@dataclass(frozen=True)
class Host:
    name: str
    ip: str
    image: str
    memory: str
    # The address in the second network, `grunnfjell-inside`, by which the fleet talks; empty for a host with one network.
    inside: str = ""
    account: str = "root"
    port: int = 22
    # Whether the account's sudo asks for a password, the one in BECOME_PASSWORD.
    sudo_password: bool = False

    @property
    def container(self) -> str:
        return PREFIX + self.name

    @property
    def mac(self) -> str:
        """Kept through a reboot, as on a real host: neighbours remember it for a minute, and podman would think of a new one."""
        return ":".join(f"{byte:02x}" for byte in (0x02, 0x67, *ipaddress.IPv4Address(self.ip).packed))

    @property
    def made_as(self) -> str:
        return " ".join(filter(None, (self.ip, self.image, self.memory, self.inside)))

    @property
    def networks(self) -> list[str]:
        """podman's words for its addresses; the default route goes by the first."""
        return [f"grunnfjell:ip={self.ip},mac={self.mac}", *([f"{INSIDE_NETWORK}:ip={self.inside}"] if self.inside else [])]

    @property
    def known_as(self) -> list[str]:
        """Its names in known_hosts."""
        return [each if self.port == 22 else f"[{each}]:{self.port}" for each in (self.ip, self.inside) if each]


@dataclass(frozen=True)
class Container:
    name: str
    state: str
    alive: bool
    made_as: str
    checkout: str
    known_as: tuple[str, ...] = ()


@dataclass
class Survey:
    create: list[Host] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)


def check(hosts: list[Host]) -> list[str]:
    """Sentences about a list of hosts that cannot stand together."""
    sentences = []
    taken: dict[str, str] = {}
    for host in hosts:
        if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", host.name):
            sentences.append(f"{host.name}: a host's name is lower-case letters, digits and hyphens, 63 at most.")
        try:
            address = ipaddress.ip_address(host.ip)
        except ValueError:
            sentences.append(f"{host.name}: ansible_host is {host.ip}; write an address of {NETWORK} there.")
            continue
        if address not in NETWORK or address in (NETWORK[0], NETWORK[1], NETWORK[-1]):
            sentences.append(
                f"{host.name}: ansible_host is {host.ip}; the lab's hosts live between {NETWORK[2]} and {NETWORK[-2]}."
            )
        if host.ip in taken:
            sentences.append(f"{host.name} and {taken[host.ip]} both have the address {host.ip}; give one another.")
        taken[host.ip] = host.name
    return sentences


def survey(hosts: Iterable[Host], containers: Iterable[Container], checkout: str, lives: set[str]) -> Survey:
    """What has to happen so that `hosts` stand. `lives` are the checkouts that still exist on this machine."""
    found = {container.name: container for container in containers}
    result = Survey()
    for host in hosts:
        container = found.get(host.container)
        if container is None:
            result.create.append(host)
        elif container.state in ("running", "stopping", "paused") and not container.alive:
            # Its processes were ended without podman (a session that closed, a kill); podman 4 can neither start nor
            # stop such a container, only remove it.
            result.remove.append(container.name)
            result.create.append(host)
        elif container.checkout != checkout and container.alive and container.checkout in lives:
            result.refusals.append(
                f"{host.name} runs already, for the checkout in {container.checkout}: run `make demo-down` first, "
                "which removes it from here too."
            )
        elif container.checkout != checkout:
            result.remove.append(container.name)
            result.create.append(host)
        elif container.made_as != host.made_as:
            result.refusals.append(
                f"{host.name} stands as `{container.made_as}` (address, image, memory) and the inventory now says "
                f"`{host.made_as}`. A lab host is not changed in place: run `podman rm -f -t 0 {container.name}`, which "
                "removes its data too, and start again."
            )
        elif container.state == "created":
            # Its first start failed, so nothing is in it that could be lost.
            result.remove.append(container.name)
            result.create.append(host)
    return result


def alive(pid: int) -> bool:
    """Whether the process runs. A zombie does not: where PID 1 reaps nobody, the dead keep their entry."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return False
    return pid > 0 and status.rpartition(")")[2].split()[0] not in "ZX"


def containers() -> list[Container]:
    listed = json.loads(podman("ps", "--all", "--filter", "label=grunnfjell.checkout", "--format", "json").stdout or "[]")
    return [
        Container(
            name=entry["Names"][0],
            state=entry["State"],
            alive=alive(int(entry.get("Pid") or 0)),
            made_as=entry["Labels"].get("grunnfjell.made-as", ""),
            checkout=entry["Labels"]["grunnfjell.checkout"],
            known_as=tuple(entry["Labels"].get("grunnfjell.known-as", "").split()),
        )
        for entry in listed
    ]


# What a star in the name of a kernel setting means in a container.
INTERFACES = ("all", "default", "lo", "eth0")


def network_settings() -> dict[str, str]:
    """What role host sets in a kernel by default, as far as a network of one's own has it.

    A container's /proc/sys is read-only: its kernel is the machine's. Its network is its own, and is given its settings here.
    """
    defaults = yaml.safe_load((REPOSITORY / "roles/host/defaults/main.yml").read_text(encoding="utf-8"))
    named = {
        key.replace("*", interface): str(value)
        for key, value in defaults["host_sysctl"].items()
        for interface in INTERFACES
        if key.startswith(("net.ipv4.", "net.ipv6."))
    }
    own = {key: key.replace("eth0", "default") for key in named}  # this machine's interfaces have other names
    return {key: value for key, value in named.items() if Path("/proc/sys", *own[key].split(".")).exists()}


def ulimits() -> list[str]:
    """This machine's own hard limits: podman asks for more by default, and not every root may raise them."""
    # podman lowers its own limit of processes to the highest process number, and cannot raise it again either.
    ceilings = {"nofile": 1048576, "nproc": int(Path("/proc/sys/kernel/pid_max").read_text(encoding="utf-8"))}
    answer = []
    for name, ceiling in ceilings.items():
        hard = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
        limit = ceiling if hard == resource.RLIM_INFINITY else min(hard, ceiling)
        answer.append(f"{name}={limit}:{limit}")
    return answer


def remove_containers(names: list[str]) -> None:
    if not names:
        return
    ids = podman("inspect", "--format", "{{.Id}}", *names, check=False).stdout.split()
    # Twice: podman may fail once over a container whose processes vanished, and knows better afterwards.
    for last in (False, True):
        podman("rm", "--force", "--ignore", "--time", "0", *names, check=last)
    for leftover in (path for path in Path("/run/runc").glob("*") if path.name in ids):
        # What podman forgets of such a container: the runtime's record of it, with its cgroups.
        subprocess.run(["runc", "delete", "--force", leftover.name], capture_output=True, check=False)


def write_known_hosts(keys: dict[str, str]) -> None:
    """Put each address's key into the lab's known_hosts; an empty key removes the address."""
    STATE.mkdir(parents=True, exist_ok=True)
    with KNOWN_HOSTS.open("a+", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        lines = [line for line in file.read().splitlines() if line.split(" ")[0] not in keys]
        lines += [f"{ip} {key}" for ip, key in sorted(keys.items()) if key]
        file.seek(0)
        file.truncate()
        file.write("".join(f"{line}\n" for line in lines))


ENTER = (REPOSITORY / "lab/guest/enter.sh").read_text(encoding="utf-8")


def boot(host: Host, deadline: float) -> tuple[str, list[str]]:
    """Wait until systemd has finished; returns the host's SSH key and the units that failed."""
    answer: dict[str, list[str]] = {}
    public_key = KEY.with_suffix(".pub").read_text(encoding="utf-8").strip()
    password = BECOME_PASSWORD.read_text(encoding="utf-8").strip() if host.sudo_password else ""
    while time.monotonic() < deadline:
        # systemd answers nothing at all until its bus is up; after that --wait blocks until the boot has ended.
        done = podman(
            "exec", "--interactive", host.container, "timeout", "60", "sh", "-c", ENTER,
            input=f"{host.account}\n{public_key}\n{password}\n", check=False,
        )  # fmt: skip
        answer = {}
        for line in done.stdout.splitlines():
            word, _, rest = line.partition(" ")
            answer.setdefault(word, []).append(rest)
        if answer.get("state", [""])[0] in ("running", "degraded") and "key" in answer:
            return answer["key"][0], answer.get("failed", [])
        time.sleep(0.1)  # between two looks; the deadline ends them
    raise Refusal(
        f"{host.name} did not finish booting within {BOOT_DEADLINE_S:.0f} s (systemd says: {answer.get('state', 'nothing')}). "
        f"The end of its console, from `podman logs {host.container}`:\n{console(host)}"
    )


def console(host: Host) -> str:
    done = podman("logs", "--tail", "15", host.container, check=False)
    return (done.stdout + done.stderr).strip()


def log_in(host: Host, deadline: float) -> None:
    """Wait until SSH lets us in; a host with two networks may be entered through another, and Ansible will find out."""
    if host.inside:
        return
    command = ["ssh", "-i", str(KEY), "-o", f'UserKnownHostsFile="{KNOWN_HOSTS}"', "-o", "StrictHostKeyChecking=yes"]
    command += ["-o", "BatchMode=yes", "-o", "ConnectTimeout=5", "-o", "ControlPath=none"]
    command += ["-p", str(host.port), f"{host.account}@{host.ip}", "true"]
    while True:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, text=True, capture_output=True, check=False)
        if done.returncode == 0:
            return
        if time.monotonic() > deadline:
            raise Refusal(f"{host.name} runs but SSH to {host.account}@{host.ip} does not get in: {done.stderr.strip()}")
        time.sleep(0.1)  # between two looks; the deadline ends them


def join_inside_network() -> None:
    """Give this machine an address in the second network: it is the fleet's client there. podman gives it none, nor a way out."""
    bridge = json.loads(podman("network", "inspect", INSIDE_NETWORK).stdout)[0]["network_interface"]
    command = ["ip", "address", "replace", f"{INSIDE[1]}/{INSIDE.prefixlen}", "dev", bridge]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL)


def ready(hosts: list[Host]) -> dict[str, list[str]]:
    """Start what was stopped, wait for all; answers who was started and which units failed."""
    running = {container.name for container in containers() if container.state == "running"}
    stopped = [host.name for host in hosts if host.container not in running]
    if stopped:
        podman("start", *(PREFIX + name for name in stopped))
    if any(host.inside for host in hosts):
        join_inside_network()
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
    # In one piece: scenarios create their hosts side by side.
    draft = CREATED.with_suffix(f".{os.getpid()}")
    draft.write_text(json.dumps(created) + "\n", encoding="utf-8")
    draft.replace(CREATED)


def prepare(hosts: list[Host]) -> dict[str, object]:
    """Everything that comes before a container is made; answers which ones are to be made and how."""
    if sentences := check(hosts):
        raise Refusal("\n".join(sentences))
    install_packages()
    make_keys()
    places.write()
    present = containers()
    lives = {container.checkout for container in present if (Path(container.checkout) / "lab").is_dir()}
    found = survey(hosts, present, str(REPOSITORY), lives)
    if found.refusals:
        raise Refusal("\n".join(found.refusals))
    for image in sorted({host.image for host in found.create}):
        build(image.rpartition(":")[2])
    remove_containers(found.remove)
    # Building an image is no part of making hosts, so the clock starts here.
    write_created({"began": time.time(), "created": len(found.create)})
    labels = {"grunnfjell.checkout": str(REPOSITORY)}
    create = [
        {"name": host.name, "image": host.image, "memory": host.memory, "networks": host.networks}
        | {"kernel_settings": host.image.endswith("-cloud")}
        | {"labels": labels | {"grunnfjell.made-as": host.made_as, "grunnfjell.known-as": " ".join(host.known_as)}}
        for host in found.create
    ]
    inside = any(host.inside for host in hosts)
    return {"create": create, "inside": inside, "removed": found.remove, "ulimits": ulimits(), "sysctl": network_settings()}


def remove(hosts: list[Host]) -> dict[str, object]:
    """Remove the named hosts, or all of them if none is named; answers whether the network may go too."""
    if not shutil.which("podman"):
        return {"removed": [], "network": False}
    named = {host.container for host in hosts}
    gone = [container for container in containers() if not named or container.name in named]
    remove_containers([container.name for container in gone])
    write_known_hosts({name: "" for container in gone for name in container.known_as})
    # Hosts removed by name leave the networks to those who start theirs at this moment.
    return {"removed": [container.name for container in gone], "networks": [] if named else unused_networks()}


def unused_networks() -> list[str]:
    found = [name for name in ("grunnfjell", INSIDE_NETWORK) if podman("network", "exists", name, check=False).returncode == 0]
    return [name for name in found if not podman("ps", "--all", "--filter", f"network={name}", "--quiet").stdout.split()]


def read(entry: dict[str, object]) -> Host:
    texts = {key: str(entry.get(key) or "") for key in ("name", "ip", "image", "memory", "inside")}
    account, port = str(entry.get("account") or "root"), int(str(entry.get("port") or 22))
    return Host(**texts, account=account, port=port, sudo_password=bool(entry.get("sudo_password")))


def main() -> None:
    verbs = {"survey": prepare, "ready": ready, "remove": remove}
    serve(verbs, read, STATE, "hosts with systemd and an address of their own need root")


if __name__ == "__main__":
    main()
