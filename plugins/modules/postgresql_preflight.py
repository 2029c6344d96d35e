#!/usr/bin/python3
"""What stands against a PostgreSQL of the declared version on this host, before anything is changed."""

from __future__ import annotations

DOCUMENTATION = r"""
module: postgresql_preflight
short_description: Refuse a PostgreSQL that would hide or shut out what the host already holds
description:
  - Refuses a host that holds data of another major version which would be left out of sight, and a cluster that the kit has not
    configured yet and that holds databases which nobody declared. Changes nothing.
options:
  version: {description: Major version that the host would run., type: str, required: true}
  databases: {description: Databases that are declared or to be removed., type: list, elements: str, required: true}
  data_dir: {description: Where the clusters keep their data., type: path, default: /var/lib/postgresql}
  config_dir: {description: Where their configuration is., type: path, default: /etc/postgresql}
author: maintainers
"""

EXAMPLES = r"""
- name: Refuse what this host cannot carry
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
    """Debian's start.conf: auto, manual or disabled."""
    try:
        words = [line.split("#")[0].strip() for line in (config / "start.conf").read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        return False
    return "auto" in words


def other_versions(data_dir: Path, config_dir: Path, version: str) -> Iterator[str]:
    """Sentences. A cluster that pg_upgradecluster left behind starts only by hand, and may stay for the way back."""
    upgraded = (data_dir / version / "main" / "PG_VERSION").exists()
    for mark in sorted(data_dir.glob("*/*/PG_VERSION")):
        cluster = mark.parent
        other = cluster.parent.name
        if other == version or (upgraded and not starts_by_itself(config_dir / other / cluster.name)):
            continue
        empty = f"drop the empty one (pg_dropcluster --stop {version} main)" if upgraded else f"install postgresql-{version}"
        yield (
            f"{cluster} holds data of PostgreSQL {other}, and this Debian's is {version}, which would start beside it and empty. "
            f"To keep the data, {empty}, then run pg_upgradecluster -v {version} {other} {cluster.name} and "
            f"switch checksums on (docs/hardening.md has the commands); "
            f"to lose it, run pg_dropcluster --stop {other} {cluster.name}."
        )


def undeclared_databases(config: Path, held: list[str], declared: list[str]) -> Iterator[str]:
    """Only before the kit's first run: its own cluster may hold what somebody added later."""
    undeclared = [name for name in held if name not in declared]
    if undeclared and not (config / "grunnfjell_hba.conf").exists():
        yield (
            f"The cluster in {config} holds {', '.join(undeclared)}, and the access rules that would replace its own let in the "
            "declared databases only. Declare them in postgresql_databases, or drop them."
        )


def held_databases(data: Path) -> list[str]:
    """Those of a running cluster; its process's file names the port. One that is down serves nobody who could be shut out."""
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
