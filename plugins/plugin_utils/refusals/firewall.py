"""Sites and flows that would lock somebody out, or let everybody in."""

from __future__ import annotations

from collections.abc import Iterator

from ..fleet.inputs import mappings
from ..fleet.model import Fleet, Host, ip
from ..network.extra_flows import extra_faults
from ..network.flows import came_from, jump_hosts, ports_of
from ..network.sites import Site, network, sites_of


def guarded(fleet: Fleet) -> Iterator[Host]:
    """The hosts that get a firewall."""
    return (host for host in fleet.with_role("firewall") if host.inputs.get("firewall_state") != "absent")


def administrators(fleet: Fleet, host: Host) -> list[Site]:
    return [site for site in sites_of(host, fleet.hosts) if site.kind == "administrators"]


def within(address: str, sites: list[Site]) -> bool:
    parsed = ip(address)
    networks = [network(text) for site in sites for text in site.addresses]
    return parsed is not None and any(net is not None and parsed in net for net in networks)


def locked_out(fleet: Fleet) -> Iterator[str]:
    """The control machine must be able to connect again, and so must an administrator who repairs a host."""
    for host in guarded(fleet):
        sites, controller = administrators(fleet, host), host.measured.get("controller")
        opened = [site for site in sites if host.ssh_port in ports_of(site, host)]
        if not sites:
            yield (
                f"{host.name}: topology_sites has no site of the kind administrators, so the firewall would let nobody in "
                f"by SSH. Declare the networks of your administrators there, including this control machine's."
            )
        elif not controller or came_from(fleet, host) in jump_hosts(fleet, host):
            continue
        elif not within(controller, sites):
            listed = ", ".join(address for site in sites for address in site.addresses)
            yield (
                f"{host.name} sees this control machine connect from {controller}, but topology_sites lets administrators in "
                f"from {listed} only: the firewall would lock you out. Add {controller} to a site of the kind administrators."
            )
        elif not within(controller, opened):
            ports = ", ".join(str(port) for site in sites if within(controller, [site]) for port in site.ports)
            yield (
                f"{host.name}: its sshd listens on port {host.ssh_port}, but topology_sites opens {ports} to this control "
                f"machine ({controller}): the firewall would lock you out. Take 'ports' out of the site of the kind "
                f"administrators, which then follows SSH, or add {host.ssh_port}."
            )


def closed_jump_hosts(fleet: Fleet) -> Iterator[str]:
    """A jump host must forward connections, unless the run is started on it."""
    for host in fleet.hosts.values():
        jump = came_from(fleet, host)
        if jump is None or came_from(fleet, jump) is jump or not jump.measured:
            continue
        if jump.inputs.get("host_ssh_tcp_forwarding") is False:
            yield (
                f"{jump.name}: host_ssh_tcp_forwarding is false, but this run reaches {host.name} through {jump.name} "
                f"({host.measured['controller']}). Its sshd would forward no further connection and shut you out. "
                f"Set host_ssh_tcp_forwarding: true for {jump.name}."
            )


def ssh_open_to_all(fleet: Fleet) -> Iterator[str]:
    for host in guarded(fleet):
        for site in sites_of(host, fleet.hosts):
            if site.direction != "in":
                continue
            for address in site.addresses:
                if network(address) is None:
                    yield (
                        f"{host.name}: the site '{site.name}' ({site.kind}) has the name {address}. Inbound sites need "
                        f"addresses that no DNS can change: write the address or network."
                    )
            wide = [address for address in site.addresses if (net := network(address)) and net.prefixlen == 0]
            if wide and site.kind == "administrators" and not site.reason:
                yield (
                    f"{host.name}: the site '{site.name}' lets administrators in from {wide[0]}, which is everybody. Name "
                    f"their networks, or add a 'reason' to the site."
                )


def malformed_flows(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        for number, entry in enumerate(mappings(host, "topology_flows_extra"), 1):
            for fault in extra_faults(entry, fleet.hosts):
                yield f"{host.name}: entry {number} of topology_flows_extra {fault}."
