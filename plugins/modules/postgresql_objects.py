#!/usr/bin/python
# SPDX-License-Identifier: MIT

from __future__ import annotations

DOCUMENTATION = r"""
---
module: postgresql_objects
short_description: Apply the declared databases and roles to a server
description:
  - Reads roles, databases and privileges in one query, computes the differences, and sends only those to C(psql) as the
    system user postgres. The host needs no driver, and no password is in argv.
  - An application owns its database. The module's sessions take no setting from it and look up no name in its schemas.
  - Passwords are sent as SCRAM verifiers computed here, so neither the server nor its log sees a password. A password is
    changed only when it does not match the stored verifier.
  - A role that may not log in loses its password, and its sessions are ended.
  - Roles created by this module carry its mark. One that is no longer declared is dropped, or, if it still owns
    something, may no longer log in. A database is dropped only when it is named in O(databases_removed).
options:
  port: {description: Port of the server's Unix socket., type: int, default: 5432}
  databases:
    description: Databases.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Its name., type: str, required: true}
      owner: {description: The role that owns it., type: str, required: true}
      roles: {description: Other roles that may connect., type: list, elements: str, default: []}
  roles:
    description: Roles.
    type: list
    elements: dict
    default: []
    suboptions:
      name: {description: Its name., type: str, required: true}
      login: {description: Whether it may log in., type: bool, default: true}
      acts_as:
        description: Role that it is a member of. Its sessions begin as that role, which owns the objects that they create.
        type: str
      connection_limit: {description: Most connections at once; -1 is no limit., type: int, default: -1}
      valid_until: {description: Date or time in ISO 8601 at which the password expires., type: str}
  passwords: {description: Password of each role., type: dict, required: true}
  auth_query_role: {description: The role that PgBouncer reads verifiers as; empty for none., type: str, default: ""}
  databases_removed: {description: Databases to drop with all their data., type: list, elements: str, default: []}
  patroni: {description: Whether to change nothing on a standby, or where no server runs., type: bool, default: false}
  expected:
    description: With O(patroni), whether a run would make this server the primary, for a prediction.
    type: bool
    default: false
author: [Grunnfjell maintainers]
attributes:
  check_mode: {support: full, description: On a blank host it predicts everything declared.}
  diff_mode: {support: full, description: One line for each change, without secrets.}
"""

EXAMPLES = r"""
- name: Apply the declared databases and roles
  postgresql_objects:
    databases: [{name: newsroom, owner: newsroom}]
    roles: [{name: newsroom}]
    passwords: "{{ postgresql_role_passwords }}"
    auth_query_role: pgbouncer
  no_log: true
"""

RETURN = r"""
changes:
  description: One sentence for each change; of a failed run, for each change before the failure.
  returned: always
  type: list
  elements: str
not_tried: {description: The changes after the one that failed., returned: failure, type: list, elements: str}
"""

import json
import os
import shutil

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import psql
from ..module_utils.postgresql_state import DATABASE_SQL, SERVER_SQL
from ..module_utils.postgresql_steps import failure, ident, plan, script

# Seconds: dropping a large database takes a while.
CHANGE_S = 600


class Server:
    def __init__(self, module):
        self.module = module

    def read(self, sql, major=0):
        try:
            out = psql.superuser(sql, self.module.params["port"], major=major)
        except psql.PsqlError as error:
            self.module.fail_json(msg=f"PostgreSQL could not be queried: {error}")
        return [json.loads(line) for line in out.splitlines() if line]

    def change(self, steps, major):
        try:
            psql.superuser(script(steps), self.module.params["port"], CHANGE_S, major)
        except psql.PsqlError as error:
            self.module.fail_json(**failure(steps, error))

    def answers(self):
        return shutil.which("psql") and os.path.exists(f"/run/postgresql/.s.PGSQL.{self.module.params['port']}")

    def is_primary(self):
        """Whether the server runs and takes writes. A standby gets its objects from the primary."""
        return self.answers() and self.read("SELECT to_json(NOT pg_is_in_recovery())") == [True]

    def auth_state(self, names, major):
        if not names:
            return {}
        sql = "".join(f"\\connect {ident(name)}\n{DATABASE_SQL}" for name in names)
        # Each database answers with one line.
        return dict(zip(names, self.read(sql, major), strict=True))


def main():
    module = AnsibleModule(
        argument_spec={
            "port": {"type": "int", "default": 5432},
            "databases": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "owner": {"type": "str", "required": True},
                    "roles": {"type": "list", "elements": "str", "default": []},
                },
            },
            "roles": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "login": {"type": "bool", "default": True},
                    "acts_as": {"type": "str"},
                    "connection_limit": {"type": "int", "default": -1},
                    "valid_until": {"type": "str"},
                },
            },
            "passwords": {"type": "dict", "required": True, "no_log": True},
            "auth_query_role": {"type": "str", "default": ""},
            "databases_removed": {"type": "list", "elements": "str", "default": []},
            "patroni": {"type": "bool", "default": False},
            "expected": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    server = Server(module)
    wanted = module.params
    if wanted["patroni"] and not server.is_primary() and not (module.check_mode and wanted["expected"]):
        module.exit_json(changed=False, changes=[])
    if module.check_mode and not server.answers():
        state, auth = {"roles": [], "databases": []}, {}
    else:
        (state,) = server.read(SERVER_SQL)
        existing = {database["name"] for database in state["databases"]}
        names = [database["name"] for database in wanted["databases"] if database["name"] in existing]
        auth = server.auth_state(names if wanted["auth_query_role"] else [], state["major"])
    steps = plan(state, auth, wanted)
    if steps and not module.check_mode:
        server.change(steps, state["major"])
    changes = [step.says for step in steps]
    result = {"changed": bool(steps), "changes": changes}
    if steps:
        result["diff"] = {"prepared": "".join(f"+ {change}\n" for change in changes)}
    module.exit_json(**result)


if __name__ == "__main__":
    main()
