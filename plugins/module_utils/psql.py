"""Queries PostgreSQL and PgBouncer through psql."""

from __future__ import annotations

import csv
import io
import subprocess
from typing import Any

from . import bounded

ACCOUNT = "postgres"
# No ~/.psqlrc, no password prompt, stop at the first error. Terse errors leave out the statement, which may contain a verifier.
PSQL = ("psql", "-Xqw", "-v", "ON_ERROR_STOP=1", "-v", "VERBOSITY=terse", "-f", "-")
# The complete environment, since PGHOST, PGSERVICE or PGOPTIONS of Ansible's login would change the connection.
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C.UTF-8",
    "PGCLIENTENCODING": "UTF8",
    "PGCONNECT_TIMEOUT": "10",
}
# An application owns its database. There it may create operators, functions and types that match a query better than
# PostgreSQL's (CVE-2018-1058), and ALTER DATABASE ... SET applies to the superuser's session too. Only settings of the
# connection itself override it.
PINNED = {
    "search_path": "pg_catalog,pg_temp",
    "role": "none",
    # A library that does not exist makes every login fail.
    "local_preload_libraries": "",
    "default_transaction_isolation": r"read\ committed",
    "default_transaction_read_only": "off",
    "standard_conforming_strings": "on",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "statement_timeout": "0",
    # An application may hold locks in an open transaction.
    "lock_timeout": "30s",
}
# A server refuses a connection with an unknown setting.
PINNED_SINCE = {17: {"transaction_timeout": "0"}}


class PsqlError(Exception):
    """psql's error. stderr: its whole output there, also after a timeout."""

    def __init__(self, message: str, stderr: str = "") -> None:
        super().__init__(message)
        self.stderr = stderr


def superuser(sql: str, port: int, timeout: float = 60, major: int = 0, directory: str = "") -> str:
    r"""The output of a script run as PostgreSQL's superuser; `\connect` changes the database and keeps the settings.

    major: the server's version if it is known; required for `\connect` to an application's database.
    directory: of the server's socket, empty for Debian's.
    """
    pinned = PINNED | {key: value for since, more in PINNED_SINCE.items() if major >= since for key, value in more.items()}
    options = " ".join(f"-c {key}={value}" for key, value in pinned.items())
    where = [*(["-h", directory] if directory else []), "-p", str(port), "-d", "postgres"]
    return _run(["-At", *where], sql, timeout, {"PGOPTIONS": options}, **bounded.identity(ACCOUNT))


def console(command: str, directory: str, port: int | str, timeout: float = 60) -> list[dict[str, str]]:
    """Rows of a command on PgBouncer's console, which needs no password for PgBouncer's account."""
    where = ["--csv", "-h", directory, "-p", str(port), "-U", "pgbouncer", "-d", "pgbouncer"]
    return list(csv.DictReader(io.StringIO(_run(where, command, timeout, {}, **bounded.identity(ACCOUNT)))))


def log_in(settings: dict[str, str], timeout: float = 60) -> None:
    """Logs in and out. settings: libpq's variables with the password, which is thus not in an argument."""
    _run(["-At"], "SELECT 1", timeout, settings)


def _run(arguments: list[str], sql: str, timeout: float, more: dict[str, str], **account: Any) -> str:
    try:
        done = bounded.run([*PSQL, *arguments], timeout, sql, cwd="/", env=ENVIRONMENT | more, **account)
    except FileNotFoundError as error:
        raise PsqlError("psql is not installed on this host") from error
    except KeyError as error:
        raise PsqlError(f"there is no account {ACCOUNT} on this host") from error
    except subprocess.TimeoutExpired as error:
        stderr = error.stderr.decode(errors="replace") if isinstance(error.stderr, bytes) else error.stderr or ""
        raise PsqlError(f"psql had no answer within {timeout:g} s", stderr) from error
    if done.returncode:
        raise PsqlError(done.stderr.strip() or f"psql ended with {done.returncode}", done.stderr)
    return done.stdout
