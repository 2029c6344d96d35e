"""The addresses of the host's interfaces."""

from __future__ import annotations

import ipaddress
import json
from typing import Any


def addresses(listing: str) -> dict[str, dict[str, Any]]:
    """Address to its interface and network, from the output of C(ip -json address).

    >>> addresses('[{"ifname": "eth0", "addr_info": [{"local": "10.0.0.41", "prefixlen": 24}]}]')
    {'10.0.0.41': {'interface': 'eth0', 'network': '10.0.0.0/24'}}
    """
    return {
        entry["local"]: {
            "interface": link["ifname"],
            "network": str(ipaddress.ip_interface(f"{entry['local']}/{entry['prefixlen']}").network),
        }
        for link in json.loads(listing or "[]")
        for entry in link.get("addr_info", [])
        if "local" in entry
    }
