#!/usr/bin/python
"""Observes where a host's data goes: listening programs, peers, mounts, and settings that send data elsewhere."""

DOCUMENTATION = r"""
module: residency_observed
short_description: Observe where a host's data is stored and sent
description:
  - Reads the kernel's tables and the configuration of well-known programs that send data elsewhere. Changes nothing, and returns
    no content of files except lines that name a target.
options:
  sites: {description: "Addresses of declared sites; names among them are resolved by this host.", type: list,
           elements: str, default: []}
author: maintainers
"""

EXAMPLES = r"""
- name: Observe where data goes
  residency_observed:
"""

RETURN = r"""
observed:
  description: >-
    C(listening) (address, port, protocol, program, user), C(peers) (address and port, direction, program, user), C(routes),
    C(addresses), C(names) (name to addresses), C(resolvers), C(mounts) (each C(network) or not), C(swap), C(remote) (settings
    that send data elsewhere: C(kind), C(file), C(line), C(target)), C(package_sources), C(time_servers), C(active) (units),
    C(firewall) (policies by chain).
  returned: always
  type: dict
"""

import ipaddress
import json
import re
import socket
import struct
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import outside
from ..module_utils import sockets as kernel
from ..module_utils.outside import lines_of, unique

NETWORK_FILESYSTEMS = re.compile(
    r"^(nfs\d?|cifs|smb\w*|ceph|glusterfs|fuse\.(sshfs|s3fs|rclone|glusterfs|davfs)|9p|afs|lustre|ocfs2|gfs2|davfs)$"
)
# The kernel's filesystems, which hold no personal data.
KERNELS = re.compile(
    r"^(proc|sysfs|devpts|mqueue|cgroup2?|securityfs|debugfs|tracefs|pstore|bpf|configfs|fusectl|hugetlbfs|autofs|efivarfs|"
    r"binfmt_misc|nsfs|rpc_pipefs|devtmpfs)$"
)
RSYSLOG = "etc/rsyslog.conf etc/rsyslog.d/*.conf"
SHIPPERS = "etc/filebeat/*.yml etc/fluent-bit/*.conf etc/vector/*.toml etc/promtail/*.yml"
POSTGRESQL = "etc/postgresql/*/*/*.conf etc/postgresql/*/*/conf.d/*.conf"
CRON = "etc/cron.d/* etc/cron.daily/* etc/crontab var/spool/cron/crontabs/*"
COPIERS = r"\b(?:rsync|scp|restic|borg|rclone|duplicity)\b.*?"
# Kind of site, files (globs), and the pattern of a line that names one. Comments are skipped.
REMOTE = [
    (kind, globs.split(), re.compile(pattern, re.IGNORECASE))
    for kind, globs, pattern in (
        ("log_sink", RSYSLOG, r"(?:^|\s)@@?(?:\(\w+\))?\[?(?P<target>[\w.:-]+)\]?"),
        ("log_sink", RSYSLOG, r'\btarget="(?P<target>[^"]+)"'),
        ("log_sink", "etc/syslog-ng/*.conf etc/syslog-ng/conf.d/*", r'\b(?:network|tcp|udp|syslog)\(\s*"(?P<target>[^"]+)"'),
        ("log_sink", "etc/systemd/journal-upload.conf etc/systemd/journal-upload.conf.d/*.conf", r"^URL=(?P<target>\S+)"),
        ("log_sink", "etc/systemd/journald.conf etc/systemd/journald.conf.d/*.conf", r"^ForwardToSocket=(?P<target>\S+)"),
        ("log_sink", SHIPPERS, r"(?:hosts?|endpoint|address|url)\W+(?P<target>(?:https?://)?[\w.-]+(?::\d+)?)"),
        ("metric_sink", "etc/telegraf/telegraf.conf etc/telegraf/telegraf.d/*", r"^\s*urls?\s*=\s*\[?\"(?P<target>[^\"]+)\""),
        ("metric_sink", "etc/collectd/collectd.conf etc/collectd/collectd.conf.d/*", r"^\s*Server\s+\"(?P<target>[^\"]+)\""),
        ("metric_sink", "etc/prometheus/*.yml", r"^\s*-?\s*url:\s*(?P<target>\S+)"),
        ("metric_sink", "etc/zabbix/zabbix_agent*.conf", r"^ServerActive=(?P<target>\S+)"),
        ("backup", "etc/pgbackrest.conf etc/pgbackrest/*.conf", r"^repo\d*-(?:host|s3-endpoint|azure-\w+)=(?P<target>\S+)"),
        ("backup", "etc/barman.conf etc/barman.d/*.conf", r"^\s*ssh_command\s*=.*?(?P<target>[\w.-]+@[\w.-]+)"),
        ("backup", POSTGRESQL, r"^\s*(?:archive_command|primary_conninfo|restore_command)\s*=\s*'(?P<target>[^']+)'"),
        ("backup", "etc/borgmatic/*.y*ml etc/borgmatic.d/*.y*ml", r"\bpath:\s*(?P<target>\S+)"),
        ("backup", "etc/restic/* etc/default/restic", r"RESTIC_REPOSITORY\W+(?P<target>[\w+:@/.-]+)"),
        ("backup", CRON, COPIERS + r"(?P<target>[\w.-]+@[\w.-]+|\w+://[\w.-]+|\b[\w.-]+:/)"),
        ("mail_relay", "etc/postfix/main.cf", r"^relayhost\s*=\s*\[?(?P<target>[\w.-]+)\]?"),
        ("mail_relay", "etc/msmtprc", r"^host\s+(?P<target>[\w.-]+)"),
        ("mail_relay", "etc/ssmtp/ssmtp.conf", r"^mailhub=(?P<target>[\w.-]+)"),
        ("mail_relay", "etc/nullmailer/remotes", r"^(?P<target>[\w.-]+)"),
        ("mail_relay", "etc/exim4/update-exim4.conf.conf", r"^dc_smarthost='(?P<target>[^':]+)"),
    )
]
SEND_NOTHING = re.compile(r"^\s*($|[#;]|//)")
# Credentials, which must not be in a report.
CREDENTIALS = re.compile(r"(?<=//)[^/@\s]+@|(password|passwd|secret|token|key)\s*[=:]\s*\S+", re.I)


def sockets(root):
    """Listening sockets and peers. A peer is inbound if its local port is a listening one."""
    processes = kernel.holders(root)
    listening, peers = [], []
    tables = {protocol: kernel.table(protocol, root) for protocol in ("tcp", "udp")}

    def who(row):
        return {"program": kernel.program_of(processes.get(row.inode)), "user": kernel.user_of(row.uid)}

    for protocol, state in (("tcp", kernel.LISTEN), ("udp", kernel.UNCONNECTED)):
        for row in tables[protocol]:
            if row.state == state and row.remote[1] == 0:
                listening.append({"address": row.local[0], "port": row.local[1], "protocol": protocol} | who(row))
    served = {row["port"] for row in listening if row["protocol"] == "tcp"}
    for protocol, rows in tables.items():
        for row in rows:
            if row.state == kernel.ESTABLISHED and not ipaddress.ip_address(row.remote[0]).is_loopback:
                inward = protocol == "tcp" and row.local[1] in served
                peers.append({"address": row.remote[0], "protocol": protocol, "direction": "in" if inward else "out"}
                             | {"port": row.local[1] if inward else row.remote[1]} | who(row))  # fmt: skip
    return unique(listening), unique(peers)


def routes(root):
    routes_found = []
    for fields in (line.split() for line in lines_of(root / "proc/net/route")[1:]):
        words = [socket.inet_ntoa(struct.pack("<L", int(fields[i], 16))) for i in (1, 2, 7)]
        network = str(ipaddress.ip_network(f"{words[0]}/{words[2]}", strict=False))
        routes_found.append({"to": network, "via": words[1] if words[1] != "0.0.0.0" else "", "interface": fields[0]})
    for fields in (line.split() for line in lines_of(root / "proc/net/ipv6_route")):
        network = f"{ipaddress.ip_address(bytes.fromhex(fields[0]))}/{int(fields[1], 16)}"
        via = ipaddress.ip_address(bytes.fromhex(fields[4]))
        if (
            fields[9] != "lo"
            and not ipaddress.ip_network(network).is_multicast
            and not ipaddress.ip_network(network).is_link_local
        ):
            routes_found.append({"to": network, "via": "" if via.is_unspecified else str(via), "interface": fields[9]})
    return unique(routes_found)


def mounts(root):
    """Mounted filesystems except the kernel's, one for each source and type."""
    mounted, seen = [], set()
    for fields in (line.split() for line in lines_of(root / "proc/mounts")):
        source, at, kind = fields[:3]
        if KERNELS.match(kind) or (source, kind) in seen:
            continue
        seen.add((source, kind))
        source = source if len(source) < 80 else source[:77] + "..."
        network = bool(NETWORK_FILESYSTEMS.match(kind)) or bool(re.match(r"^(//|[\w.-]+:/)", source))
        mounted.append({"source": source, "at": at.replace("\\040", " "), "type": kind, "network": network})
    # Filesystems for the next boot count as well.
    for fields in (line.split() for line in lines_of(root / "etc/fstab") if not SEND_NOTHING.match(line)):
        if len(fields) > 2 and NETWORK_FILESYSTEMS.match(fields[2]) and (fields[0], fields[2]) not in seen:
            mounted.append({"source": fields[0], "at": fields[1], "type": fields[2], "network": True})
    return mounted


def remote(root):
    """Lines of well-known programs' settings that send data elsewhere."""
    settings = []
    for kind, globs, what in REMOTE:
        for path in sorted(path for pattern in globs for path in root.glob(pattern) if path.is_file()):
            for line in lines_of(path):
                match = None if SEND_NOTHING.match(line) else what.search(line)
                if match and match["target"]:
                    shown = CREDENTIALS.sub("[hidden]", line.strip())[:200]
                    settings.append({"kind": kind, "file": "/" + str(path.relative_to(root)), "line": shown}
                                 | {"target": CREDENTIALS.sub("", match["target"])})  # fmt: skip
    return unique(settings)


def firewall(listing):
    """Policies of nftables' base chains: {"inet filter output (output)": "drop"}."""
    if not listing:
        return {}
    chains = [entry["chain"] for entry in json.loads(listing)["nftables"] if "chain" in entry]
    return {f"{c['family']} {c['table']} {c['name']} ({c['hook']})": c.get("policy", "accept") for c in chains if "hook" in c}


def is_name(text):
    """Whether it is neither an address nor a network."""
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return True
    return False


def addresses(listing):
    """The host's addresses, without loopback and link-local ones."""
    links = json.loads(listing or "[]")
    texts = [part["local"] for link in links for part in link.get("addr_info", []) if part.get("local")]
    return sorted(
        text for text in texts if not (ipaddress.ip_address(text).is_loopback or ipaddress.ip_address(text).is_link_local)
    )


def main() -> None:
    module = AnsibleModule(argument_spec={"sites": {"type": "list", "elements": "str", "default": []}}, supports_check_mode=True)
    root = Path("/")

    def succeeded(*argv):
        path = module.get_bin_path(argv[0], opt_dirs=["/usr/sbin", "/sbin"])
        if path is None:
            return ""
        code, out, _ = module.run_command([path, *argv[1:]])
        return out if code == 0 else ""

    def printed(*argv):
        path = module.get_bin_path(argv[0])
        return module.run_command([path, *argv[1:]])[1] if path else ""

    units = (*outside.TIME_UNITS, "rsyslog.service", "systemd-journal-upload.service")
    active = outside.active_units(units, printed)
    listening, peers = sockets(root)
    module.exit_json(
        changed=False,
        observed={
            "listening": listening,
            "peers": peers,
            "addresses": addresses(succeeded("ip", "-json", "address")),
            "routes": routes(root),
            "resolvers": outside.resolvers(root),
            "mounts": mounts(root),
            "swap": [line.split()[0] for line in lines_of(root / "proc/swaps")[1:]],
            "remote": remote(root),
            "package_sources": [*outside.apt_sources(root, printed), *outside.pip_sources(root)],
            "time_servers": outside.time_servers(root, active),
            "active": sorted(active),
            "names": outside.addresses_of(sorted(name for name in set(module.params["sites"]) if is_name(name))),
            "firewall": firewall(succeeded("nft", "--json", "list", "chains")),
        },
    )


if __name__ == "__main__":
    main()
