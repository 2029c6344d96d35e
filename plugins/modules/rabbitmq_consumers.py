#!/usr/bin/python
"""Lists the consumers of a broker's virtual hosts."""

DOCUMENTATION = r"""
module: rabbitmq_consumers
short_description: List the consumers of a broker's virtual hosts
description:
  - Lists each consumer of the running broker with its queue and address. Changes nothing.
  - C(asked) is false for a broker that is not installed or does not run.
author: maintainers
"""

EXAMPLES = r"""
- name: List the consumers
  rabbitmq_consumers:
"""

RETURN = r"""
asked: {description: Whether the broker answered., type: bool, returned: always}
consumers:
  description: "Of each consumer C(vhost), C(queue) and C(address), which is empty if its connection has just closed."
  returned: always
  type: list
  elements: dict
  sample: [{"vhost": "newsroom", "queue": "newsroom", "address": "10.0.0.31"}]
"""

import ipaddress
import json

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import rabbitmq_cli


def address(host: object) -> str:
    """The broker prints an address as a list of bytes, or of 16-bit groups for IPv6, and a name as text."""
    if not isinstance(host, list):
        return str(host or "")
    if len(host) == 4:
        return ".".join(str(byte) for byte in host)
    return str(ipaddress.ip_address(b"".join(int(group).to_bytes(2, "big") for group in host)))


def consumers_of(vhost: str, consumers: list, channels: list, connections: list) -> list[dict[str, str]]:
    """Consumers of a virtual host with the addresses of their connections, from rabbitmqctl's three lists."""
    addresses = {connection["pid"]: address(connection.get("peer_host")) for connection in connections}
    connection_of = {channel["pid"]: channel.get("connection") for channel in channels}
    return [
        {
            "vhost": vhost,
            "queue": consumer["queue_name"],
            "address": addresses.get(connection_of.get(consumer["channel_pid"]), ""),
        }
        for consumer in consumers
    ]


def main() -> None:
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)

    def ask(*arguments: str) -> list | None:
        try:
            return json.loads(rabbitmq_cli.call(*arguments, "--formatter", "json", timeout=20) or "[]")
        except rabbitmq_cli.CliError:
            return None

    vhosts = ask("list_vhosts", "name")
    if vhosts is None:
        module.exit_json(asked=False, consumers=[])
    connections = ask("list_connections", "pid", "peer_host") or []
    channels = ask("list_channels", "pid", "connection") or []
    consumers = []
    for name in sorted(vhost["name"] for vhost in vhosts):
        consumers += consumers_of(name, ask("list_consumers", "--vhost", name) or [], channels, connections)
    module.exit_json(asked=True, consumers=consumers)


if __name__ == "__main__":
    main()
