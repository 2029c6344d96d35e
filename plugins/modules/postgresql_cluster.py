#!/usr/bin/python
# SPDX-License-Identifier: MIT

from __future__ import annotations

DOCUMENTATION = r"""
---
module: postgresql_cluster
short_description: Configure one of Debian's PostgreSQL clusters and keep it running
description:
  - Writes the settings in C(conf.d) and a separate C(pg_hba) file; the vendor's files stay as shipped.
  - Checks the settings with PostgreSQL's parser before they are in place, and restores the old files when the running
    server refuses the new access rules.
  - Starts a cluster that is down. A running one is reloaded, and restarted only when the server reports that a changed
    setting needs it (C(pending_restart)), or when it does not listen on a configured address, because it started before
    the host had the address. The state is queried, not remembered, so the next run completes an interrupted one.
options:
  version: {description: Major version of the cluster., type: str, required: true}
  cluster: {description: Name of the cluster., type: str, default: main}
  settings: {description: Content of C(conf.d/grunnfjell.conf)., type: str, required: true}
  hba: {description: Content of C(grunnfjell_hba.conf)., type: str, required: true}
  patroni:
    description: Whether Patroni starts and restarts the server. It is then neither started nor restarted here.
    type: bool
    default: false
  timeout: {description: Seconds until the server must accept connections., type: int, default: 60}
author: [Grunnfjell maintainers]
attributes:
  check_mode: {support: full, description: Predicts changed files and a restart.}
  diff_mode: {support: full, description: Shows both files.}
"""

EXAMPLES = r"""
- name: Configure PostgreSQL
  postgresql_cluster:
    version: "17"
    settings: "max_connections = '100'\n"
    hba: "local all postgres peer\n"
"""

RETURN = r"""
action: {description: 'What happened to the server: none, start, reload or restart.', returned: always, type: str}
restart_for:
  description: Settings that required the restart; listen_addresses also where the server does not listen on one of them.
  returned: always
  type: list
  elements: str
port: {description: Port that the server listens on., returned: when it runs, type: int}
"""

import json
import os
import re
import shutil
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import psql
from ..module_utils.listening import deaf_addresses
from ..module_utils.postgresql_values import predict_restart
from ..module_utils.whole_files import ManagedFile, journal, usual_umask, write_files

LINE = re.compile(r"^\s*([A-Za-z_][\w.]*)\s*=\s*'((?:[^'\\]|''|\\.)*)'\s*$")

STATE_SQL = """
SELECT json_build_object(
  'port', current_setting('port')::int,
  'listen_addresses', current_setting('listen_addresses'),
  'loaded', extract(epoch FROM pg_conf_load_time()),
  'pending', (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_settings WHERE pending_restart),
  'postmaster', (SELECT json_object_agg(name, json_build_object(
                   'value', setting, 'unit', coalesce(unit, ''), 'type', vartype))
                 FROM pg_settings WHERE context = 'postmaster'),
  'hba_errors', (SELECT coalesce(json_agg(line_number || ': ' || error), '[]') FROM pg_hba_file_rules
                 WHERE error IS NOT NULL));
"""

# Files that the server reads only when it reads its settings.
TLS_FILES = ("ssl_cert_file", "ssl_key_file", "ssl_ca_file")


def parse_settings(text):
    """Keys and values of a conf.d file written by the role (every value quoted)."""
    settings = {}
    for line in text.splitlines():
        match = LINE.match(line)
        if match:
            settings[match[1].lower()] = match[2].replace("''", "'").replace("\\\\", "\\")
    return settings


def refusal(answer, restored):
    """Why the new access rules are not loaded. answer: the server's state, None where it did not answer."""
    left = "The old ones are in place again." if restored else "An earlier run left them: correct them before it restarts."
    if answer is None:
        return f"PostgreSQL did not answer whether it accepts the new access rules. {left}"
    return f"PostgreSQL refuses the new access rules: {'; '.join(answer['hba_errors'])}. {left}"


class Cluster:
    def __init__(self, module):
        self.module = module
        self.version = module.params["version"]
        self.name = module.params["cluster"]
        self.etc = f"/etc/postgresql/{self.version}/{self.name}"
        self.unit = f"postgresql@{self.version}-{self.name}.service"

    def as_postgres(self, command, **kwargs):
        return self.module.run_command(["runuser", "-u", "postgres", "--", *command], cwd="/", **kwargs)

    def port(self):
        with open(f"{self.etc}/postgresql.conf", encoding="utf-8") as handle:
            match = re.search(r"^\s*port\s*=\s*'?(\d+)", handle.read(), re.MULTILINE)
        try:
            with open(f"{self.etc}/conf.d/grunnfjell.conf", encoding="utf-8") as handle:
                ours = parse_settings(handle.read()).get("port")
        except FileNotFoundError:
            ours = None
        return int(ours or (match and match[1]) or 5432)

    def state(self):
        """The server's state, or None while it does not answer."""
        try:
            return json.loads(psql.superuser(STATE_SQL, self.running_port()))
        except (psql.PsqlError, json.JSONDecodeError):
            return None

    def running_port(self):
        """The port of the running server; the configuration file may already have a new one."""
        try:
            with open(f"/var/lib/postgresql/{self.version}/{self.name}/postmaster.pid", encoding="utf-8") as handle:
                return int(handle.read().splitlines()[3])
        except (FileNotFoundError, IndexError, ValueError):
            return self.port()

    def wait(self, ready):
        deadline = time.monotonic() + self.module.params["timeout"]
        while True:
            state = self.state()
            if state and ready(state):
                return state
            # Debian's unit ignores a failed start, so systemctl start reports no error.
            _, active, _ = self.module.run_command(["systemctl", "is-active", self.unit])
            if active.strip() in ("failed", "inactive"):
                self.module.fail_json(msg=f"{self.unit} does not start. Its log:\n{self.log()}")
            if time.monotonic() > deadline:
                self.module.fail_json(
                    msg=f"{self.unit} did not become ready within {self.module.params['timeout']} s. Its log:\n" + self.log()
                )
            time.sleep(0.05)

    def log(self):
        try:
            with open(f"/var/log/postgresql/postgresql-{self.version}-{self.name}.log", encoding="utf-8") as handle:
                return "".join(handle.readlines()[-15:]).strip()
        except FileNotFoundError:
            return journal(self.module, self.unit)

    def systemctl(self, verb):
        rc, _, err = self.module.run_command(["systemctl", verb, self.unit])
        if rc:
            self.module.fail_json(msg=f"systemctl {verb} {self.unit} failed: {err.strip()}\n{self.log()}")

    def under_patroni(self):
        """Whether Patroni runs the server; before its adoption systemd does."""
        unit = f"patroni@{self.version}-{self.name}.service"
        return self.module.params["patroni"] and self.module.run_command(["systemctl", "is-active", "--quiet", unit])[0] == 0

    def reload(self):
        if self.under_patroni():
            psql.superuser("SELECT pg_reload_conf()", self.running_port())
        else:
            self.systemctl("reload")

    def refuse_wrong_settings(self, settings):
        """Lets PostgreSQL's parser read the vendor's file, conf.d and then the candidate, beside the running server."""
        directory = tempfile.mkdtemp(prefix="grunnfjell-")
        try:
            main = os.path.join(directory, "postgresql.conf")
            candidate = os.path.join(directory, "grunnfjell.conf")
            with open(candidate, "w", encoding="utf-8") as handle:
                handle.write(settings)
            with open(main, "w", encoding="utf-8") as handle:
                handle.write(f"include '{self.etc}/postgresql.conf'\ninclude '{candidate}'\n")
            for path in (directory, main, candidate):
                shutil.chown(path, "postgres", "postgres")
            rc, _, err = self.as_postgres(
                [f"/usr/lib/postgresql/{self.version}/bin/postgres", "-C", "max_connections", "-c", f"config_file={main}"]
            )
            if rc:
                self.module.fail_json(
                    msg="PostgreSQL refuses these settings; nothing was changed. Edit postgresql_parameters or the "
                    "input of the setting's name: " + err.strip().replace(candidate, "conf.d/grunnfjell.conf")
                )
        finally:
            shutil.rmtree(directory)


def main():
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "str", "required": True},
            "cluster": {"type": "str", "default": "main"},
            "settings": {"type": "str", "required": True},
            "hba": {"type": "str", "required": True},
            "patroni": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    cluster = Cluster(module)
    settings, hba = module.params["settings"], module.params["hba"]
    files = [
        ManagedFile(f"{cluster.etc}/conf.d/grunnfjell.conf", settings, "postgres", "postgres", 0o644),
        ManagedFile(f"{cluster.etc}/grunnfjell_hba.conf", hba, "postgres", "postgres", 0o640),
    ]
    wanted = parse_settings(settings)
    read = [item.path for item in files] + [wanted[key] for key in TLS_FILES if key in wanted]
    exists = os.path.exists(f"{cluster.etc}/postgresql.conf")
    if not exists and not module.check_mode:
        module.fail_json(msg=f"There is no cluster {cluster.version}/{cluster.name}: {cluster.etc} is missing.")
    if exists:
        cluster.refuse_wrong_settings(settings)

    state = cluster.state() if exists else None
    written = write_files(files, module.check_mode)
    result = {"changed": bool(written.changed), "diff": written.diffs, "action": "none", "restart_for": []}

    rc, _, _ = module.run_command(["systemctl", "is-enabled", "--quiet", "postgresql.service"])
    if rc:
        result["changed"] = True
        if not module.check_mode:
            module.run_command(["systemctl", "enable", "postgresql.service"], check_rc=True)

    if state is None and module.params["patroni"]:
        pass  # role patroni starts it, or copies another one
    elif state is None:
        result.update(changed=True, action="start")
        if not module.check_mode:
            cluster.systemctl("start")
            state = cluster.wait(lambda now: True)
    elif module.check_mode:
        deaf = [] if cluster.under_patroni() else deaf_addresses(state["listen_addresses"], state["port"])
        result["restart_for"] = sorted({*predict_restart(wanted, state["postmaster"]), *(["listen_addresses"] if deaf else [])})
        if deaf or written.changed:
            result.update(changed=True, action="restart" if result["restart_for"] else "reload")
    else:
        # A file that is newer than the last reload also shows a run that was interrupted before the reload.
        if written.changed or any(os.stat(path).st_mtime > float(state["loaded"]) for path in read):
            answer = cluster.state()
            if answer is None or answer["hba_errors"]:
                written.restore(files)
                module.fail_json(msg=refusal(answer, bool(written.previous)))
            loaded = state["loaded"]
            cluster.reload()
            state = cluster.wait(lambda now: now["loaded"] != loaded)
            result.update(changed=True, action="reload")
        deaf = deaf_addresses(state["listen_addresses"], state["port"])
        if (state["pending"] or deaf) and not cluster.under_patroni():
            result.update(changed=True, action="restart", restart_for=state["pending"] or ["listen_addresses"])
            cluster.systemctl("restart")
            state = cluster.wait(lambda now: not now["pending"])
            if deaf := deaf_addresses(state["listen_addresses"], state["port"]):
                where = ", ".join(deaf)
                module.fail_json(msg=f"PostgreSQL does not listen on {where} after a restart. Its log:\n{cluster.log()}")
    if state and not module.check_mode:
        result["port"] = state["port"]
    module.exit_json(**result)


if __name__ == "__main__":
    main()
