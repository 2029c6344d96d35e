"""sudo with a password for testinfra, which supports only passwordless sudo."""

from __future__ import annotations

import os
import subprocess

import testinfra.backend
from testinfra.backend.base import CommandResult
from testinfra.backend.ssh import SshBackend

from lab.sudo import PASSWORD_FILE, PROBE, WITH_PASSWORD, password_line


class SshBackendWithPassword(SshBackend):
    """Checks once per host whether sudo needs a password, and then sends it on the command's standard input."""

    asks: bool | None = None

    def get_sudo_command(self, command: str, sudo_user: str | None) -> str:
        if self.asks is None:
            self.asks = False
            self.asks = self.run_ssh(PROBE).rc != 0
        if not self.asks:
            return super().get_sudo_command(command, sudo_user)
        return self.quote(f"{WITH_PASSWORD} -u %s /bin/sh -c %s", sudo_user or "root", command)

    def run_local(self, command: str, *args: str) -> CommandResult:
        if not self.asks:
            return super().run_local(command, *args)
        line = self.encode(self.quote(command, *args))
        done = subprocess.run(line, shell=True, input=password_line().encode(), capture_output=True, check=False)
        return self.result(done.returncode, line, done.stdout, done.stderr)


def use_password() -> None:
    """Use this backend for SSH if the environment names a password file, as Ansible takes it in unattended runs."""
    if os.environ.get(PASSWORD_FILE):
        testinfra.backend.BACKENDS["ssh"] = f"{__name__}.SshBackendWithPassword"
