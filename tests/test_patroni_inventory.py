"""The inventory of docs/patroni.md, three databases behind HAProxy, is not refused."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from test_wrong_inventories import run_rows

from lab.machine import REPOSITORY

MEMBERS = ("db1", "worker1", "worker2")
BLOCKS = re.findall(r"```yaml\n(.*?)```", (REPOSITORY / "docs/patroni.md").read_text(encoding="utf-8"), re.DOTALL)


def documented(name: str) -> dict:
    """The variables of the block that begins with a comment about this file."""
    return next(yaml.safe_load(block) for block in BLOCKS if block.startswith(f"# group_vars/{name}"))


def sound() -> dict:
    hosts = {"hosts": {name: {} for name in MEMBERS}}
    etcd = "{{ dict(groups['etcd'] | zip(groups['etcd'] | map('extract', hostvars, 'topology_address'))) }}"
    roles = dict.fromkeys(("etcd", "postgresql", "patroni", "pgbouncer", "haproxy"))
    everywhere = {"topology_roles": {"host": "all", "pki": "all"} | {role: role for role in roles}}
    return {
        "groups": {
            "postgresql": {"hosts": {name: {} for name in MEMBERS[1:]}},
            "patroni": {"children": {"postgresql": {}}},
            "etcd": hosts,
            "pgbouncer": {"children": "gone", "hosts": {"web1": {}}},
            "haproxy": {"hosts": {"web1": {}}},
        },
        "vars": {
            "all": everywhere | documented("all/host.yml"),
            "etcd": {"etcd_members": etcd, "etcd_quota_backend_bytes": 134217728},
            "patroni": documented("patroni/patroni.yml"),
            "haproxy": documented("haproxy/haproxy.yml"),
            "pgbouncer": documented("pgbouncer/pgbouncer.yml"),
        },
    }


def test_the_documented_cluster_is_not_refused(tmp_path: Path) -> None:
    output = run_rows({"sound": sound()}, tmp_path)["sound"].output
    assert "This fleet cannot work" not in output, output
    assert "TASK [Let each role refuse what its host cannot carry]" in output, output
