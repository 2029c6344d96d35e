"""Copies a database, or a table of it, from a temporary server into the live one under another name."""

from __future__ import annotations

import json
import re
import secrets
import subprocess
from collections.abc import Iterator
from typing import Any

from . import bounded, psql
from .row_counts import Server
from .scram import scram_verifier

# The only role besides postgres that role postgresql lets in by the Unix socket. It exists during a copy: pg_restore runs code of
# the application, such as the function of a CHECK, and from a session of the superuser that code could become the superuser.
LOADER = "grunnfjell_restore"
NAME = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# What the live server keeps free beside the copies, for its WAL.
RESERVE = 2**30
CREATE_S = 600

STATE_SQL = """
SELECT json_build_object(
  'standby', pg_is_in_recovery(),
  'major', current_setting('server_version_num')::int / 10000,
  'databases', (SELECT json_object_agg(datname, pg_database_size(oid)) FROM pg_database),
  'roles', (SELECT json_agg(rolname) FROM pg_roles WHERE NOT rolsuper));
"""
SOURCE_SQL = """
SELECT json_build_object('owner', (SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()), 'tables',
  (SELECT coalesce(json_object_agg(n.nspname || '.' || c.relname, c.relkind), '{}') FROM pg_class c
   JOIN pg_namespace n ON n.oid = c.relnamespace
   WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')));
"""


class CopyError(Exception):
    """Why there is no copy, as a sentence without its full stop."""


def ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def live_state(server: Server) -> dict[str, Any]:
    return json.loads(server.ask(STATE_SQL))


def needed_bytes(backup_bytes: int, sizes: dict[str, int], database: str) -> int:
    """For the restored files, the loaded copy and its WAL. Other databases are restored as empty files.

    >>> needed_bytes(10 * 2**30, {"news": 2 * 2**30, "shop": 7 * 2**30}, "news") / 2**30
    8.0
    """
    size = sizes.get(database, backup_bytes)
    others = sum(other for name, other in sizes.items() if name != database)
    return max(backup_bytes - others, size) + 2 * size + RESERVE


def refusals(params: dict[str, Any], state: dict[str, Any], held: list[str], backup: dict[str, Any], free: int) -> Iterator[str]:
    """Why there can be no copy, before anything is restored. held: the backup's databases."""
    name, database = params["name"], params["database"]
    if state["standby"]:
        yield "restore_database names a standby, which takes no new database. Name the primary, which `make status` shows."
    if database not in held:
        known = ", ".join(sorted(set(held) - {"postgres"})) or "none"
        yield (
            f"restore_copy is '{database}', but the backup {backup['label']} before that moment holds {known}. Name one of them, "
            f"or a later moment."
        )
    if not NAME.fullmatch(name) or name.startswith("pg_"):
        yield f"restore_as is '{name}', but a new name has small letters, digits and '_' only. Write e.g. {database}_before."
    elif name in state["databases"]:
        yield (
            f"restore_as is '{name}', but the server has a database of this name, which is not touched. Choose another name, or "
            f"remove it: runuser -u postgres -- dropdb {name}."
        )
    needed = needed_bytes(backup["info"]["size"], state["databases"], database)
    if free < needed:
        yield (
            f"The restored files, the copy and its WAL take up to {needed / 2**30:.2f} GiB, but the disk of {params['path']} has "
            f"{free / 2**30:.2f} GiB free, and a full disk would stop PostgreSQL. Free some, or give the host a larger disk."
        )


class DatabaseCopy:
    def __init__(self, params: dict[str, Any], source: Server, live: Server) -> None:
        self.params, self.source, self.live = params, source, live
        self.owner = ""

    def refuse(self) -> None:
        """What only the restored database can tell; raises CopyError."""
        database, table = self.params["database"], self.params["table"]
        about = json.loads(self.source.ask(f"\\connect {ident(database)}\n{SOURCE_SQL}").splitlines()[-1])
        self.owner = about["owner"]
        if self.owner not in live_state(self.live)["roles"]:
            raise CopyError(
                f"the restored database belonged to the role {self.owner}, with whose rights the copy would be loaded, but that "
                f"role is missing or a superuser: create it, or restore in place"
            )
        if not table:
            return
        kind = about["tables"].get(table)
        if kind is None:
            known = ", ".join(sorted(name for name, kind in about["tables"].items() if kind == "r")[:20]) or "no table"
            raise CopyError(f"restore_table is '{table}', but at that moment {database} had {known}: name one with its schema")
        if kind != "r":
            raise CopyError(f"restore_table is '{table}', which is not an ordinary table: leave restore_table out")

    def run(self) -> int:
        """The size of the new database; none is left after a failure."""
        name, owner, password = self.params["name"], ident(self.owner), secrets.token_urlsafe(32)
        drop_loader = f"DROP ROLE IF EXISTS {LOADER};"
        try:
            self.live.ask(f"{drop_loader}\nCREATE ROLE {LOADER} LOGIN PASSWORD '{scram_verifier(password)}' IN ROLE {owner};")
            # Outside of the next block: a database that somebody else made meanwhile is not dropped.
            self.live.ask(f"CREATE DATABASE {ident(name)} OWNER {owner} TEMPLATE template0 ENCODING 'UTF8';", CREATE_S)
            try:
                self.fill(password)
                return live_state(self.live)["databases"][name]
            except BaseException:
                self.live.ask(f"DROP DATABASE IF EXISTS {ident(name)} WITH (FORCE);", CREATE_S)
                raise
        finally:
            self.live.ask(drop_loader)

    def fill(self, password: str) -> None:
        name, schema = ident(self.params["name"]), self.params["table"].rpartition(".")[0]
        self.live.ask(f"REVOKE ALL ON DATABASE {name} FROM PUBLIC;")
        if schema:  # pg_dump does not create the schema of a single table
            self.live.ask(f"\\connect {name}\nCREATE SCHEMA IF NOT EXISTS {ident(schema)} AUTHORIZATION {ident(self.owner)};")
        self.load(password)

    def load(self, password: str) -> None:
        table, binaries = self.params["table"], f"/usr/lib/postgresql/{self.live.major}/bin"
        schema, _, relation = table.partition(".")
        what = [f"--table={ident(schema)}.{ident(relation)}"] if table else []
        # Of a table neither keys nor triggers, which may need what is not here.
        parts = ["--section=pre-data", "--section=data"] if table else []
        dump = [
            f"{binaries}/pg_dump", "--format=custom", "--compress=0", "--no-publications", "--no-subscriptions",
            "--no-security-labels", "-h", self.source.directory, "-p", str(self.source.port), "-d", self.params["database"],
            *what,
        ]  # fmt: skip
        load = [
            f"{binaries}/pg_restore", "--exit-on-error", "--no-owner", "--no-acl", "--no-comments", "--no-tablespaces",
            f"--role={self.owner}", "-U", LOADER, "-p", str(self.live.port), "-d", self.params["name"], *parts,
        ]  # fmt: skip
        as_account = {"cwd": "/", **bounded.identity(psql.ACCOUNT)}
        with subprocess.Popen(dump, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=psql.ENVIRONMENT, **as_account) as reader:
            try:
                done = subprocess.run(
                    load, stdin=reader.stdout, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False,
                    timeout=self.params["timeout"], env=psql.ENVIRONMENT | {"PGPASSWORD": password}, **as_account,
                )  # fmt: skip
            except subprocess.TimeoutExpired as error:
                reader.kill()
                raise CopyError(f"pg_restore did not end within {self.params['timeout']} s") from error
            if done.returncode:
                reader.kill()
            # Little enough for a pipe: pg_dump ends at its first error.
            errors = reader.stderr.read() if reader.stderr else b""
        if done.returncode:
            advice = ". Leave restore_table out: the table needs more of its database" if table else ""
            raise CopyError(f"pg_restore: {last_words(done.stderr)}{advice}")
        if reader.returncode:
            raise CopyError(f"pg_dump: {last_words(errors)}")


def last_words(output: bytes) -> str:
    return " ".join(output.decode(errors="replace").split())[-400:].rstrip(".")
