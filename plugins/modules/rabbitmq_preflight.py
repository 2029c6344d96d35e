#!/usr/bin/python3
"""What stands against a broker on this host, before anything is changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rabbitmq_preflight
short_description: Refuse a broker that this host cannot carry, before any change
description:
  - Holds the role's inputs against each other and against the host, and fails with one sentence for each thing to edit.
  - Tells what is on the host already, so that a run changes only what is missing. Changes nothing itself.
options:
  data_dir: {description: Where the broker keeps its data., type: path, required: true}
  nodename: {description: Name of the node where the host has no data of one yet., type: str, required: true}
  series: {description: 'Series of the package that the host would run, e.g. C(4.0).', type: str, required: true}
  disk_free_limit_bytes: {description: Free disk in bytes below which publishers are held back., type: int, required: true}
  listeners: {description: 'Where clients connect, C(address:port).', type: list, elements: str, required: true}
  distribution_address: {description: Where nodes and tools connect., type: str, required: true}
  erlang_cookie: {description: The cookie., type: str, required: true}
  vhosts: {description: Declared virtual hosts., type: list, elements: dict, required: true}
  vhosts_removed: {description: Virtual hosts to delete., type: list, elements: str, required: true}
  users: {description: Declared users., type: list, elements: dict, required: true}
  user_passwords: {description: User to password., type: dict, required: true}
  policies: {description: Declared policies., type: list, elements: dict, required: true}
  parameters: {description: Further keys of rabbitmq.conf., type: dict, default: {}}
  plugins: {description: Plugins to enable., type: list, elements: str, default: []}
  files: {description: Files that the broker reads when it starts., type: list, elements: path, required: true}
author: maintainers
"""

EXAMPLES = r"""
- name: Refuse what this host cannot carry
  rabbitmq_preflight:
    data_dir: /var/lib/rabbitmq
    nodename: rabbit@broker1
    series: "4.0"
    disk_free_limit_bytes: 2147483648
    listeners: ["10.0.0.11:5671"]
    distribution_address: 127.0.0.1
    erlang_cookie: "{{ vault_rabbitmq_erlang_cookie }}"
    vhosts: [{name: shop}]
    vhosts_removed: []
    users: [{name: shop, permissions: [{vhost: shop}]}]
    user_passwords: "{{ vault_rabbitmq_user_passwords }}"
    policies: []
    files: [/etc/rabbitmq/rabbitmq.conf]
  register: broker
"""

RETURN = r"""
installed: {description: Whether the package is installed., returned: success, type: bool}
cookie_differs:
  description: Whether the host has a broker with another cookie.
  returned: success
  type: bool
nodename: {description: 'The node of this host: the one whose data it has, else I(nodename).', returned: success, type: str}
restart_due: {description: Whether the broker runs and has not read C(files) as they are now., returned: success, type: bool}
refusals: {description: The sentences., returned: failure, type: list, elements: str}
"""

import errno
import ipaddress
import os
import re
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import rabbitmq_cli, rabbitmq_node, rabbitmq_settings

# Debian's package replaces a cookie that looks like Erlang's own, and restarts the broker to do so.
ERLANGS_OWN_COOKIE = re.compile(r"^[A-Z]{20}$")
COOKIE_SHORTEST = 20
PASSWORD_SHORTEST = 12

# Read after, or instead of, rabbitmq.conf: what they say wins, with a log line at most.
OVERRIDING = ("/etc/rabbitmq/rabbitmq.config", "/etc/rabbitmq/advanced.config", "/etc/rabbitmq/conf.d/*.conf")

# Without this flag, which 3.13 brought, 4.0 does not boot.
FLAG_OF_3_13 = "message_containers"


def gib(size: int) -> str:
    return f"{size / 2**30:.2f} GiB ({size} bytes)"


def split_listener(listener: str) -> tuple[str, int]:
    """Address and port of C(address:port); the address of IPv6 stands in brackets."""
    address, colon, port = listener.rpartition(":")
    address = address.removeprefix("[").removesuffix("]")
    ipaddress.ip_address(address)
    if not colon or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError(listener)
    return address, int(port)


def cookie_refusals(cookie: str) -> Iterator[str]:
    remedy = "Set rabbitmq_erlang_cookie to 32 or more random letters and digits, e.g. from: openssl rand -hex 32"
    if ERLANGS_OWN_COOKIE.match(cookie):
        yield (
            "rabbitmq_erlang_cookie is 20 capital letters: Debian's package takes that for a weak one, replaces it and restarts "
            f"the broker. {remedy}"
        )
    elif not COOKIE_SHORTEST <= len(cookie) <= 255:
        yield f"rabbitmq_erlang_cookie has {len(cookie)} characters, and must have {COOKIE_SHORTEST} to 255. {remedy}"
    elif not re.fullmatch(r"[!-~]+", cookie):
        yield f"rabbitmq_erlang_cookie holds white space or characters outside ASCII. {remedy}"


def twice(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)


def object_refusals(
    vhosts: list[dict[str, Any]],
    vhosts_removed: list[str],
    users: list[dict[str, Any]],
    passwords: dict[str, Any],
    policies: list[dict[str, Any]],
) -> Iterator[str]:
    """Sentences for what is declared and contradicts itself."""
    declared = {vhost["name"] for vhost in vhosts}
    for kind, names in (("vhosts", [v["name"] for v in vhosts]), ("users", [u["name"] for u in users])):
        for name in twice(names):
            yield f"rabbitmq_{kind} names {name!r} twice. Keep one of the two."
    for name in twice(f"{policy['vhost']}: {policy['name']}" for policy in policies):
        yield f"rabbitmq_policies names {name!r} twice. Keep one of the two."
    for name in sorted(declared & set(vhosts_removed)):
        yield f"{name!r} stands in rabbitmq_vhosts and in rabbitmq_vhosts_removed. Take it out of one of them."
    for user in users:
        name = user["name"]
        if not passwords.get(name):
            yield (
                f"The user {name!r} of rabbitmq_users has no password. Add it to vault_rabbitmq_user_passwords, or take the user "
                "out."
            )
        elif not isinstance(passwords[name], str):
            yield f"The password of {name!r} in rabbitmq_user_passwords is no string. Put it in quotes."
        elif len(passwords[name]) < PASSWORD_SHORTEST:
            yield (
                f"The password of {name!r} in rabbitmq_user_passwords has {len(passwords[name])} characters, and must have "
                f"{PASSWORD_SHORTEST} "
                f"at least. Set a random one, e.g. from: openssl rand -hex 24"
            )
        if name == "guest":
            yield "rabbitmq_users names 'guest', which everybody knows. Choose another name."
        granted = [permission["vhost"] for permission in user.get("permissions") or []]
        for vhost in twice(granted):
            yield f"The user {name!r} has permissions in {vhost!r} twice. Keep one of the two."
        for vhost in sorted(set(granted) - declared):
            yield (
                f"The user {name!r} has permissions in {vhost!r}, which is not in rabbitmq_vhosts. Add it there, or take them "
                "out."
            )
    for policy in policies:
        if policy["vhost"] not in declared:
            yield (
                f"The policy {policy['name']!r} is for the virtual host {policy['vhost']!r}, which is not in rabbitmq_vhosts. "
                f"Add it there, or take the policy out."
            )


def address_refusals(listeners: list[str], distribution: str, ours: bool) -> Iterator[str]:
    """Sentences for addresses that are not this host's, and for ports that another program has.

    C(ours): a broker of ours may have them.
    """
    if not listeners:
        yield "rabbitmq_listeners_ssl is empty: nobody could connect. Name the host's private address, e.g. 10.0.0.11:5671."
    for listener in listeners:
        try:
            address, port = split_listener(listener)
        except ValueError:
            yield f"rabbitmq_listeners_ssl holds {listener!r}, which is not address:port, e.g. 10.0.0.11:5671 or [fd00::1]:5671."
            continue
        yield from bindable("rabbitmq_listeners_ssl", address, port, ours)
    try:
        ipaddress.ip_address(distribution)
    except ValueError:
        yield (
            f"rabbitmq_distribution_address is {distribution!r}, which is no address. Use 127.0.0.1, or the host's private "
            "address in a cluster."
        )
    else:
        yield from bindable("rabbitmq_distribution_address", distribution, 25672, ours)


def bindable(name: str, address: str, port: int, ours: bool) -> Iterator[str]:
    parsed = ipaddress.ip_address(address)
    if parsed.is_unspecified:
        yield f"{name} holds {address}, which is every address of the host, public ones too. Name the private address."
        return
    family = socket.AF_INET6 if parsed.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, 0 if ours else port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                yield (
                    f"{name} holds port {port} on {address}, which another program of this host has (ss -ltnp tells which). Stop "
                    "that, or choose another port."
                )
            else:
                yield (
                    f"{name} holds {address}, which is not an address of this host ({error.strerror}). Name one that `ip "
                    "address` lists."
                )


def disk_refusals(data_dir: Path, limit: int) -> Iterator[str]:
    """A sentence if the broker would hold every publisher back from its first second."""
    started = (data_dir / "mnesia").is_dir()
    place = data_dir
    while not place.exists():
        place = place.parent
    disk = os.statvfs(place)
    # A broker that has data may be short of disk for a while, and must stay repairable; one that has none must have it free.
    room = disk.f_frsize * (disk.f_blocks if started else disk.f_bavail)
    if room <= limit:
        yield (
            f"The filesystem of {data_dir} has {gib(room)} {'in all' if started else 'free'}, and the broker's disk limit is "
            f"{gib(limit)}: "
            f"it would accept nothing, from its first second. Give {data_dir} a larger filesystem, or lower "
            "rabbitmq_disk_free_limit (× memory)."
        )


def data_refusals(data_dir: Path, series: str, nodes: list[str]) -> Iterator[str]:
    """A sentence if the data is of 3.x and the package of 4.x."""
    flags = [rabbitmq_node.feature_flags(data_dir, node) for node in nodes]
    if int(series.split(".")[0]) < 4 or all(text is None or FLAG_OF_3_13 in text for text in flags):
        return
    yield (
        f"{data_dir} holds the data of a broker older than 3.13, on which {series} does not boot and which it may spoil. "
        "Build a broker on a fresh host of the same group, and bind application_broker_hosts of the producers and of one "
        "worker to it; the other workers empty this one's queues; then take this host out of the inventory. "
        f"If nothing in it is needed: move {data_dir}/mnesia away and run again; users and virtual hosts come from the "
        "inventory."
    )


def queues_in_use(vhost: str) -> tuple[int, int] | None:
    """As rabbitmq_cli.in_use. Without an answer nothing is refused yet: the role starts the broker, then asks again."""
    try:
        return rabbitmq_cli.in_use(vhost)
    except rabbitmq_cli.CliError:
        return 0, 0


def removal_refusals(
    present: set[str],
    vhosts: list[dict[str, Any]],
    vhosts_removed: list[str],
    in_use: Callable[[str], tuple[int, int] | None] = queues_in_use,
) -> Iterator[str]:
    """Sentences for virtual hosts that left the inventory with work in them, and are not named a second time."""
    for name in sorted(present - {vhost["name"] for vhost in vhosts} - set(vhosts_removed)):
        if reason := rabbitmq_cli.kept_because(name, in_use(name)):
            yield reason


def configuration_refusals(root: Path = Path("/")) -> Iterator[str]:
    for pattern in OVERRIDING:
        for path in sorted(root.glob(pattern.lstrip("/"))):
            yield (
                f"/{path.relative_to(root)} overrides what this role writes to rabbitmq.conf, without a word. "
                f"Bring what you need of it into the inventory, and move the file away."
            )


def settings_refusals(parameters: dict[str, Any], plugins: list[str], installed: bool) -> Iterator[str]:
    """Sentences for settings and plugins on which the broker would not start."""
    for name in plugins:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            yield f"rabbitmq_plugins holds {name!r}, which is not a plugin's name, e.g. rabbitmq_prometheus. Correct it."
            return
    missing = rabbitmq_settings.missing_plugins(plugins)
    for name in missing:
        yield f"rabbitmq_plugins holds {name}, which the installed package does not bring (rabbitmq-plugins list). Take it out."
    if installed and not missing:
        for problem in rabbitmq_settings.problems(parameters, plugins):
            yield f"The broker refuses rabbitmq_parameters: {problem}. Correct it, or enable its plugin in rabbitmq_plugins."


def package_status() -> str:
    """dpkg's word for the package: C(installed), C(not-installed), or what an interrupted installation left it in."""
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", "rabbitmq-server"]
    return subprocess.run(query, capture_output=True, text=True, check=False).stdout or "not-installed"


def cookie_differs(data_dir: Path, cookie: str) -> bool:
    try:
        return (data_dir / ".erlang.cookie").read_text(encoding="utf-8").strip() != cookie
    except FileNotFoundError:
        return False


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "data_dir": {"type": "path", "required": True},
            "nodename": {"type": "str", "required": True},
            "series": {"type": "str", "required": True},
            "disk_free_limit_bytes": {"type": "int", "required": True},
            "listeners": {"type": "list", "elements": "str", "required": True},
            "distribution_address": {"type": "str", "required": True},
            "erlang_cookie": {"type": "str", "required": True, "no_log": True},
            "vhosts": {"type": "list", "elements": "dict", "required": True},
            "vhosts_removed": {"type": "list", "elements": "str", "required": True},
            "users": {"type": "list", "elements": "dict", "required": True},
            "user_passwords": {"type": "dict", "required": True, "no_log": True},
            "policies": {"type": "list", "elements": "dict", "required": True},
            "parameters": {"type": "dict", "default": {}},
            "plugins": {"type": "list", "elements": "str", "default": []},
            "files": {"type": "list", "elements": "path", "required": True},
        },
        supports_check_mode=True,
    )
    given = module.params
    status = package_status()
    installed = status == "installed"
    data_dir = Path(given["data_dir"])
    try:
        node, unclear = rabbitmq_node.node_of(data_dir, given["nodename"]), []
        nodes = [node]
    except rabbitmq_node.Unclear as sentence:
        node, unclear = given["nodename"], [str(sentence)]
        nodes = rabbitmq_node.nodes_with_data(data_dir)
    present = rabbitmq_node.virtual_hosts(data_dir, node)
    sentences = [
        *unclear,
        *cookie_refusals(given["erlang_cookie"]),
        *object_refusals(given["vhosts"], given["vhosts_removed"], given["users"], given["user_passwords"], given["policies"]),
        *address_refusals(given["listeners"], given["distribution_address"], ours=status != "not-installed"),
        *disk_refusals(data_dir, given["disk_free_limit_bytes"]),
        *data_refusals(data_dir, given["series"], nodes),
        *removal_refusals(present, given["vhosts"], given["vhosts_removed"]),
        *configuration_refusals(),
        *settings_refusals(given["parameters"], given["plugins"], installed),
    ]
    if sentences:
        text = "Nothing was changed. This host cannot carry the broker as declared:\n" + "\n".join(f"  * {s}" for s in sentences)
        module.fail_json(msg=text, refusals=sentences)
    module.exit_json(
        installed=installed,
        nodename=node,
        cookie_differs=installed and cookie_differs(data_dir, given["erlang_cookie"]),
        restart_due=installed and rabbitmq_node.restart_due(given["files"]),
    )


if __name__ == "__main__":
    main()
