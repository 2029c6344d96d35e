"""The lab's networks on this machine, and the addresses that its hosts may have there."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

Network = ipaddress.IPv4Network

LAB_NETWORK, INSIDE_NETWORK = "grunnfjell", "grunnfjell-inside"
# podman's networks. The first has a way out by NAT; hosts with two networks talk to each other in the second.
NETWORKS = {LAB_NETWORK: Network("10.77.0.0/24"), INSIDE_NETWORK: Network("10.79.0.0/24")}
# In the first network too, for hosts with `ipv6`: a fleet may use these addresses alone.
IPV6 = ipaddress.IPv6Network("fd77::/64")
# libvirt's.
KVM = Network("10.78.0.0/24")


def wrong_addresses(hosts: Iterable[tuple[str, str]], network: Network) -> list[str]:
    """Sentences about (name, address) pairs that cannot share the network."""
    sentences = []
    taken: dict[str, str] = {}
    for name, ip in hosts:
        try:
            address = ipaddress.ip_address(ip)
        except ValueError:
            sentences.append(f"{name}: ansible_host is {ip}; write an address of {network} into hosts.yml.")
            continue
        if address not in network or address in (network[0], network[1], network[-1]):
            sentences.append(f"{name}: ansible_host is {ip}; write one between {network[2]} and {network[-2]} into hosts.yml.")
        if ip in taken:
            sentences.append(f"{name} and {taken[ip]} both have the address {ip}; give one of them another in hosts.yml.")
        taken[ip] = name
    return sentences
