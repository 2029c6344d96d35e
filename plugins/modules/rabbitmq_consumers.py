#!/usr/bin/python
"""Who consumes from a broker's virtual hosts."""

DOCUMENTATION = r"""
module: rabbitmq_consumers
short_description: Who consumes from a broker's virtual hosts
description:
  - Lists each consumer of the running broker with its queue and the address that it came from. Changes nothing.
  - A broker that is not installed, or does not run, is not asked; then C(asked) is false.
author: maintainers
"""

EXAMPLES = r"""
- name: Ask the broker who consumes
  rabbitmq_consumers:
"""

RETURN = r"""
asked: {description: Whether the broker answered., type: bool, returned: always}
consumers:
  description: "Of each consumer C(vhost), C(queue) and C(address), the last one empty where its connection has just gone."
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
    """The broker writes an address as the list of its numbers, in IPv6 of sixteen bits each, and a name as text."""
    if not isinstance(host, list):
        return str(host or "")
    if len(host) == 4:
        return ".".join(str(byte) for byte in host)
    return str(ipaddress.ip_address(b"".join(int(group).to_bytes(2, "big") for group in host)))


def consumers_of(vhost: str, consumers: list, channels: list, connections: list) -> list[dict[str, str]]:
    """Consumers of a virtual host with the addresses of their connections, from rabbitmqctl's three lists."""
    places = {connection["pid"]: address(connection.get("peer_host")) for connection in connections}
    carriers = {channel["pid"]: channel.get("connection") for channel in channels}
    return [
        {"vhost": vhost, "queue": each["queue_name"], "address": places.get(carriers.get(each["channel_pid"]), "")}
        for each in consumers
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
    found = []
    for name in sorted(vhost["name"] for vhost in vhosts):
        found += consumers_of(name, ask("list_consumers", "--vhost", name) or [], channels, connections)
    module.exit_json(asked=True, consumers=found)


if __name__ == "__main__":
    main()
