#!/usr/bin/python3
"""Restores a path of a host from the backup of its files."""

from __future__ import annotations

DOCUMENTATION = r"""
module: restic_restore
short_description: Restore a directory or a file beside the live one, or in its place
description:
  - Restores I(path) from the last backup before I(to). Without I(over), it becomes C(PATH.restored-DATE) beside the live one.
    With I(over), which must name I(path) again, the live one becomes C(PATH.before-restore-DATE), and the restored one takes
    its place.
  - Refuses a path that no backup holds, and a disk without room. Never deletes anything.
options:
  path: {description: The absolute path of a directory or a file., type: str, required: true}
  to: {description: 'A moment with its offset from UTC, or C(latest).', type: str, default: latest}
  over: {description: The same path again, type: str, default: ''}
  at: {description: The repository host; the first one by default., type: str, default: ''}
author: maintainers
attributes:
  check_mode: {support: full, description: Finds the backup and the room for it.}
"""

EXAMPLES = r"""
- name: Bring the uploads of yesterday back beside the live ones
  restic_restore:
    path: /var/lib/newsroom/uploads
    to: 2026-11-29 10:00:00+01:00
"""

RETURN = r"""
restored: {description: A sentence about what was restored., returned: when it was restored, type: str}
path: {description: Where the restored data is., returned: when it was restored, type: str}
kept: {description: Where the former data is., returned: when it was replaced, type: str}
"""

import os
import posixpath
import re
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import restic

# What the file system needs besides the files.
SPARE = 1.05


class Refused(Exception):
    """Why nothing is restored, as a sentence."""


def moment_of(to: str, now: datetime) -> datetime:
    if to == "latest":
        return now
    try:
        moment = datetime.fromisoformat(to)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise Refused(f"restore_to is '{to}', which is not a moment with its offset from UTC, e.g. '2026-11-29 10:00:00+01:00'.")
    if moment > now:
        raise Refused(f"restore_to is {to}, which is in the future. Name an earlier moment, or latest.")
    return moment.astimezone(UTC)


def check_names(path: str, over: str) -> None:
    if not path.startswith("/") or posixpath.normpath(path) != path or path == "/":
        raise Refused(f"restore_path is '{path}', which is not the absolute path of a directory or file below /. Correct it.")
    if over and over != path:
        raise Refused(
            f"restore_over is '{over}', but restore_path is '{path}': a restore in place replaces the live data, so name the "
            f"same path in both, or leave restore_over out to restore beside it."
        )
    if not os.path.isdir(os.path.dirname(path)):
        raise Refused(f"{os.path.dirname(path)} does not exist. Run site.yml first, or create it with its owner.")
    if over and os.path.ismount(path):
        raise Refused(f"{path} is a mount point, which cannot be exchanged. Restore beside it, and copy.")


def held_bytes(entries: list[dict[str, Any]], path: str, snapshot: dict[str, Any]) -> tuple[int, int]:
    """Files and bytes that the snapshot holds at the path."""
    if not any(entry["path"] == path for entry in entries):
        raise Refused(
            f"The backup of {snapshot['time'][:19]} UTC does not hold {path}. It holds: {', '.join(snapshot['paths'])}. Name "
            f"a path below these, or an earlier moment in restore_to."
        )
    files = [entry for entry in entries if entry["type"] == "file"]
    return len(files), sum(entry.get("size", 0) for entry in files)


def unglobbed(path: str) -> str:
    """The path as restic's --include matches it literally."""
    return re.sub(r"([*?\[\]\\])", r"\\\1", path)


def exchange(restored: Path, path: Path, stamp: str) -> Path | None:
    """Put the restored data in the place of the live one, which is kept; returns where."""
    kept = path.with_name(f"{path.name}.before-restore-{stamp}") if os.path.lexists(path) else None
    if kept:
        path.rename(kept)
    try:
        restored.rename(path)
    except OSError:
        if kept:
            kept.rename(path)
        raise
    return kept


def restore(params: dict[str, Any], dry: bool) -> dict[str, Any]:
    path, over = params["path"], params["over"]
    check_names(path, over)
    config = restic.client()
    host = params["at"] or next(iter(config["repository_hosts"]))
    if host not in config["repository_hosts"]:
        raise Refused(f"restore_at is '{host}', which is not one of {', '.join(config['repository_hosts'])}. Correct it.")
    found = restic.snapshot_before(host, moment_of(params["to"], datetime.now(UTC)), config["full_every"])
    if found is None:
        raise Refused(
            f"{host} has no backup of this host from before {params['to']}. Name a later moment, or another restore_at."
        )
    period, snapshot = found
    files, size = held_bytes(restic.nodes(host, period, snapshot["short_id"], path), path, snapshot)
    free = shutil.disk_usage(os.path.dirname(path)).free
    if size * SPARE > free:
        raise Refused(
            f"{path} takes {size} bytes in the backup, but its disk has {free} free. Make room: nothing is overwritten."
        )
    if dry:
        return {}
    began, stamp = time.monotonic(), datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    scratch = tempfile.mkdtemp(prefix=".grunnfjell-restore-", dir=os.path.dirname(path))
    try:
        place = ("--at", host, "--period", period, "restore", snapshot["short_id"], "--no-lock", "--verify")
        restic.run(*place, f"--target={scratch}", f"--include={unglobbed(path)}", timeout=86400)
        restored, live = Path(scratch + path), Path(path)
        target, kept = live.with_name(f"{live.name}.restored-{stamp}"), None
        if over:
            target, kept = live, exchange(restored, live, stamp)
        else:
            restored.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    # From now on this machine's backups follow those of the one that it may replace.
    restic.run("adopt")
    sentence = (
        f"{files} files, {size} bytes of {path}, as of {snapshot['time'][:19]} UTC, are at {target} after "
        f"{time.monotonic() - began:.1f} s."
    )
    return {
        "restored": sentence + (f" The data from before is kept at {kept}." if kept else ""),
        "path": str(target),
        "kept": str(kept or ""),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "str", "required": True},
            "to": {"type": "str", "default": "latest"},
            "over": {"type": "str", "default": ""},
            "at": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        result = restore(module.params, module.check_mode)
    except (Refused, restic.ResticError, OSError) as error:
        module.fail_json(msg=f"Nothing was replaced. {error}")
    module.exit_json(changed=True, **result)


if __name__ == "__main__":
    main()
