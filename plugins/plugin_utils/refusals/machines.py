"""Hosts that cannot do what the inventory asks of them, and hosts that differ from it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from ..fleet.model import Fleet, Host, ip, names_of

GIB = 2**30
# The only limit that topology_waivers can waive.
PUBLIC_ADDRESS = "public_address"
# Settings with these prefixes take only numbers; WORDS are the exceptions.
NUMERIC_SETTINGS, WORDS = ("vm.", "net.core."), ("net.core.default_qdisc",)


def unreachable(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        if host.unreachable is not None:
            yield (
                f"{host.name} does not let us in: {host.unreachable}. Start it, correct its ansible_host, ansible_user or key in "
                f"the inventory, or leave it out of this run: --limit 'all:!{host.name}'."
            )


def unsupported_systems(fleet: Fleet, supported: dict[str, list[str]]) -> Iterator[str]:
    known = ", ".join(f"{name} {release}" for name, releases in supported.items() for release in releases)
    for host in fleet.hosts.values():
        if host.distribution is None:
            continue
        if str(host.release) not in [str(r) for r in supported.get(host.distribution, [])]:
            yield (
                f"{host.name} runs {host.distribution} {host.release}; the roles are tested on {known}. "
                f"Reinstall it with one of these, or take {host.name} out of the inventory."
            )


def duplicate_machines(fleet: Fleet) -> Iterator[str]:
    for hosts, same in machines_with_several_names(fleet):
        yield (
            f"{names_of(hosts)} are one machine: they have {same}. "
            f"Keep one of the names in the inventory; if they are copies of one image, give each its own identity "
            f"(rm /etc/machine-id; systemd-machine-id-setup) and its own ansible_host."
        )


def shared_machines(fleet: Fleet, apart: list[list[str]]) -> Iterator[str]:
    """Roles of one entry of ``apart`` on one machine, whether it has one name or several."""
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
    """Hosts of the inventory that are one machine, with the address or identity that they share."""
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


def public_addresses(fleet: Fleet) -> Iterator[str]:
    """Connections within the fleet over public addresses need a waiver: TLS protects them, but anyone can connect."""
    for host in fleet.hosts.values():
        waived = waivers(host)
        for name in waived:
            if name != PUBLIC_ADDRESS:
                yield (
                    f"{host.name}: topology_waivers names {name}, but only {PUBLIC_ADDRESS} can be waived. "
                    f"Correct it, or take it out."
                )
        if PUBLIC_ADDRESS in waived and not str(waived[PUBLIC_ADDRESS] or "").strip():
            yield f"{host.name}: topology_waivers waives {PUBLIC_ADDRESS} without a reason. Write one as its value."
        address = ip(host.address)
        if address is None:
            continue
        if address.is_unspecified or (address.is_loopback and len(fleet.hosts) > 1):
            yield (
                f"{host.name}: topology_address is {host.address}, where no other host can reach it. "
                f"Set topology_address (or ansible_host) to its address on the private network."
            )
        elif address.is_global and PUBLIC_ADDRESS not in waived:
            yield (
                f"{host.name}: topology_address is {host.address}, a public address: connections within the fleet would cross "
                f"foreign networks, though encrypted. Set topology_address to the host's address on the private network, "
                f"or say why there is none: topology_waivers: {{{PUBLIC_ADDRESS}: <reason>}}."
            )


def waivers(host: Host) -> dict[str, Any]:
    given = host.inputs.get("topology_waivers")
    return given if isinstance(given, dict) else {}


def wrong_clocks(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        offset, limit = host.measured.get("clock_offset_seconds"), host.number("topology_clock_offset_max")
        if offset is not None and limit is not None and abs(offset) > limit:
            yield (
                f"{host.name}: its clock is {abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} this machine's; the "
                f"limit is {limit} s (topology_clock_offset_max), since messages and certificates would expire at the wrong "
                f"time. Set the wrong one of the two (timedatectl set-ntp true)."
            )


def full_disks(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        least = host.number("topology_disk_free_min")
        for path, free in (host.measured.get("disk_free_bytes") or {}).items():
            if least is not None and free < least:
                yield (
                    f"{host.name}: the filesystem of {path} has {free / GIB:.2f} GiB free, but a run needs {least / GIB:.2f} GiB "
                    f"for packages, releases and logs (topology_disk_free_min). "
                    f"Free some, give {path} a larger disk, or lower topology_disk_free_min."
                )


def descriptors_too_few(fleet: Fleet) -> Iterator[str]:
    """A PgBouncer that runs out of descriptors refuses clients long before max_client_conn is reached."""
    for host in fleet.with_role("pgbouncer"):
        clients, most = host.number("pgbouncer_max_client_conn"), host.measured.get("descriptors_max")
        if clients is not None and most is not None and clients > most:
            yield (
                f"{host.name}: pgbouncer_max_client_conn is {clients}, one descriptor each, but this host grants a "
                f"service {most}. Lower pgbouncer_max_client_conn, or raise the host's fs.nr_open."
            )


def invalid_kernel_settings(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        settings = host.inputs.get("host_sysctl")
        for name, value in settings.items() if isinstance(settings, dict) else ():
            numeric = name.startswith(NUMERIC_SETTINGS) and name not in WORDS
            if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).strip():
                expected = "a number or a word"
            elif numeric and not all(word.lstrip("-").isdigit() for word in str(value).split()):
                expected = "a number"
            else:
                continue
            yield f"{host.name}: host_sysctl sets {name} to {value!r}, but the kernel takes {expected}. Correct it there."


def outdated_pythons(fleet: Fleet, wanted: dict[str, str]) -> Iterator[str]:
    """wanted: host → requires-python of its application's pyproject.toml."""
    for name, specifier in wanted.items():
        host = fleet.hosts[name]
        try:
            fits = SpecifierSet(specifier)
        except InvalidSpecifier:
            yield (
                f"{name}: the application's pyproject.toml has requires-python {specifier!r}, which is not a version specifier. "
                f"Write it as in '>=3.11'."
            )
            continue
        if host.python and host.python not in fits:
            yield (
                f"{name} has Python {host.python}, but the application's pyproject.toml requires {specifier}. "
                f"Reinstall {name} with a release that has it, or lower requires-python if the code allows it."
            )
