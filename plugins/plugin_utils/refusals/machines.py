"""Hosts that cannot carry what the inventory gives them, and hosts that are not what it says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from ..fleet.model import Fleet, Host, ip, names_of

GIB = 2**30
# What topology_waivers can waive.
PUBLIC_ADDRESS = "public_address"
# The kernel takes numbers only in these families, but for the names that follow.
NUMERIC_SETTINGS, WORDS = ("vm.", "net.core."), ("net.core.default_qdisc",)


def unreachable(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        if host.unreachable is not None:
            yield (
                f"{host.name} does not let us in: {host.unreachable}. Start it, correct its ansible_host (or ansible_user, "
                f"or the "
                f"key) in the inventory, or leave it out of this run: --limit 'all:!{host.name}'."
            )


def unsupported_systems(fleet: Fleet, supported: dict[str, list[str]]) -> Iterator[str]:
    known = ", ".join(f"{name} {release}" for name, releases in supported.items() for release in releases)
    for host in fleet.hosts.values():
        if host.distribution is None:
            continue
        if str(host.release) not in [str(r) for r in supported.get(host.distribution, [])]:
            yield (
                f"{host.name} runs {host.distribution} {host.release}; the roles are proven on {known}. "
                f"Reinstall it with one of these, or take {host.name} out of the inventory."
            )


def one_machine_twice(fleet: Fleet) -> Iterator[str]:
    for hosts, same in machines_with_several_names(fleet):
        yield (
            f"{names_of(hosts)} are one machine: they have {same}. "
            f"Keep one of the names in the inventory; if they are copies of one image, give each its own identity "
            f"(rm /etc/machine-id; systemd-machine-id-setup) and its own ansible_host."
        )


def kept_apart(fleet: Fleet, apart: list[list[str]]) -> Iterator[str]:
    """Roles of one entry of ``apart`` on one machine, whether by one name or by several."""
    for first, second in apart:
        hint = (
            f"{fleet.groups_of(first)} and {fleet.groups_of(second)} must not share a machine: "
            f"a full {second} takes the {first} down with it. Move one of them to another host in the inventory."
        )
        for host in fleet.with_role(first):
            if second in host.roles:
                yield f"{host.name} is in both groups; {hint}"
        for hosts, same in machines_with_several_names(fleet):
            if any(first in host.roles for host in hosts) and any(second in host.roles for host in hosts):
                yield f"{names_of(hosts)} have {same}; {hint}"


def machines_with_several_names(fleet: Fleet) -> Iterator[tuple[list[Host], str]]:
    """Hosts of the inventory that are one machine, with what gives them away."""
    known: set[tuple[str, ...]] = set()
    for what, key in (("address", "address"), ("machine identity", "machine_id")):
        shared: dict[str, list[Host]] = {}
        for host in fleet.hosts.values():
            if (value := getattr(host, key)) is not None:
                shared.setdefault(str(ip(value) or value), []).append(host)
        for value, hosts in shared.items():
            names = tuple(host.name for host in hosts)
            if len(hosts) > 1 and names not in known:
                known.add(names)
                yield hosts, f"the {what} {value}"


def addresses_for_others(fleet: Fleet) -> Iterator[str]:
    """A public address for the fleet's own connections is a decision: TLS guards what passes, and everybody may knock."""
    for host in fleet.hosts.values():
        waived = waivers(host)
        for name in waived:
            if name != PUBLIC_ADDRESS:
                yield (
                    f"{host.name}: topology_waivers names {name}, and only {PUBLIC_ADDRESS} can be waived. "
                    f"Correct it, or take it out."
                )
        if PUBLIC_ADDRESS in waived and not str(waived[PUBLIC_ADDRESS] or "").strip():
            yield f"{host.name}: topology_waivers waives {PUBLIC_ADDRESS} without a reason. Write one as its value."
        address = ip(host.address)
        if address is None:
            continue
        if address.is_unspecified or (address.is_loopback and len(fleet.hosts) > 1):
            yield (
                f"{host.name}: topology_address is {host.address}, at which no other host reaches it. "
                f"Set topology_address (or ansible_host) to its address on the private network."
            )
        elif address.is_global and PUBLIC_ADDRESS not in waived:
            yield (
                f"{host.name}: topology_address is {host.address}, a public address: the fleet's own connections would "
                f"cross the networks of others, if encrypted. Set topology_address to the host's address on the private network, "
                f"or say why there is none: topology_waivers: {{{PUBLIC_ADDRESS}: <reason>}}."
            )


def waivers(host: Host) -> dict[str, Any]:
    given = host.inputs.get("topology_waivers")
    return given if isinstance(given, dict) else {}


def clocks_off(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        offset, limit = host.measured.get("clock_offset_seconds"), host.number("topology_clock_offset_max")
        if offset is not None and limit is not None and abs(offset) > limit:
            yield (
                f"{host.name}: its clock is {abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} this machine's, and "
                f"may be off by {limit} s (topology_clock_offset_max): messages would expire and certificates fail by the "
                f"wrong time. "
                f"Set it (timedatectl set-ntp true) on whichever of the two is wrong."
            )


def disks_too_small(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        least = host.number("topology_disk_free_min")
        for path, free in (host.measured.get("disk_free_bytes") or {}).items():
            if least is not None and free < least:
                yield (
                    f"{host.name}: the filesystem of {path} has {free / GIB:.2f} GiB free, and a run needs {least / GIB:.2f} GiB "
                    f"for packages, releases and logs (topology_disk_free_min). "
                    f"Free some, give {path} a larger disk, or lower topology_disk_free_min."
                )


def descriptors_too_few(fleet: Fleet) -> Iterator[str]:
    """A bouncer that runs out of descriptors refuses clients long before max_client_conn says so."""
    for host in fleet.with_role("pgbouncer"):
        clients, most = host.number("pgbouncer_max_client_conn"), host.measured.get("descriptors_max")
        if clients is not None and most is not None and clients > most:
            yield (
                f"{host.name}: pgbouncer_max_client_conn is {clients}, each of which takes a descriptor, and this host grants a "
                f"service {most}. Lower pgbouncer_max_client_conn, or raise the host's fs.nr_open."
            )


def kernel_settings(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        settings = host.inputs.get("host_sysctl")
        for name, value in settings.items() if isinstance(settings, dict) else ():
            numeric = name.startswith(NUMERIC_SETTINGS) and name not in WORDS
            if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
                wrong = "a number or a word"
            elif numeric and not all(word.lstrip("-").isdigit() for word in str(value).split()):
                wrong = "a number"
            else:
                continue
            yield f"{host.name}: host_sysctl sets {name} to {value!r}, and the kernel takes {wrong}. Correct it in host_sysctl."


def pythons_too_old(fleet: Fleet, wanted: dict[str, str]) -> Iterator[str]:
    """wanted: host → what its application's pyproject.toml says in requires-python."""
    for name, specifier in wanted.items():
        host = fleet.hosts[name]
        try:
            fits = SpecifierSet(specifier)
        except InvalidSpecifier:
            yield (
                f"{name}: the application's pyproject.toml says requires-python {specifier!r}, which is no version specifier. "
                f"Write it as in '>=3.11'."
            )
            continue
        if host.python and host.python not in fits:
            yield (
                f"{name} has Python {host.python}, and the application's pyproject.toml requires {specifier}. "
                f"Reinstall {name} with a release that has it, or lower requires-python if the code bears it."
            )
