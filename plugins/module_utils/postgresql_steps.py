"""The steps from a PostgreSQL server's state to the declared roles and databases."""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass

from .postgresql_state import AUTH_BODY, AUTH_PATH, AUTH_SCHEMA, MARK
from .scram import password_matches, scram_verifier

# Keeps the statements, which contain verifiers, out of the server's log.
QUIET_SQL = """
SET log_statement = 'none';
SET log_min_duration_statement = -1;
SET log_min_error_statement = 'panic';
SET client_min_messages = 'warning';
"""

# An error message may quote a client's value ("invalid input syntax for type uuid: ..."), so it goes to the client only. The
# server's own messages (LOG, FATAL, PANIC) stay in its log.
ROLE_SETTING = ("log_min_messages", "log")


@dataclass(frozen=True)
class Step:
    """One change: its description, the statement, and the database that it runs in."""

    says: str
    sql: str
    database: str = "postgres"


def ident(name):
    return '"' + name.replace('"', '""') + '"'


def literal(text):
    return "'" + text.replace("'", "''") + "'"


def moment(valid_until):
    """Seconds since the epoch; a time without a zone is UTC. None is no expiry."""
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
    """Waits up to five seconds for each session to end."""
    return f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = {literal(name)};"


def lock(name):
    return f"ALTER ROLE {ident(name)} NOLOGIN PASSWORD NULL; {end_sessions(name)}"


def role_steps(existing, declared, passwords):
    steps = []
    # A login that acts as another role comes after that role.
    for role in sorted(declared, key=lambda role: bool(role.get("acts_as"))):
        name = role["name"]
        now = existing.get(name)
        verifier = literal(scram_verifier(passwords[name])) if role.get("login", True) else "NULL"
        steps += new_role(role, verifier) if now is None else changed_role(role, now, verifier, passwords.get(name))
        steps += acting_steps(name, role.get("acts_as"), now or {"member_of": [], "settings": []})
    return steps


def attributes(role):
    return (
        f"{'LOGIN' if role.get('login', True) else 'NOLOGIN'} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS "
        f"CONNECTION LIMIT {int(role.get('connection_limit', -1))} VALID UNTIL {expiry_sql(moment(role.get('valid_until')))}"
    )


def quiet_sql(name):
    return f"ALTER ROLE {ident(name)} SET {ROLE_SETTING[0]} = {literal(ROLE_SETTING[1])};"


def mark_sql(name):
    return f"COMMENT ON ROLE {ident(name)} IS {literal(MARK)};"


def new_role(role, verifier):
    name = role["name"]
    sql = f"CREATE ROLE {ident(name)} {attributes(role)} PASSWORD {verifier}; {quiet_sql(name)} {mark_sql(name)}"
    return [Step(f"create role {name}", sql)]


def changed_role(role, now, verifier, password):
    name, login, alter = role["name"], role.get("login", True), f"ALTER ROLE {ident(role['name'])}"
    steps = []
    if login and not now["login"]:
        steps.append(Step(f"let role {name} log in again", f"{alter} {attributes(role)} PASSWORD {verifier};"))
    elif not login and (now["login"] or now["verifier"]):
        sql = f"{alter} {attributes(role)} PASSWORD NULL; {end_sessions(name)}"
        steps.append(Step(f"no longer let role {name} log in, and end its sessions", sql))
    else:
        limit, until = role.get("connection_limit", -1), moment(role.get("valid_until"))
        if not now["ordinary"] or now["connection_limit"] != limit or now["valid_until"] != until:
            steps.append(Step(f"set the attributes of role {name}", f"{alter} {attributes(role)};"))
        if login and not password_matches(now["verifier"], password):
            steps.append(Step(f"change the password of role {name}", f"{alter} PASSWORD {verifier};"))
    if "=".join(ROLE_SETTING) not in now["settings"]:
        steps.append(Step(f"keep the values of role {name} out of the server's log", quiet_sql(name)))
    if not now["managed"]:
        steps.append(Step(f"mark role {name} as managed by the kit", mark_sql(name)))
    return steps


def acting_steps(name, acts_as, now):
    """A second login is a member of the owner, and its sessions begin as the owner, so one role owns everything."""
    if not acts_as or (acts_as in now["member_of"] and f"role={acts_as}" in now["settings"]):
        return []
    sql = f"GRANT {ident(acts_as)} TO {ident(name)}; ALTER ROLE {ident(name)} SET role = {literal(acts_as)};"
    return [Step(f"let role {name} act as {acts_as}", sql)]


def database_steps(existing, databases, auth_query_role):
    steps = []
    for database in databases:
        name, owner = database["name"], database["owner"]
        now = existing.get(name)
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
        guests = {*database.get("roles", []), *([auth_query_role] if auth_query_role else [])} - {owner}
        for guest in sorted(guests - set(now["connect"])):
            steps.append(Step(f"let {guest} connect to {name}", f"GRANT CONNECT ON DATABASE {ident(name)} TO {ident(guest)};"))
        for guest in sorted(set(now["connect"]) - guests - {"postgres", owner}):
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


def auth_steps(state, databases, auth_query_role):
    steps = []
    for database in databases if auth_query_role else []:
        now = state.get(database["name"])
        if auth_is_right(now, auth_query_role):
            continue
        others = set(now["schema_acl"] if now else []) - {"postgres", auth_query_role, "public"}
        schema, role = ident(AUTH_SCHEMA), ident(auth_query_role)
        sql = [
            "BEGIN;",
            f"CREATE SCHEMA IF NOT EXISTS {schema};",
            f"ALTER SCHEMA {schema} OWNER TO postgres;",
            f"REVOKE ALL ON SCHEMA {schema} FROM {', '.join(['PUBLIC', *map(ident, sorted(others))])};",
            f"GRANT USAGE ON SCHEMA {schema} TO {role};",
            # Dropped first, with any overload, so no old privilege remains.
            "SELECT format('DROP ROUTINE %s CASCADE', oid::regprocedure) FROM pg_proc WHERE proname = 'get_auth' AND "
            f"pronamespace = {literal(AUTH_SCHEMA)}::regnamespace \\gexec",
            f"CREATE FUNCTION {schema}.get_auth(p_usename text) RETURNS TABLE (usename text, passwd text) LANGUAGE sql STABLE "
            f"SECURITY DEFINER SET search_path = {AUTH_PATH} AS {literal(AUTH_BODY)};",
            f"REVOKE ALL ON FUNCTION {schema}.get_auth(text) FROM PUBLIC;",
            f"GRANT EXECUTE ON FUNCTION {schema}.get_auth(text) TO {role};",
            "COMMIT;",
        ]
        name = database["name"]
        steps.append(Step(f"let PgBouncer ask database {name} for verifiers", "\n".join(sql), name))
    return steps


def removal_steps(roles, databases, declared_roles, databases_removed):
    """Drops databases that are named for it, and roles of the kit that are no longer declared."""
    steps = [
        Step(
            f"drop database {name} with all its data",
            # A template, which its owner may have made it, cannot be dropped.
            f"ALTER DATABASE {ident(name)} IS_TEMPLATE false; DROP DATABASE {ident(name)} WITH (FORCE);",
        )
        for name in databases_removed
        if name in databases
    ]
    undeclared = {name: role for name, role in sorted(roles.items()) if role["managed"] and name not in declared_roles}
    owners = {name for name, role in undeclared.items() if set(role["owns_in"]) - set(databases_removed)}
    # Lock all of them first: a member of another role could still create objects as that role.
    for name, role in undeclared.items():
        if role["login"] or role["verifier"]:
            why = ", which is no longer declared but still owns something" if name in owners else ", which is no longer declared"
            steps.append(Step(f"lock role {name}{why}", lock(name)))
    for name, role in undeclared.items():
        if name in owners:
            continue
        # A role with privileges cannot be dropped.
        for database in sorted(set(role["granted_in"]) - set(databases_removed)):
            says = f"take the privileges of role {name} in database {database}"
            steps.append(Step(says, take_privileges(name), database))
        steps.append(Step(f"drop role {name}, which is no longer declared", f"DROP ROLE {ident(name)};"))
    return steps


def take_privileges(name):
    """DROP OWNED revokes the privileges, and would drop objects too.

    The role owned none when the state was read. An object that it has created since is neither dropped nor reassigned to
    postgres: a SECURITY DEFINER function of the role would then run as the superuser.
    """
    owned = (
        f"SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = {literal(ident(name))}::regrole "
        "AND deptype = 'o'"
    )
    sentence = literal(f"role {name} owns something now; the next run leaves it locked")
    guard = f"DO $$ BEGIN IF EXISTS ({owned}) THEN RAISE EXCEPTION '%', {sentence}; END IF; END $$;"
    return f"BEGIN; {guard} DROP OWNED BY {ident(name)}; COMMIT;"


def plan(server, auth, wanted):
    """All steps from the server's state to the declared one."""
    roles = {role["name"]: role for role in server["roles"]}
    databases = {database["name"]: database for database in server["databases"]}
    auth_role = wanted["auth_query_role"]
    # During a rotation its second login may be in use, and the role is declared without a login.
    named = {role["name"] for role in wanted["roles"]}
    declared = [*wanted["roles"], *([{"name": auth_role}] if auth_role and auth_role not in named else [])]
    return [
        *role_steps(roles, declared, wanted["passwords"]),
        *database_steps(databases, wanted["databases"], auth_role),
        *auth_steps(auth, wanted["databases"], auth_role),
        *removal_steps(roles, databases, {role["name"] for role in declared}, wanted["databases_removed"]),
    ]


def script(steps):
    """The script for psql, with one connection for consecutive steps in the same database. Each step first prints its number."""
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
    """The changes before and after the step that failed; psql stops at the first error."""
    started = [int(number) for number in STEP.findall(error.stderr)]
    if not started:
        return {"msg": f"PostgreSQL could not be queried: {error}", "changes": [], "not_tried": [step.says for step in steps]}
    done, failed, not_tried = steps[: started[-1]], steps[started[-1]], steps[started[-1] + 1 :]
    reason = re.sub(r"^psql:<stdin>:\d+: ", "", STEP.sub("", str(error)).strip(), flags=re.MULTILINE)
    return {
        "msg": f"PostgreSQL stopped at '{failed.says}': {reason} {len(done)} changes were made before it, and "
        f"{len(not_tried)} were not tried.",
        "changed": bool(done),
        "changes": [step.says for step in done],
        "not_tried": [step.says for step in not_tried],
    }
