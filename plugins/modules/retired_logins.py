#!/usr/bin/python3
"""Checks that retired logins are unused, or refused."""

from __future__ import annotations

DOCUMENTATION = r"""
module: retired_logins
short_description: Check that a service's retired logins are unused or refused
description:
  - C(unused) waits until no client is connected with one of the logins, and fails if one still is.
  - C(refused) tries each of them, and fails if one is accepted. No secret is in an argument or an output. Changes nothing.
options:
  service: {description: The service., type: str, choices: [rabbitmq, postgresql, pgbouncer], required: true}
  expect: {description: What to check., type: str, choices: [unused, refused], required: true}
  logins:
    description: Logins.
    type: list
    elements: dict
    default: []
    suboptions: &secret
      name: {description: The application, whose database has this name., type: str, required: true}
      login: {description: The login., type: str, required: true}
      secret: {description: Its secret., type: str, required: true}
  cookies:
    description: Erlang cookies that the broker must refuse.
    type: list
    elements: dict
    default: []
    suboptions: *secret
  address: {description: Where the service listens., type: str, default: ""}
  socket_dir: {description: Directory of its Unix socket., type: path, default: /var/run/postgresql}
  port: {description: TCP port of PostgreSQL or PgBouncer., type: int, default: 5432}
  tls:
    description: TLS of a PgBouncer that requires client certificates; without it connections are plain text.
    type: dict
    suboptions:
      name: {description: The name in its certificate., type: str, required: true}
      authorities: {description: File of the authorities to verify it with., type: path, required: true}
      certificate: {description: File of the client certificate., type: path, required: true}
      key: {description: File of its key., type: path, required: true}
  timeout: {description: Seconds that C(unused) waits., type: int, default: 60}
author: maintainers
"""

EXAMPLES = r"""
- name: Check that the former logins are refused
  retired_logins:
    service: rabbitmq
    expect: refused
    logins: [{name: shop, login: shop, secret: "{{ former }}"}]
"""

RETURN = r"""
asked: {description: Number of logins and cookies., returned: success, type: int}
"""

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import bounded, psql, rabbitmq_cli

# A service's answers (FATAL) to an unknown login or a wrong password. An error of libpq, such as a missing certificate file, is
# not an answer of the service.
REFUSED = re.compile(r"FATAL: .*(authentication failed|no such user|not permitted to log in|does not exist)", re.IGNORECASE)
LOOK_S = 1.0


class NoAnswer(Exception):
    """The service was not reached, so nothing is known."""


# Every listener of the broker calls check_user_pass_login.
TRY = """
  {{ok, Held}} = file:read_file("{file}"),
  lists:filtermap(
    fun(#{{<<"login">> := Login, <<"secret">> := Secret}}) ->
      case rabbit_access_control:check_user_pass_login(Login, Secret) of {{ok, _}} -> {{true, Login}}; _ -> false end
    end, rabbit_json:decode(Held))
"""


def owned(content: str, directory: str, name: str) -> str:
    """A file for the broker's account alone."""
    path = os.path.join(directory, name)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(content)
    shutil.chown(path, rabbitmq_cli.ACCOUNT, rabbitmq_cli.ACCOUNT)
    return path


class Rabbitmq:
    def __init__(self, params):
        self.logins = [{key: str(entry[key]) for key in ("login", "secret")} for entry in params["logins"]]
        self.cookies = [str(entry["secret"]) for entry in params["cookies"]]

    def users(self):
        listed = json.loads(rabbitmq_cli.call("list_connections", "user", "--formatter=json") or "[]")
        return {str(connection["user"]) for connection in listed}

    def let_in(self) -> Iterator[str]:
        directory = tempfile.mkdtemp(prefix="grunnfjell-", dir="/run")
        try:
            shutil.chown(directory, rabbitmq_cli.ACCOUNT, rabbitmq_cli.ACCOUNT)
            if self.logins:
                file = owned(json.dumps(self.logins), directory, "logins")
                yield from rabbitmq_cli.ask(TRY.format(file=file))
            for number, cookie in enumerate(self.cookies):
                if self.takes(cookie, os.path.join(directory, str(number))):
                    yield "the former Erlang cookie"
        finally:
            shutil.rmtree(directory)

    def takes(self, cookie, home):
        """Whether the broker accepts a tool with this cookie."""
        os.mkdir(home, 0o700)
        owned(cookie, home, ".erlang.cookie")
        shutil.chown(home, rabbitmq_cli.ACCOUNT, rabbitmq_cli.ACCOUNT)
        done = bounded.run(
            [rabbitmq_cli.CLI, "--quiet", "eval", "node()."],
            60,
            cwd=home,
            env={"HOME": home, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
            user=rabbitmq_cli.ACCOUNT,
            group=rabbitmq_cli.ACCOUNT,
            extra_groups=[],
        )
        return done.returncode == 0


class Postgresql:
    def __init__(self, params):
        self.logins, self.port = [entry["login"] for entry in params["logins"]], params["port"]

    def ask(self, query):
        try:
            return set(psql.superuser(query, self.port).split())
        except psql.PsqlError as error:
            raise NoAnswer(f"PostgreSQL could not be queried: {error}") from error

    def users(self):
        # PgBouncer keeps idle server connections of a login without clients, so PgBouncer is queried instead.
        return set()

    def let_in(self) -> Iterator[str]:
        may = self.ask("SELECT rolname FROM pg_roles WHERE rolcanlogin")
        connected = self.ask("SELECT usename FROM pg_stat_activity WHERE usename IS NOT NULL")
        yield from (login for login in self.logins if login in may | connected)


class Pgbouncer:
    def __init__(self, params):
        self.params = params

    def users(self):
        try:
            clients = psql.console("SHOW CLIENTS", self.params["socket_dir"], self.params["port"])
        except psql.PsqlError as error:
            raise NoAnswer(f"PgBouncer could not be queried: {error}") from error
        return {row["user"] for row in clients if row["database"] != "pgbouncer"}

    def connection_settings(self):
        """libpq's variables for PgBouncer, which may listen on an address that its certificate does not name."""
        settings = {"PGHOSTADDR": self.params["address"], "PGPORT": str(self.params["port"]), "PGGSSENCMODE": "disable"}
        tls = self.params.get("tls")
        if not tls:
            return {**settings, "PGHOST": self.params["address"], "PGSSLMODE": "disable"}
        files = {"PGSSLROOTCERT": tls["authorities"], "PGSSLCERT": tls["certificate"], "PGSSLKEY": tls["key"]}
        return {**settings, **files, "PGHOST": tls["name"], "PGSSLMODE": "verify-full"}

    def let_in(self) -> Iterator[str]:
        for entry in self.params["logins"]:
            login = {"PGDATABASE": entry["name"], "PGUSER": entry["login"], "PGPASSWORD": entry["secret"]}
            try:
                psql.log_in(self.connection_settings() | login)
            except psql.PsqlError as error:
                if not REFUSED.search(str(error)):
                    raise NoAnswer(f"PgBouncer could not be queried: {error}") from error
            else:
                yield entry["login"]


SERVICES = {"rabbitmq": Rabbitmq, "postgresql": Postgresql, "pgbouncer": Pgbouncer}


def main() -> None:
    # Only the secret has no_log: for the whole entry it would also hide the login's name in every message.
    entry = {
        "name": {"type": "str", "required": True},
        "login": {"type": "str", "required": True},
        "secret": {"type": "str", "required": True, "no_log": True},
    }
    module = AnsibleModule(
        argument_spec={
            "service": {"type": "str", "choices": list(SERVICES), "required": True},
            "expect": {"type": "str", "choices": ["unused", "refused"], "required": True},
            "logins": {"type": "list", "elements": "dict", "default": [], "options": entry},
            "cookies": {"type": "list", "elements": "dict", "default": [], "options": entry},
            "address": {"type": "str", "default": ""},
            "socket_dir": {"type": "path", "default": "/var/run/postgresql"},
            "port": {"type": "int", "default": 5432},
            "tls": {
                "type": "dict",
                "options": {key: {"type": "path", "required": True} for key in ("authorities", "certificate", "key")}
                | {"name": {"type": "str", "required": True}},
            },
            "timeout": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params = module.params
    service = SERVICES[params["service"]](params)
    retired = {entry["login"] for entry in params["logins"]}
    try:
        if params["expect"] == "unused":
            end = time.monotonic() + params["timeout"]
            while (connected := service.users() & retired) and time.monotonic() < end:
                time.sleep(LOOK_S)  # polling; bounded by `end`
            if connected:
                module.fail_json(
                    msg=f"{params['service']} still serves clients that are logged in as {', '.join(sorted(connected))}, though "
                    "every program of the fleet uses the other login by now. Stop these clients, and run `make rotate` "
                    "again; both logins are valid until then."
                )
        elif accepted := list(service.let_in()):
            module.fail_json(msg=f"{params['service']} still accepts {', '.join(sorted(accepted))}, which should be gone.")
    except (NoAnswer, rabbitmq_cli.CliError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, asked=len(params["logins"]) + len(params["cookies"]))


if __name__ == "__main__":
    main()
