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
  'login': ansible_host | default(inventory_hostname),
  'port': ansible_port | default(22) | int,
  'ssh_arguments': ansible_ssh_common_args | default(''),
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
    # How Ansible connects, where that is not the fleet's own address at port 22.
    login: str = ""
    port: int = 22
    ssh_arguments: str = ""

    @property
    def url(self) -> str:
        return f"https://{self.bind}"

    @cached_property
    def ssh(self) -> paramiko.SSHClient:
        client = paramiko.SSHClient()
        # Ansible has just been there, and has verified the host's key.
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        # Ansible reads a relative path from the repository's root, where ansible.cfg is.
        key = str(REPOSITORY / self.key) if self.key else None
        login = self.login or self.address
        through = proxy_command(self.ssh_arguments, login, self.port)
        sock = (
            paramiko.ProxyCommand(f"sh -c {shlex.quote(f'cd {shlex.quote(str(REPOSITORY))} && exec {through}')}")
            if through
            else None
        )
        client.connect(login, port=self.port, username=self.user, key_filename=key, timeout=20, sock=sock)
        return client

    @cached_property
    def elevation(self) -> tuple[str, str]:
        """What comes in front of a command that needs root, and before its standard input: sudo's password, where it asks."""
        if self.user == "root":
            return "", ""
        if self.ssh.exec_command("sudo -n true")[1].channel.recv_exit_status() == 0:
            return "sudo -n ", ""
        return "sudo -kSp '' ", become_password() + "\n"

    def run(self, command: list[str], stdin: str = "", timeout_s: float = 120) -> str:
        front, password = self.elevation
        writing, reading, failing = self.ssh.exec_command(front + shlex.join(command), timeout=timeout_s)
        writing.write(password + stdin)
        writing.channel.shutdown_write()
        output, errors = reading.read().decode(), failing.read().decode()
        if reading.channel.recv_exit_status():
            raise Refusal(f"{self.name}: {shlex.join(command)} failed:\n{errors or output}")
        return output


def become_password() -> str:
    """Where Ansible takes it from in a run without a person."""
    file = os.environ.get("ANSIBLE_BECOME_PASSWORD_FILE")
    if not file:
        raise Refusal("sudo asks for a password there: write it to a file and name that file in ANSIBLE_BECOME_PASSWORD_FILE.")
    return (REPOSITORY / file).read_text(encoding="utf-8").strip()


def proxy_command(arguments: str, host: str, port: int) -> str | None:
    """What ssh would run to reach the host by these arguments (ansible_ssh_common_args); None for a direct way.

    >>> proxy_command("-o StrictHostKeyChecking=yes -J me@jump.test:2222", "10.0.0.5", 22)
    'ssh -W 10.0.0.5:22 -p 2222 me@jump.test'
    """
    words = shlex.split(arguments)
    for word, following in zip(words, [*words[1:], ""], strict=True):
        option = following if word == "-o" else word.removeprefix("-o")
        if option.startswith("ProxyCommand="):
            return option.removeprefix("ProxyCommand=").replace("%h", host).replace("%p", str(port))
        if jump := following if word == "-J" else option.removeprefix("ProxyJump=") if option.startswith("ProxyJump=") else "":
            server, _, at = jump.partition(":")
            return shlex.join(["ssh", "-W", f"{host}:{port}", *(["-p", at] if at else []), server])
    return None


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
