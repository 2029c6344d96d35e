#!/usr/bin/env python3
"""Lays a scenario's inventory out in Molecule's ephemeral directory, where its edits may change it.

Called by Molecule as its dependency step, before a run reads the inventory. Secrets that were generated there stay.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

IN_THE_LAB = """\
# Paths are whole and hold no Jinja: testinfra reads them from the inventory as they stand.
ansible_user: root
ansible_ssh_private_key_file: {state}/id_ed25519
ansible_ssh_common_args: -o UserKnownHostsFile={state}/known_hosts -o StrictHostKeyChecking=accept-new

# What a container cannot do: its kernel, with the clock and the settings in /proc/sys, is the machine's.
host_sysctl: {{}}
host_packages: [ca-certificates]

# Who they are, by an authority of the scenario's own.
pki_authority: first
pki_authorities_trusted: [first]
pki_authorities: "{{{{ vault_pki_authorities }}}}"
pki_identities: "{{{{ topology_identities }}}}"
pki_address: "{{{{ topology_address }}}}"
secrets_wanted: {{vault_pki_authorities: {{authorities: "{{{{ pki_authorities_trusted }}}}"}}}}
topology_address: "{{{{ ansible_host }}}}"
lab_host:
  name: "{{{{ inventory_hostname }}}}"
  ip: "{{{{ ansible_host }}}}"
  image: "localhost/grunnfjell-debian:{{{{ lab_release | default('13') }}}}"
  memory: "{{{{ lab_memory | default('1g') }}}}"
"""


def lay_out(scenario: Path, fleet: Path, state: Path) -> None:
    """Copy `scenario`/inventory to `fleet`; `state` is where the lab keeps the key that it enters its hosts with."""
    vault = fleet / "group_vars/all/vault.yml"
    secrets = vault.read_bytes() if vault.exists() else None
    shutil.rmtree(fleet, ignore_errors=True)
    # The bindings are links to those of inventories/example.
    shutil.copytree(scenario / "inventory", fleet, symlinks=False)
    (fleet / "group_vars/all/lab.yml").write_text(IN_THE_LAB.format(state=state), encoding="utf-8")
    if secrets is not None:
        vault.write_bytes(secrets)


if __name__ == "__main__":
    lay_out(*map(Path, sys.argv[1:]))
