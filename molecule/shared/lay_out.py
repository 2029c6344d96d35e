#!/usr/bin/env python3
"""Copies a scenario's inventory to Molecule's ephemeral directory, where the scenario edits it.

Molecule calls this as its dependency step, before a run reads the inventory. Secrets generated there are kept.
`LAB_RELEASE=12 molecule test -s ROLE` leaves out the hosts with another release of Debian.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

IN_THE_LAB = """\
# Absolute paths without Jinja: testinfra reads them from the inventory and does not template.
ansible_user: root
ansible_ssh_private_key_file: {state}/id_ed25519
ansible_ssh_common_args: -o UserKnownHostsFile={state}/known_hosts -o StrictHostKeyChecking=accept-new

# A container shares the machine's kernel, clock and /proc/sys, so these cannot be set in it.
host_sysctl: {{}}
host_packages: [ca-certificates]

# Certificates, from an authority of this scenario.
pki_authority: first
pki_authorities_trusted: [first]
pki_authorities: "{{{{ vault_pki_authorities }}}}"
pki_identities: "{{{{ topology_identities }}}}"
pki_address: "{{{{ topology_address }}}}"
secrets_wanted: {{vault_pki_authorities: {{authorities: "{{{{ pki_authorities_trusted }}}}"}}}}
topology_address: "{{{{ ansible_host }}}}"
# The hosts count as being in Norway; what they reach outside is what this machine uses (lab/sites.py).
topology_country: "NO"
topology_sites: "{{{{ lab_sites_inside + lab_sites_outside }}}}"
lab_sites_inside:
  - {{name: machine, kind: administrators, addresses: [10.77.0.1], country: "NO"}}
  - {{name: visitors, kind: clients, addresses: [10.77.0.1], country: "NO"}}
lab_sites_outside: >-
  {{{{ ((lookup('ansible.builtin.file', '{state}/sites.yml', errors='ignore') or '{{}}') | from_yaml).topology_sites
     | default([]) }}}}
lab_host:
  name: "{{{{ inventory_hostname }}}}"
  ip: "{{{{ ansible_host }}}}"
  image: "localhost/grunnfjell-debian:{{{{ lab_release | default('13') }}}}"
  memory: "{{{{ lab_memory | default('1g') }}}}"
"""


def only(release: str, inventory: dict[str, Any]) -> dict[str, Any]:
    """The inventory without the hosts of other releases. The hosts that stay take over a group that would lose its last one.

    Where no host names a release, the scenario needs all of them together, as a cluster does: all get the release.
    """
    hosts = inventory["all"]["hosts"]
    if not any((values or {}).get("lab_release") for values in hosts.values()):
        inventory["all"]["hosts"] = {name: {**(values or {}), "lab_release": release} for name, values in hosts.items()}
        return inventory
    staying = {name: values for name, values in hosts.items() if (values or {}).get("lab_release", "13") == release}
    if not staying:
        raise SystemExit(f"LAB_RELEASE={release}: the scenario has no host with this release.")
    groups = [inventory["all"]]
    for group in groups:
        groups += [child for child in (group.get("children") or {}).values() if child]
        if group.get("hosts"):
            kept = {name: values for name, values in group["hosts"].items() if name in staying}
            group["hosts"] = kept or dict.fromkeys(staying)
    return inventory


def lay_out(scenario: Path, fleet: Path, state: Path) -> None:
    """Copy `scenario`/inventory to `fleet`. `state`: the directory with the lab's SSH key."""
    vault = fleet / "group_vars/all/vault.yml"
    secrets = vault.read_bytes() if vault.exists() else None
    shutil.rmtree(fleet, ignore_errors=True)
    # The bindings are links into inventories/example.
    shutil.copytree(scenario / "inventory", fleet, symlinks=False)
    (fleet / "group_vars/all/lab.yml").write_text(IN_THE_LAB.format(state=state), encoding="utf-8")
    if secrets is not None:
        vault.write_bytes(secrets)
    if release := os.environ.get("LAB_RELEASE"):
        file = fleet / "hosts.yml"
        file.write_text(yaml.safe_dump(only(release, yaml.safe_load(file.read_text(encoding="utf-8")))), encoding="utf-8")


if __name__ == "__main__":
    lay_out(*map(Path, sys.argv[1:]))
