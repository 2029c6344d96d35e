#!/usr/bin/python3
"""Why this host cannot run the declared version of PostgreSQL, before anything is changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_preflight
short_description: Refuse a PostgreSQL that would hide existing data
description:
  - Refuses a host with data of another major version, which the new server would not see, and a cluster with undeclared databases
    that the kit has not configured yet. Changes nothing.
options:
  version: {description: Major version that the host will run., type: str, required: true}
  databases: {description: Databases that are declared or to be removed., type: list, elements: str, required: true}
  data_dir: {description: Directory of the clusters' data., type: path, default: /var/lib/postgresql}
  config_dir: {description: Directory of their configuration., type: path, default: /etc/postgresql}
author: maintainers
"""

EXAMPLES = r"""
- name: Refuse what this host cannot run
  postgresql_preflight:
    version: "17"
    databases: [newsroom]
"""

RETURN = r"""
refusals: {description: The sentences., returned: failure, type: list, elements: str}
"""

from collections.abc import Iterator
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import psql

DATABASES_SQL = "SELECT datname FROM pg_database WHERE datname NOT IN ('postgres', 'template0', 'template1') ORDER BY datname"


def starts_by_itself(config: Path) -> bool:
    """By Debian's start.conf: auto, manual or disabled."""
    try:
        words = [line.split("#")[0].strip() for line in (config / "start.conf").read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return False
    return "auto" in words


def other_versions(data_dir: Path, config_dir: Path, version: str) -> Iterator[str]:
    """Sentences. A cluster that pg_upgradecluster left behind starts only by hand, and may stay for a rollback."""
    upgraded = (data_dir / version / "main" / "PG_VERSION").exists()
    for mark in sorted(data_dir.glob("*/*/PG_VERSION")):
        cluster = mark.parent
        other = cluster.parent.name
        if other == version or (upgraded and not starts_by_itself(config_dir / other / cluster.name)):
            continue
        empty = f"drop the empty one (pg_dropcluster --stop {version} main)" if upgraded else f"install postgresql-{version}"
        yield (
            f"{cluster} holds data of PostgreSQL {other}, but this Debian has {version}, which would start without that data. "
            f"To keep the data, {empty}, then run pg_upgradecluster -v {version} {other} {cluster.name} and "
            f"switch checksums on (docs/hardening.md has the commands); "
            f"where pgBackRest backs it up, playbooks/move_database.yml rehearses and does this (docs/next-debian.md); "
            f"to lose it, run pg_dropcluster --stop {other} {cluster.name}."
        )


def undeclared_databases(config: Path, held: list[str], declared: list[str]) -> Iterator[str]:
    """Only before the kit's first run: later, databases may have been added by hand."""
    undeclared = [name for name in held if name not in declared]
    if undeclared and not (config / "grunnfjell_hba.conf").exists():
        yield (
            f"The cluster in {config} holds {', '.join(undeclared)}, but its new access rules would admit clients to declared "
            "databases only. Declare them in postgresql_databases, or drop them."
        )


def held_databases(data: Path) -> list[str]:
    """The databases of a running cluster; one that is down has no clients to shut out."""
    try:
        port = int((data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[3])
        return psql.superuser(DATABASES_SQL, port).split("\n")[:-1]
    except (FileNotFoundError, IndexError, ValueError, psql.PsqlError):
        return []


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "databases": {"type": "list", "elements": "str", "required": True},
            "data_dir": {"type": "path", "default": "/var/lib/postgresql"},
            "config_dir": {"type": "path", "default": "/etc/postgresql"},
        },
        supports_check_mode=True,
    )
    version, data_dir, config_dir = module.params["version"], Path(module.params["data_dir"]), Path(module.params["config_dir"])
    refusals = [
        *other_versions(data_dir, config_dir, version),
        *undeclared_databases(
            config_dir / version / "main", held_databases(data_dir / version / "main"), module.params["databases"]
        ),
    ]
    if refusals:
        module.fail_json(msg="Nothing was changed. " + " ".join(refusals), refusals=refusals)
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
