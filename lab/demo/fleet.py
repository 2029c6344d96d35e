"""The hosts of an inventory, as Ansible sees them, and a shell on each."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from dataclasses import dataclass
from functools import cached_property

import paramiko

from lab import sudo
from lab.demo import trust
from lab.machine import BIN, REPOSITORY, Refusal

# Ansible renders it: values in an inventory may be expressions.
FIELDS = """{{ {
  'groups': group_names,
  'address': topology_address | default(ansible_host),
  'login': ansible_host | default(inventory_hostname),
  'port': ansible_port | default(22) | int,
  'ssh_arguments': ansible_ssh_common_args | default(''),
  'user': ansible_user | default('root'),
  'key': ansible_ssh_private_key_file | default(''),
  'replaced': (rabbitmq_successor | default('')) | length > 0,
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
    # Certificates of the authorities that the fleet trusts, in PEM.
    authorities: str = ""
    # How Ansible connects, if not to `address` at port 22.
    login: str = ""
    port: int = 22
    ssh_arguments: str = ""
    # A broker whose place another one has taken.
    replaced: bool = False

    @property
    def url(self) -> str:
        return f"https://{self.bind}"

    @cached_property
    def ssh(self) -> paramiko.SSHClient:
        client = paramiko.SSHClient()
        # Ansible has just verified the host's key.
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        # Ansible reads a relative path from the repository, where ansible.cfg is.
        key = str(REPOSITORY / self.key) if self.key else None
        login = self.login or self.address
        proxy = proxy_command(self.ssh_arguments, login, self.port)
        script = f"cd {shlex.quote(str(REPOSITORY))} && exec {proxy}"
        sock = paramiko.ProxyCommand(f"sh -c {shlex.quote(script)}") if proxy else None
        client.connect(login, port=self.port, username=self.user, key_filename=key, timeout=20, sock=sock)
        return client

    @cached_property
    def elevation(self) -> tuple[str, str]:
        """The prefix of a command that needs root, and what precedes its standard input: the password, if sudo asks for one."""
        if self.user == "root":
            return "", ""
        if self.ssh.exec_command(sudo.PROBE)[1].channel.recv_exit_status() == 0:
            return "sudo -n ", ""
        return f"{sudo.WITH_PASSWORD} ", sudo.password_line()

    def run(self, command: list[str], stdin: str = "", timeout_s: float = 120) -> str:
        prefix, password = self.elevation
        writer, reader, errors = self.ssh.exec_command(prefix + shlex.join(command), timeout=timeout_s)
        writer.write(password + stdin)
        writer.channel.shutdown_write()
        output, error_output = reader.read().decode(), errors.read().decode()
        if reader.channel.recv_exit_status():
            raise Refusal(f"{self.name}: {shlex.join(command)} failed:\n{error_output or output}")
        return output


def proxy_command(arguments: str, host: str, port: int) -> str | None:
    """The command by which ssh would reach the host with these arguments (ansible_ssh_common_args); None if directly.

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
        members = [host for host in self.hosts if name in host.groups]
        if not members:
            raise Refusal(f"the inventory has no host in the group {name}; put one there.")
        return members


def read(inventory: str) -> Fleet:
    ansible = [str(BIN / "ansible"), "all", "-i", inventory, "-m", "ansible.builtin.debug", "-a", f"msg={FIELDS}"]
    environment = os.environ | {"ANSIBLE_LOAD_CALLBACK_PLUGINS": "1", "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json"}
    done = subprocess.run(ansible, env=environment, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Refusal(f"Ansible cannot read the inventory {inventory}:\n{done.stdout}{done.stderr}")
    hosts = parse(done.stdout)
    for authorities in {host.authorities for host in hosts}:
        trust.believe(authorities)
    return Fleet(hosts)


def parse(output: str) -> list[Host]:
    results = json.loads(output[output.index("{") :])["plays"][0]["tasks"][0]["hosts"]
    return [Host(name=name, **result["msg"] | {"groups": tuple(result["msg"]["groups"])}) for name, result in results.items()]
