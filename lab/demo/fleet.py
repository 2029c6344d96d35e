"""The hosts of an inventory, as Ansible sees them, and a shell on each."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import paramiko

from lab.demo import trust
from lab.machine import REPOSITORY, Refusal

BIN = Path(sys.executable).parent

# Rendered by Ansible itself: what stands in the inventory may be an expression.
WANTED = """{{ {
  'groups': group_names,
  'address': topology_address | default(ansible_host),
  'user': ansible_user | default('root'),
  'key': ansible_ssh_private_key_file | default(''),
  'application': application_name | default(''),
  'bind': producer_bind | default(''),
  'authorities': (pki_authorities_trusted | map('extract', pki_authorities, 'certificate') | join('\\n'))
                 if pki_authorities is defined else '',
  'data': (application_environment | default({})).NEWSROOM_DATA_DIR | default('/var/lib/newsroom'),
  'logs': celery_worker_log_directory | default('/var/log/celery')
} }}"""


@dataclass(frozen=True)
class Host:
    name: str
    groups: tuple[str, ...]
    address: str
    user: str
    key: str
    application: str
    bind: str
    data: str
    logs: str
    # Certificates of those whom the fleet believes, in PEM.
    authorities: str = ""

    @property
    def url(self) -> str:
        return f"https://{self.bind}"

    @cached_property
    def ssh(self) -> paramiko.SSHClient:
        client = paramiko.SSHClient()
        # Ansible has just been there, and has judged the host's key.
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        # Ansible reads a relative path from the repository's root, where ansible.cfg is.
        key = str(REPOSITORY / self.key) if self.key else None
        client.connect(self.address, username=self.user, key_filename=key, timeout=10)
        return client

    def run(self, command: list[str], stdin: str = "", timeout_s: float = 120) -> str:
        line = shlex.join(command if self.user == "root" else ["sudo", "-n", *command])
        writing, reading, failing = self.ssh.exec_command(line, timeout=timeout_s)
        writing.write(stdin)
        writing.channel.shutdown_write()
        said, complained = reading.read().decode(), failing.read().decode()
        if reading.channel.recv_exit_status():
            raise Refusal(f"{self.name}: {shlex.join(command)} failed:\n{complained or said}")
        return said


@dataclass(frozen=True)
class Fleet:
    hosts: list[Host]

    def group(self, name: str) -> list[Host]:
        found = [host for host in self.hosts if name in host.groups]
        if not found:
            raise Refusal(f"the inventory has no host in the group {name}; the demo needs one.")
        return found


def read(inventory: str) -> Fleet:
    ansible = [str(BIN / "ansible"), "all", "-i", inventory, "-m", "ansible.builtin.debug", "-a", f"msg={WANTED}"]
    environment = os.environ | {"ANSIBLE_LOAD_CALLBACK_PLUGINS": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    done = subprocess.run(ansible, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refusal(f"Ansible cannot read the inventory {inventory}:\n{done.stdout}{done.stderr}")
    hosts = parse(done.stdout)
    for authorities in {host.authorities for host in hosts}:
        trust.believe(authorities)
    return Fleet(hosts)


def parse(said: str) -> list[Host]:
    told = json.loads(said[said.index("{") :])["plays"][0]["tasks"][0]["hosts"]
    return [Host(name=name, **answer["msg"] | {"groups": tuple(answer["msg"]["groups"])}) for name, answer in told.items()]
