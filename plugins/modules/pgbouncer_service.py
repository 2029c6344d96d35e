#!/usr/bin/python
# SPDX-License-Identifier: MIT

from __future__ import annotations

DOCUMENTATION = r"""
---
module: pgbouncer_service
short_description: Configure PgBouncer and keep it running with the least disturbance
description:
  - Writes C(pgbouncer.ini), the list of users and the unit's drop-in, and masks Debian's socket unit, which would listen
    on all addresses.
  - A new C(pgbouncer.ini) is first read by a second process that listens only in a private directory; a file that it
    refuses is never put in place.
  - Changeable settings are reloaded. The service restarts only for a setting that C(SHOW CONFIG) calls unchangeable, or
    for a descriptor limit that cannot be raised in the running process; Debian's unit stops with SIGINT, so running
    transactions end first.
options:
  ini: {description: Content of C(/etc/pgbouncer/pgbouncer.ini)., type: str, required: true}
  settings: {description: "The keys and values of its section C([pgbouncer]).", type: dict, required: true}
  userlist: {description: Content of C(/etc/pgbouncer/userlist.txt)., type: str, required: true}
  dropin: {description: "Content of the unit's drop-in.", type: str, required: true}
  nofile: {description: Descriptor limit that the process needs., type: int, required: true}
  timeout: {description: Seconds that the service may take to answer., type: int, default: 30}
author: [Grunnfjell maintainers]
attributes:
  check_mode: {support: full, description: Predicts changed files and a restart.}
  diff_mode: {support: full, description: Shows the files; for the list of users only whether it changes.}
"""

EXAMPLES = r"""
- name: Configure PgBouncer
  pgbouncer_service:
    ini: "[pgbouncer]\nlisten_port = 6432\n"
    settings: {listen_port: "6432"}
    userlist: ""
    dropin: "[Service]\nLimitNOFILE=2048\n"
    nofile: 2048
"""

RETURN = r"""
action: {description: 'What happened to the service: none, start, reload or restart.', returned: always, type: str}
restart_for: {description: What required the restart., returned: always, type: list, elements: str}
"""

import os
import re
import resource
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import psql
from ..module_utils.whole_files import ManagedFile, journal, usual_umask, write_files

UNIT = "pgbouncer.service"
SOCKET_UNIT = "pgbouncer.socket"
INI = "/etc/pgbouncer/pgbouncer.ini"
# It reads two small files; a busy machine may need seconds to start it.
TWIN_SECONDS = 10
WORDS = {"yes": "1", "on": "1", "true": "1", "no": "0", "off": "0", "false": "0"}


def plain(key, value):
    """A value in one canonical spelling."""
    value = WORDS.get(value.strip().lower(), value.strip())
    if key == "unix_socket_mode" and value.startswith("0"):
        value = str(int(value, 8))
    try:
        return repr(float(value))
    except ValueError:
        return value


def differing(running, wanted):
    """Keys with another value in the running service: (those that a reload changes, those that need a restart).

    running: SHOW CONFIG's rows by their key, each with value, default and changeable.
    """
    soft, hard = [], []
    for key, row in running.items():
        # A key that left the file returns to its default, except for the keys that PgBouncer sets itself.
        if key in wanted:
            value = wanted[key]
        elif row["changeable"] == "yes" or key in ("conffile", "service_name", "job_name"):
            continue
        else:
            value = row["default"]
        if plain(key, row["value"]) != plain(key, value):
            (soft if row["changeable"] == "yes" else hard).append(key)
    return sorted(soft), sorted(hard)


def descriptor_limit(limits):
    """The soft limit in the text of /proc/PID/limits."""
    match = re.search(r"^Max open files\s+(\d+)", limits, re.MULTILINE)
    return int(match[1]) if match else 0


def twin_ini(ini, directory):
    """The same configuration with a private socket only: of a repeated section, the last value of a key counts."""
    return ini + (
        "\n[pgbouncer]\nlisten_addr =\npidfile =\nlogfile =\nuser =\nso_reuseport = 0\nsyslog = 0\n"
        f"unix_socket_dir = {directory}\n"
    )


class Bouncer:
    def __init__(self, module):
        self.module = module

    def show(self):
        _, out, _ = self.module.run_command(
            ["systemctl", "show", UNIT, "--property=ActiveState,MainPID,NeedDaemonReload,UnitFileState"]
        )
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def console_address(self, pid):
        """Directory and port of the socket that the running process listens on, whatever the file says."""
        with open("/proc/net/unix", encoding="utf-8") as handle:
            fields = [line.split() for line in handle]
        for path in sorted({line[7] for line in fields if len(line) == 8}):
            match = re.fullmatch(r"(/.*)/\.s\.PGSQL\.(\d+)", path)
            if not match:
                continue
            with socket.socket(socket.AF_UNIX) as client:
                try:
                    client.connect(path)
                except OSError:
                    continue
                peer, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if peer == pid:
                return match[1], match[2]
        return None

    def console(self, pid, command):
        """Rows of a console command. PgBouncer's system user needs no password for the console."""
        address = self.console_address(pid)
        if not address:
            return None
        try:
            return psql.console(command, *address)
        except psql.PsqlError as error:
            if command == "RELOAD":
                self.fail(f"PgBouncer refuses to reload: {error}")
            return None

    def fail(self, message):
        self.module.fail_json(msg=f"{message}\n{journal(self.module, UNIT)}")

    def systemctl(self, *arguments):
        rc, _, err = self.module.run_command(["systemctl", *arguments])
        if rc:
            self.fail(f"systemctl {' '.join(arguments)} failed: {err.strip()}")

    def wait(self):
        deadline = time.monotonic() + self.module.params["timeout"]
        while time.monotonic() < deadline:
            if self.console(int(self.show()["MainPID"]), "SHOW VERSION") is not None:
                return
            time.sleep(0.05)
        self.fail(f"{UNIT} does not answer on its console after {self.module.params['timeout']} s.")

    def refuse_wrong_ini(self, ini):
        directory = tempfile.mkdtemp(prefix="grunnfjell-")
        try:
            path = os.path.join(directory, "pgbouncer.ini")
            users = os.path.join(directory, "userlist.txt")
            open(users, "w", encoding="utf-8").close()
            with open(path, "w", encoding="utf-8") as handle:
                handle.write(twin_ini(ini, directory) + f"auth_file = {users}\n")
            for item in (directory, path, users):
                shutil.chown(item, "postgres", "postgres")
            process = subprocess.Popen(
                ["/usr/sbin/pgbouncer", path], user="postgres", group="postgres", extra_groups=[], cwd="/",
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
            )  # fmt: skip
            output, deadline = b"", time.monotonic() + TWIN_SECONDS
            while b"process up" not in output and time.monotonic() < deadline:
                if not select.select([process.stderr], [], [], 0.1)[0]:
                    continue
                piece = os.read(process.stderr.fileno(), 65536)
                if not piece:
                    break
                output += piece
            process.terminate()
            try:
                process.communicate(timeout=TWIN_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
            if b"process up" not in output:
                lines = output.decode(errors="replace").splitlines()
                errors = [line for line in lines if " ERROR " in line or " FATAL " in line]
                self.module.fail_json(
                    msg="PgBouncer refuses this configuration; nothing was changed. Edit pgbouncer_parameters or the "
                    "input of the setting's name: "
                    + "; ".join(errors or lines[-3:] or [f"it did not come up within {TWIN_SECONDS} s"])
                )
        finally:
            shutil.rmtree(directory)

    def raise_limit(self, pid, wanted):
        """Raises the running process's descriptor limit, so a larger max_client_conn needs no restart; False if forbidden."""
        try:
            _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (wanted, max(wanted, hard)))
        except (PermissionError, ValueError):
            return False
        return True


def limit_of(pid):
    with open(f"/proc/{pid}/limits", encoding="utf-8") as handle:
        return descriptor_limit(handle.read())


def main():
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "ini": {"type": "str", "required": True},
            "settings": {"type": "dict", "required": True},
            "userlist": {"type": "str", "required": True, "no_log": True},
            "dropin": {"type": "str", "required": True},
            "nofile": {"type": "int", "required": True},
            "timeout": {"type": "int", "default": 30},
        },
        supports_check_mode=True,
    )
    bouncer, check = Bouncer(module), module.check_mode
    ini, nofile = module.params["ini"], module.params["nofile"]
    wanted = {key: str(value) for key, value in module.params["settings"].items()}
    dropin = "/etc/systemd/system/pgbouncer.service.d/grunnfjell.conf"
    files = [
        ManagedFile(INI, ini, "root", "postgres", 0o640),
        ManagedFile("/etc/pgbouncer/userlist.txt", module.params["userlist"], "root", "postgres", 0o640, secret=True),
        ManagedFile(dropin, module.params["dropin"], "root", "root", 0o644),
    ]
    installed = os.path.exists("/usr/sbin/pgbouncer")
    if not installed and not check:
        module.fail_json(msg="PgBouncer is not installed: /usr/sbin/pgbouncer is missing.")
    dry = write_files(files, check_mode=True)
    # In check mode on a new host the certificates do not exist yet, so PgBouncer could not read the configuration.
    named = [value for key, value in wanted.items() if key.startswith(("client_tls_", "server_tls_")) and key.endswith("_file")]
    to_come = check and not all(map(os.path.exists, named))
    if installed and INI in dry.previous and not to_come:
        bouncer.refuse_wrong_ini(ini)
    written = dry if check else write_files(files, check_mode=False)
    result = {"changed": bool(written.changed), "diff": written.diffs, "action": "none", "restart_for": []}

    # Look at the link, which works in check mode on a blank host too.
    mask = f"/etc/systemd/system/{SOCKET_UNIT}"
    if not (os.path.islink(mask) and os.readlink(mask) == "/dev/null"):
        result["changed"] = True
        if not check:
            bouncer.systemctl("mask", "--now", SOCKET_UNIT)
    unit = bouncer.show()
    if not check and (dropin in written.changed or unit["NeedDaemonReload"] == "yes"):
        bouncer.systemctl("daemon-reload")
    if unit["UnitFileState"] != "enabled":
        result["changed"] = True
        if not check:
            bouncer.systemctl("enable", UNIT)

    if unit["ActiveState"] not in ("active", "reloading"):
        result.update(changed=True, action="start")
        if not check:
            bouncer.systemctl("start", UNIT)
            bouncer.wait()
        module.exit_json(**result)

    pid = int(unit["MainPID"])
    config = bouncer.console(pid, "SHOW CONFIG")
    if config is None:
        soft, hard = [], ["console"]
    else:
        soft, hard = differing({row["key"]: row for row in config}, wanted)
    if limit_of(pid) < nofile:
        result["changed"] = True
        if not check and not bouncer.raise_limit(pid, nofile):
            hard.append("LimitNOFILE")
    if hard:
        result.update(changed=True, action="restart", restart_for=hard)
        if not check:
            bouncer.systemctl("restart", UNIT)
            bouncer.wait()
    elif soft or set(written.changed) - {dropin}:
        result.update(changed=True, action="reload")
        if not check:
            bouncer.console(pid, "RELOAD")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
