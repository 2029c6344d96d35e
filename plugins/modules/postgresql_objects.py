#!/usr/bin/python
# SPDX-License-Identifier: MIT

from __future__ import annotations

DOCUMENTATION = r"""
---
module: postgresql_objects
short_description: Make a server's databases and roles the declared ones
description:
  - Reads roles, databases and privileges in one query, computes what differs, and sends only that to C(psql) as the
    system user postgres. No driver is needed on the host, and nothing of a password is ever in argv.
  - An application owns its database. The sessions take no setting from it and look up no name in its schemas.
  - A password travels as a SCRAM verifier that is computed here, so that the server never sees the password, and its
    log neither. It is changed only when it does not match the stored verifier.
  - A role that may not log in loses its password, and whoever is logged in as it is thrown out.
  - Roles that this module made carry its mark. One that is no longer declared is dropped, or, if it still owns
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
      login: {description: Whether it may log in. One that may not only owns., type: bool, default: true}
      acts_as:
        description: Role whose member it is and as which each of its sessions begins, so that what it makes is that role's.
        type: str
      connection_limit: {description: Connections at once; -1 is no limit., type: int, default: -1}
      valid_until: {description: Date or moment in ISO 8601 from which the password no longer works., type: str}
  passwords: {description: Password of each role., type: dict, required: true}
  auth_query_role: {description: The role that PgBouncer asks for verifiers with; empty for none., type: str, default: ""}
  databases_removed: {description: Databases to drop with all that they hold., type: list, elements: str, default: []}
author: [Grunnfjell maintainers]
attributes:
  check_mode: {support: full, description: On a blank host everything declared is predicted.}
  diff_mode: {support: full, description: One line for each change, none of them with a secret.}
"""

EXAMPLES = r"""
- name: Make databases and roles the declared ones
  postgresql_objects:
    databases: [{name: newsroom, owner: newsroom}]
    roles: [{name: newsroom}]
    passwords: "{{ postgresql_role_passwords }}"
    auth_query_role: pgbouncer
  no_log: true
"""

RETURN = r"""
changes:
  description: One sentence for each change; of a run that failed, for each change before the failure.
  returned: always
  type: list
  elements: str
not_tried:
  description: The changes that would have come after the one that failed.
  returned: failure
  type: list
  elements: str
"""

import base64
import datetime
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
from dataclasses import dataclass

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import psql

MARK = "Managed by Grunnfjell"
AUTH_SCHEMA = "pgbouncer"
# Upstream's default; RFC 7677 asks for at least this.
SCRAM_ITERATIONS = 4096
# Seconds: dropping a large database takes a while.
CHANGE_S = 600

# The verifier leaves the server only for a role that may log in, today, to this database, and that is nobody who could
# read or write past the database's own rights.
AUTH_BODY = """
  SELECT r.rolname::text, r.rolpassword
  FROM pg_catalog.pg_authid r
  WHERE r.rolname = p_usename
    AND r.rolcanlogin
    AND NOT r.rolsuper AND NOT r.rolreplication AND NOT r.rolbypassrls
    AND (r.rolvaliduntil IS NULL OR r.rolvaliduntil > pg_catalog.now())
    AND pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT')
"""
AUTH_PATH = "pg_catalog, pg_temp"

SERVER_SQL = """
SELECT json_build_object(
  'major', current_setting('server_version_num')::int / 10000,
  'roles', (SELECT coalesce(json_agg(json_build_object(
      'name', a.rolname,
      'ordinary', NOT (a.rolsuper OR a.rolreplication OR a.rolbypassrls OR a.rolcreatedb OR a.rolcreaterole),
      'login', a.rolcanlogin,
      'connection_limit', a.rolconnlimit,
      'valid_until', CASE WHEN a.rolvaliduntil = 'infinity' THEN NULL ELSE extract(epoch FROM a.rolvaliduntil)::bigint END,
      'verifier', a.rolpassword,
      'member_of', (SELECT coalesce(json_agg(g.rolname), '[]')
                    FROM pg_auth_members m JOIN pg_authid g ON g.oid = m.roleid WHERE m.member = a.oid),
      'managed', shobj_description(a.oid, 'pg_authid') IS NOT DISTINCT FROM 'MARK',
      'settings', (SELECT coalesce(json_agg(c), '[]') FROM pg_db_role_setting s, unnest(s.setconfig) c
                   WHERE s.setrole = a.oid AND s.setdatabase = 0),
      'owns_in', (SELECT coalesce(json_agg(DISTINCT coalesce(b.datname, o.datname, 'postgres')), '[]')
                  FROM pg_shdepend d LEFT JOIN pg_database b ON b.oid = d.dbid
                  LEFT JOIN pg_database o ON d.classid = 'pg_database'::regclass AND o.oid = d.objid
                  WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = a.oid AND d.deptype = 'o'),
      'granted_in', (SELECT coalesce(json_agg(DISTINCT coalesce(b.datname, 'postgres')), '[]')
                     FROM pg_shdepend d LEFT JOIN pg_database b ON b.oid = d.dbid
                     WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = a.oid AND d.deptype IN ('a', 'r', 'i'))
      )), '[]') FROM pg_authid a WHERE a.rolname !~ '^pg_'),
  'databases', (SELECT coalesce(json_agg(json_build_object(
      'name', b.datname,
      'owner', pg_get_userbyid(b.datdba),
      'public', b.datacl IS NULL OR EXISTS (SELECT FROM aclexplode(b.datacl) x WHERE x.grantee = 0),
      'connect', (SELECT coalesce(json_agg(DISTINCT pg_get_userbyid(x.grantee)), '[]') FROM aclexplode(b.datacl) x
                  WHERE x.privilege_type = 'CONNECT' AND x.grantee NOT IN (0, b.datdba))
      )), '[]') FROM pg_database b WHERE b.datname NOT IN ('template0', 'template1')));
""".replace("MARK", MARK)

# For each database: what exists in the schema that PgBouncer's query needs. The types are written out, so that each operator is
# PostgreSQL's own even where a session's search_path is not pinned.
DATABASE_SQL = """
SELECT json_build_object(
  'schema_owner', (SELECT pg_get_userbyid(nspowner) FROM pg_catalog.pg_namespace WHERE nspname = 'SCHEMA'::name),
  'schema_acl', (SELECT coalesce(json_agg(DISTINCT
                   CASE WHEN x.grantee = 0::pg_catalog.oid THEN 'public' ELSE pg_get_userbyid(x.grantee) END), '[]')
                 FROM pg_catalog.pg_namespace n, aclexplode(n.nspacl) x WHERE n.nspname = 'SCHEMA'::name),
  'functions', (SELECT coalesce(json_agg(json_build_object(
                   'owner', pg_get_userbyid(p.proowner), 'body', p.prosrc, 'definer', p.prosecdef,
                   'config', p.proconfig, 'acl', (SELECT coalesce(json_agg(DISTINCT
                     CASE WHEN x.grantee = 0::pg_catalog.oid THEN 'public' ELSE pg_get_userbyid(x.grantee) END), '[]')
                     FROM aclexplode(coalesce(p.proacl, acldefault('f'::"char", p.proowner))) x))), '[]')
                FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
                WHERE n.nspname = 'SCHEMA'::name AND p.proname = 'get_auth'::name));
""".replace("SCHEMA", AUTH_SCHEMA)

# The statements carry verifiers; the server's log shall carry none of them, whatever log_statement says.
QUIET_SQL = """
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
SET client_min_messages = 'warning';
"""


# An error's message may quote a value that somebody sent ("invalid input syntax for type uuid: ..."). It goes to the client
# alone; what the server itself has to say (LOG, FATAL, PANIC) stays in its log.
ROLE_SETTING = ("log_min_messages", "log")


@dataclass(frozen=True)
class Step:
    """One change: what a person reads, where it runs, and the statement."""

    says: str
    sql: str
    database: str = "postgres"


def ident(name):
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def scram_verifier(password, salt=None, iterations=SCRAM_ITERATIONS):
    """The verifier of RFC 5803 that PostgreSQL stores, computed here so that the password never travels."""
    salt = secrets.token_bytes(16) if salt is None else salt
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    text = [base64.b64encode(part).decode("ascii") for part in (salt, stored, server)]
    return f"SCRAM-SHA-256${iterations}:{text[0]}${text[1]}:{text[2]}"


def password_matches(verifier, password):
    """Whether a stored verifier is that of the password; an md5 hash or nothing never is."""
    if not verifier or not verifier.startswith("SCRAM-SHA-256$"):
        return False
    try:
        iterations, salt = verifier.split("$")[1].split(":")
        expected = scram_verifier(password, base64.b64decode(salt), int(iterations))
    except (ValueError, IndexError):
        return False
    return hmac.compare_digest(expected, verifier)


def moment(valid_until):
    """Seconds since the epoch; a moment without a zone is meant in UTC. None is no expiry."""
    if not valid_until:
        return None
    parsed = datetime.datetime.fromisoformat(str(valid_until))
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=datetime.UTC)
    return int(parsed.timestamp())


def expiry_sql(epoch):
    if epoch is None:
        return "'infinity'"
    return literal(datetime.datetime.fromtimestamp(epoch, datetime.UTC).isoformat())


def end_sessions(name):
    """Waits a few seconds for each: what it has begun, it can no longer finish."""
    return f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = {literal(name)};"


def lock(name):
    return f"ALTER ROLE {ident(name)} NOLOGIN PASSWORD NULL; {end_sessions(name)}"


def role_steps(found, wanted, passwords):
    steps = []
    # Whoever acts as another comes after it.
    for role in sorted(wanted, key=lambda role: bool(role.get("acts_as"))):
        name, now, login = role["name"], found.get(role["name"]), role.get("login", True)
        limit, until = role.get("connection_limit", -1), moment(role.get("valid_until"))
        attributes = (
            f"{'LOGIN' if login else 'NOLOGIN'} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS "
            f"CONNECTION LIMIT {int(limit)} VALID UNTIL {expiry_sql(until)}"
        )
        quiet = f"ALTER ROLE {ident(name)} SET {ROLE_SETTING[0]} = {literal(ROLE_SETTING[1])};"
        mark = f"COMMENT ON ROLE {ident(name)} IS {literal(MARK)};"
        verifier = literal(scram_verifier(passwords[name])) if login else "NULL"
        if now is None:
            steps.append(
                Step(f"create role {name}", f"CREATE ROLE {ident(name)} {attributes} PASSWORD {verifier}; {quiet} {mark}")
            )
        else:
            if login and not now["login"]:
                steps.append(Step(f"let role {name} log in again", f"ALTER ROLE {ident(name)} {attributes} PASSWORD {verifier};"))
            elif not login and (now["login"] or now["verifier"]):
                sql = f"ALTER ROLE {ident(name)} {attributes} PASSWORD NULL; {end_sessions(name)}"
                steps.append(Step(f"no longer let role {name} log in, and end its sessions", sql))
            else:
                if not now["ordinary"] or now["connection_limit"] != limit or now["valid_until"] != until:
                    steps.append(Step(f"set the attributes of role {name}", f"ALTER ROLE {ident(name)} {attributes};"))
                if login and not password_matches(now["verifier"], passwords[name]):
                    steps.append(Step(f"change the password of role {name}", f"ALTER ROLE {ident(name)} PASSWORD {verifier};"))
            if "=".join(ROLE_SETTING) not in now["settings"]:
                steps.append(Step(f"keep what role {name} sends out of the server's log", quiet))
            if not now["managed"]:
                steps.append(Step(f"mark role {name} as the kit's own", mark))
        steps += acting_steps(name, role.get("acts_as"), now or {"member_of": [], "settings": []})
    return steps


def acting_steps(name, acts_as, now):
    """A second login is a member of the owner and begins as it, so that everything stays one role's."""
    if not acts_as or (acts_as in now["member_of"] and f"role={acts_as}" in now["settings"]):
        return []
    sql = f"GRANT {ident(acts_as)} TO {ident(name)}; ALTER ROLE {ident(name)} SET role = {literal(acts_as)};"
    return [Step(f"let role {name} act as {acts_as}", sql)]


def database_steps(found, wanted, auth_query_role):
    steps = []
    for database in wanted:
        name, owner = database["name"], database["owner"]
        now = found.get(name)
        if now is None:
            steps.append(
                Step(
                    f"create database {name}, owned by {owner}",
                    f"CREATE DATABASE {ident(name)} OWNER {ident(owner)} TEMPLATE template0 ENCODING 'UTF8';",
                )
            )
            now = {"owner": owner, "public": True, "connect": []}
        if now["owner"] != owner:
            steps.append(Step(f"give database {name} to {owner}", f"ALTER DATABASE {ident(name)} OWNER TO {ident(owner)};"))
        if now["public"]:
            steps.append(Step(f"close database {name} to everybody else", f"REVOKE ALL ON DATABASE {ident(name)} FROM PUBLIC;"))
        wanted_guests = {*database.get("roles", []), *([auth_query_role] if auth_query_role else [])} - {owner}
        for guest in sorted(wanted_guests - set(now["connect"])):
            steps.append(Step(f"let {guest} connect to {name}", f"GRANT CONNECT ON DATABASE {ident(name)} TO {ident(guest)};"))
        for guest in sorted(set(now["connect"]) - wanted_guests - {"postgres", owner}):
            steps.append(
                Step(f"no longer let {guest} connect to {name}", f"REVOKE ALL ON DATABASE {ident(name)} FROM {ident(guest)};")
            )
    return steps


def auth_is_right(now, auth_query_role):
    if not now or len(now["functions"]) != 1:
        return False
    (function,) = now["functions"]
    return bool(
        now["schema_owner"] == "postgres"
        and set(now["schema_acl"]) <= {"postgres", auth_query_role}
        and auth_query_role in now["schema_acl"]
        and function["owner"] == "postgres"
        and function["body"] == AUTH_BODY
        and function["definer"]
        and function["config"] == [f"search_path={AUTH_PATH}"]
        and set(function["acl"]) == {"postgres", auth_query_role}
    )


def auth_steps(found, wanted, auth_query_role):
    steps = []
    for database in wanted if auth_query_role else []:
        now = found.get(database["name"])
        if auth_is_right(now, auth_query_role):
            continue
        strangers = set(now["schema_acl"] if now else []) - {"postgres", auth_query_role, "public"}
        schema, role = ident(AUTH_SCHEMA), ident(auth_query_role)
        sql = [
            "BEGIN;",
            f"CREATE SCHEMA IF NOT EXISTS {schema};",
            f"ALTER SCHEMA {schema} OWNER TO postgres;",
            f"REVOKE ALL ON SCHEMA {schema} FROM {', '.join(['PUBLIC', *map(ident, sorted(strangers))])};",
            f"GRANT USAGE ON SCHEMA {schema} TO {role};",
            # Created from scratch, so no privilege of an earlier life remains; and no overload, by whomever, competes with it.
            "SELECT format('DROP ROUTINE %s CASCADE', oid::regprocedure) FROM pg_proc "
            f"WHERE proname = 'get_auth' AND pronamespace = {literal(AUTH_SCHEMA)}::regnamespace \\gexec",
            f"CREATE FUNCTION {schema}.get_auth(p_usename text) RETURNS TABLE (usename text, passwd text) "
            f"LANGUAGE sql STABLE SECURITY DEFINER SET search_path = {AUTH_PATH} AS {literal(AUTH_BODY)};",
            f"REVOKE ALL ON FUNCTION {schema}.get_auth(text) FROM PUBLIC;",
            f"GRANT EXECUTE ON FUNCTION {schema}.get_auth(text) TO {role};",
            "COMMIT;",
        ]
        name = database["name"]
        steps.append(Step(f"let PgBouncer ask database {name} for verifiers", "\n".join(sql), name))
    return steps


def removal_steps(roles, databases, declared_roles, databases_removed):
    """Databases that are named for it; roles of the kit that nobody declares any more."""
    steps = [
        Step(
            f"drop database {name} with all that it holds",
            # Its owner may have made it a template, which cannot be dropped.
            f"ALTER DATABASE {ident(name)} IS_TEMPLATE false; DROP DATABASE {ident(name)} WITH (FORCE);",
        )
        for name in databases_removed
        if name in databases
    ]
    undeclared = {name: role for name, role in sorted(roles.items()) if role["managed"] and name not in declared_roles}
    owners = {name for name, role in undeclared.items() if set(role["owns_in"]) - set(databases_removed)}
    # All of them first: one that is a member of another could still create objects as that other.
    for name, role in undeclared.items():
        if role["login"] or role["verifier"]:
            why = ", which is no longer declared but still owns something" if name in owners else ", which is no longer declared"
            steps.append(Step(f"lock role {name}{why}", lock(name)))
    for name, role in undeclared.items():
        if name in owners:
            continue
        # Privileges hold a role back from being dropped.
        for database in sorted(set(role["granted_in"]) - set(databases_removed)):
            says = f"take the privileges of role {name} in database {database}"
            steps.append(Step(says, take_privileges(name), database))
        steps.append(Step(f"drop role {name}, which is no longer declared", f"DROP ROLE {ident(name)};"))
    return steps


def take_privileges(name):
    """DROP OWNED takes the privileges, and would take objects too.

    The role owned none when it was read. What it has created since is neither dropped nor given to postgres: a SECURITY DEFINER
    function of the role would then run as the superuser.
    """
    owned = (
        f"SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = {literal(ident(name))}::regrole "
        "AND deptype = 'o'"
    )
    sentence = literal(f"role {name} owns something by now; the next run leaves it locked")
    guard = f"DO $$ BEGIN IF EXISTS ({owned}) THEN RAISE EXCEPTION '%', {sentence}; END IF; END $$;"
    return f"BEGIN; {guard} DROP OWNED BY {ident(name)}; COMMIT;"


def plan(server, auth, wanted):
    """All steps from what stands to what is declared."""
    roles = {role["name"]: role for role in server["roles"]}
    databases = {database["name"]: database for database in server["databases"]}
    auth_role = wanted["auth_query_role"]
    # While its second login has the turn, its own name is declared as one that does not log in.
    named = {role["name"] for role in wanted["roles"]}
    declared = [*wanted["roles"], *([{"name": auth_role}] if auth_role and auth_role not in named else [])]
    return [
        *role_steps(roles, declared, wanted["passwords"]),
        *database_steps(databases, wanted["databases"], auth_role),
        *auth_steps(auth, wanted["databases"], auth_role),
        *removal_steps(roles, databases, {role["name"] for role in declared}, wanted["databases_removed"]),
    ]


def script(steps):
    """What psql reads: one connection for each stretch of steps in the same database. Each step begins with its number."""
    lines, database = [QUIET_SQL], "postgres"
    for number, step in enumerate(steps):
        lines.append(f"\\warn step {number}")
        if step.database != database:
            database = step.database
            lines += [f"\\connect {ident(database)}", QUIET_SQL]
        lines.append(step.sql)
    return "\n".join(lines) + "\n"


STEP = re.compile(r"^step (\d+)$\n?", re.MULTILINE)


def failure(steps, error):
    """What a script that psql gave up has done, at what, and what it did not come to: psql stops at the first error."""
    begun = [int(number) for number in STEP.findall(error.stderr)]
    if not begun:
        return {"msg": f"PostgreSQL could not be asked: {error}", "changes": [], "not_tried": [step.says for step in steps]}
    done, failed, not_tried = steps[: begun[-1]], steps[begun[-1]], steps[begun[-1] + 1 :]
    reason = re.sub(r"^psql:<stdin>:\d+: ", "", STEP.sub("", str(error)).strip(), flags=re.MULTILINE)
    return {
        "msg": f"PostgreSQL refused to go on at '{failed.says}': {reason} {len(done)} changes were made before it, and "
        f"{len(not_tried)} were not tried.",
        "changed": bool(done),
        "changes": [step.says for step in done],
        "not_tried": [step.says for step in not_tried],
    }


class Server:
    def __init__(self, module):
        self.module = module

    def read(self, sql, major=0):
        try:
            out = psql.superuser(sql, self.module.params["port"], major=major)
        except psql.PsqlError as error:
            self.module.fail_json(msg=f"PostgreSQL could not be asked: {error}")
        return [json.loads(line) for line in out.splitlines() if line]

    def change(self, steps, major):
        try:
            psql.superuser(script(steps), self.module.params["port"], CHANGE_S, major)
        except psql.PsqlError as error:
            self.module.fail_json(**failure(steps, error))

    def answers(self):
        return shutil.which("psql") and os.path.exists(f"/run/postgresql/.s.PGSQL.{self.module.params['port']}")

    def auth_state(self, names, major):
        if not names:
            return {}
        sql = "".join(f"\\connect {ident(name)}\n{DATABASE_SQL}" for name in names)
        # One line from each database: the query's own line breaks are not in its answer.
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
        },
        supports_check_mode=True,
    )
    server = Server(module)
    wanted = module.params
    if module.check_mode and not server.answers():
        state, auth = {"roles": [], "databases": []}, {}
    else:
        (state,) = server.read(SERVER_SQL)
        standing = {database["name"] for database in state["databases"]}
        names = [database["name"] for database in wanted["databases"] if database["name"] in standing]
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
