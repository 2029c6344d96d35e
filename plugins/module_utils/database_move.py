"""Moves a single PostgreSQL server to another major version with Debian's pg_upgradecluster, and back."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .postgresql_state import OF_A_NEW_CLUSTER
from .row_counts import DATABASES_SQL, Server, quoted

DATA, ETC = Path("/var/lib/postgresql"), Path("/etc/postgresql")
# Of Debian's cluster tools. They would otherwise wait only a minute for a server that starts or stops.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "PGCTLTIMEOUT": "86400"}
# What the disk keeps free beside the copies, for WAL.
RESERVE = 2**30

STATE_SQL = """
SELECT json_build_object(
  'standby', pg_is_in_recovery(),
  'checksums', current_setting('data_checksums')::bool,
  'standbys', (SELECT coalesce(json_agg(DISTINCT coalesce(host(client_addr), 'local')), '[]') FROM pg_stat_replication
               WHERE state = 'streaming'),
  'slots', (SELECT coalesce(json_agg(slot_name ORDER BY slot_name), '[]') FROM pg_replication_slots WHERE NOT temporary),
  'prepared', (SELECT coalesce(json_agg(gid ORDER BY gid), '[]') FROM pg_prepared_xacts),
  'tablespaces', (SELECT coalesce(json_agg(spcname ORDER BY spcname), '[]') FROM pg_tablespace
                  WHERE spcname NOT IN ('pg_default', 'pg_global')),
  'bytes', (SELECT sum(pg_database_size(oid))::bigint FROM pg_database));
"""

# A new Debian brings other versions of libc and ICU, which may sort text in another way. An index in the old order does not find
# its rows and lets duplicates in. REINDEX runs an index's functions with the rights of the table's owner.
REINDEX_SQL = r"""
CREATE TEMP TABLE reordered AS
WITH own AS (SELECT datlocprovider AS provider, datcollate AS locale FROM pg_database WHERE datname = current_database()),
  used AS (SELECT l.oid, CASE l.collprovider WHEN 'd' THEN own.provider ELSE l.collprovider END AS provider,
             coalesce(l.collcollate, own.locale) AS locale FROM pg_collation l, own),
  unstable AS (SELECT oid FROM used WHERE provider = 'i' OR (provider = 'c' AND locale !~ '^(C|POSIX)($|\.)'))
SELECT x.indexrelid::regclass AS name FROM pg_index x JOIN pg_class c ON c.oid = x.indexrelid
WHERE c.relkind = 'i' AND EXISTS (SELECT FROM unstable u WHERE u.oid = ANY (x.indcollation::oid[]));
SELECT 'reindexed ' || count(*) FROM reordered;
SELECT format('REINDEX INDEX %s', name) FROM reordered
\gexec
SELECT format('ALTER COLLATION %s REFRESH VERSION', l.oid::regcollation) FROM pg_collation l
WHERE l.collversion IS DISTINCT FROM pg_collation_actual_version(l.oid) AND l.collversion IS NOT NULL
\gexec
SELECT format('ALTER DATABASE %I REFRESH COLLATION VERSION', datname) FROM pg_database
WHERE datname = current_database() AND datcollversion IS DISTINCT FROM pg_database_collation_actual_version(oid)
\gexec
"""
REINDEX_S = 86400


class MoveError(Exception):
    """Why the move ended, as a sentence without its full stop."""


@dataclass(frozen=True)
class Versions:
    old: str
    new: str


def databases(data: Path) -> set[str]:
    """Directories of the databases in a cluster besides those that every cluster has."""
    base = data / "base"
    found = {entry.name for entry in base.iterdir() if entry.name.isdigit()} if base.is_dir() else set()
    return found - OF_A_NEW_CLUSTER


def start_mode(config: Path) -> str:
    """Of Debian's start.conf: auto, manual or disabled; empty without a cluster."""
    try:
        lines = (config / "start.conf").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    return next((word for line in lines if (word := line.split("#")[0].strip())), "")


def stage(versions: Versions) -> str:
    """Where a host is: old (only the old cluster, or an empty new one), moved, half (a move was cut off), or nothing to move."""
    old, new = DATA / versions.old / "main", DATA / versions.new / "main"
    if not versions.old or not (old / "PG_VERSION").exists():
        return "nothing"
    if not (new / "PG_VERSION").exists():
        return "old"
    if start_mode(ETC / versions.old / "main") != "auto":
        return "moved"
    return "half" if databases(new) else "old"


def misplaced(at: str, wanted: str, versions: Versions) -> Iterator[str]:
    """Why the host is not where a move (wanted: old) or the way back (wanted: moved) begins."""
    if at == "nothing":
        yield (
            f"There is no cluster of PostgreSQL {versions.old or 'an older version'} in {DATA}. A move begins on a host that was "
            f"upgraded from the Debian before, with its data."
        )
    elif at == "half":
        yield (
            f"{DATA}/{versions.new}/main holds databases, although {versions.old} main starts by itself: a move was cut off, or "
            f"somebody uses both. If the data of {versions.old} is what you keep, run pg_dropcluster --stop {versions.new} main."
        )
    elif wanted == "moved" and at == "old":
        yield f"{DATA}/{versions.old}/main is in use: there is nothing to go back to."


def refusals(state: dict[str, Any], versions: Versions, free: int) -> Iterator[str]:
    """Why the old server cannot be moved. free: bytes on the disk of its data."""
    if state["standby"]:
        yield "The server is a standby. Name the host of its primary."
    if state["standbys"] or state["slots"]:
        names = ", ".join([*state["standbys"], *(f"the slot {slot}" for slot in state["slots"])])
        yield f"It is replicated ({names}), and a move keeps neither standbys nor slots. Remove them first."
    if state["prepared"]:
        yield f"It has prepared transactions ({', '.join(state['prepared'])}), which no move keeps. Commit or roll them back."
    if state["tablespaces"]:
        yield f"It has tablespaces ({', '.join(state['tablespaces'])}), for which this way was not tried."
    if not state["checksums"]:
        unit, data = f"postgresql@{versions.old}-main", f"{DATA}/{versions.old}/main"
        yield (
            f"Its data has no checksums, but the new cluster has. Switch them on while it is stopped, which reads and writes all "
            f"of it once: systemctl stop {unit}; runuser -u postgres -- /usr/lib/postgresql/{versions.old}/bin/pg_checksums "
            f"--enable -D {data}; systemctl start {unit}."
        )
    # The restored copy and what becomes of it; later the new cluster beside the old one.
    needed = 2 * state["bytes"] + RESERVE
    if free < needed:
        yield (
            f"A rehearsal makes two copies of {state['bytes'] / 2**30:.2f} GiB of databases, for which {needed / 2**30:.2f} GiB "
            f"must be free, but the disk of {DATA} has {free / 2**30:.2f} GiB. Free some space, or give the host a larger disk."
        )


def live(server: Server) -> dict[str, Any]:
    return json.loads(server.ask(STATE_SQL))


def run(*command: str) -> str:
    """A command's output; raises MoveError with the end of it. It has no limit: a cut-off copy would be half a cluster."""
    done = subprocess.run(
        command, cwd="/", env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", check=False,
    )  # fmt: skip
    if done.returncode:
        raise MoveError(f"{command[0]} failed: {telling(done.stdout)}")
    return done.stdout


def telling(output: str) -> str:
    """The end of the output of Debian's cluster tools, from pg_upgrade's first fault on, in one line.

    >>> telling("Checking for reg* data types   fatal\\n\\nYour installation contains one of them\\nFailure, exiting\\n")
    'Your installation contains one of them Failure, exiting'
    """
    lines = [" ".join(line.split()) for line in output.splitlines() if line.strip()]
    begin = next((place + 1 for place, line in enumerate(lines) if line.endswith("fatal")), max(0, len(lines) - 8))
    return " ".join(lines[begin:])[:800] or "it printed nothing"


def upgrade(versions: Versions, cluster: str, *data: str) -> None:
    """Copies the cluster's files to the new version and starts it, on this host's loopback only. The old one stays as it was.

    A failure removes the new cluster, and starts the old one if it ran.
    """
    jobs = str(os.cpu_count() or 1)
    options = ("--method=upgrade", "--jobs", jobs, "--start", "-v", versions.new)
    run("pg_upgradecluster", *options, versions.old, cluster, *data)


def reindex(server: Server) -> int:
    """Rebuild every index whose order depends on libraries of the release; returns how many."""
    names = json.loads(server.ask(DATABASES_SQL))
    script = [part for name in names for part in (f'\\connect "{quoted(name)}"', REINDEX_SQL)]
    lines = server.ask("\n".join(script), REINDEX_S).splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("reindexed "))


def port_of(data: Path) -> int:
    """Of a running server."""
    try:
        return int((data / "postmaster.pid").read_text(encoding="utf-8").splitlines()[3])
    except (OSError, IndexError, ValueError) as error:
        raise MoveError(f"the server of {data} does not run. Start it first") from error


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.monotonic()
    result = work()
    return round(time.monotonic() - began, 1), result


def drop_unused(versions: Versions) -> None:
    """The empty cluster that Debian makes when a new version is installed."""
    if (ETC / versions.new / "main").exists() and not databases(DATA / versions.new / "main"):
        run("pg_dropcluster", "--stop", versions.new, "main")
