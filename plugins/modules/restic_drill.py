#!/usr/bin/python3
"""Opens a sample of a host's files in the backup, and compares them with the live ones."""

from __future__ import annotations

DOCUMENTATION = r"""
module: restic_drill
short_description: Prove that the files of a host can be restored
description:
  - Takes at random files of the last backup that have not changed since, reads them from the repository and compares their
    SHA-256 with that of the live files. Nothing is written to the disk except the record.
options:
  sample: {description: Number of files., type: int, default: 20}
author: maintainers
attributes:
  check_mode: {support: full, description: Drills nothing.}
"""

EXAMPLES = r"""
- name: Open twenty files of the last backup
  restic_drill:
"""

RETURN = r"""
record: {description: 'What was proved: proved, problems, files_opened, bytes, seconds, snapshot.', returned: success, type: dict}
"""

import contextlib
import hashlib
import json
import os
import random
import subprocess
import time
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import restic
from ..module_utils.whole_files import ManagedFile, usual_umask, write_atomically

CHUNK = 1 << 20


def unchanged(entry: dict[str, Any]) -> bool:
    """Whether the live file has the size and the time of the one in the backup."""
    try:
        live = os.lstat(entry["path"])
    except OSError:
        return False
    same_time = abs(datetime.fromisoformat(entry["mtime"]).timestamp() - live.st_mtime) < 0.001
    return live.st_size == entry.get("size", 0) and same_time


def digest_of_live(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_in_backup(host: str, period: str, snapshot: str, path: str) -> str:
    digest = hashlib.sha256()
    command = [restic.PROGRAM, "--at", host, "--period", period, "dump", "--no-lock", snapshot, path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd="/") as process:
        assert process.stdout and process.stderr
        while chunk := process.stdout.read(CHUNK):
            digest.update(chunk)
        errors = process.stderr.read().decode(errors="replace")
    if process.returncode:
        raise restic.ResticError(f"{path} cannot be read: {' '.join(errors.split())[-300:]}")
    return digest.hexdigest()


def drill(sample: int) -> dict[str, Any]:
    """The record of a drill at every repository host."""
    began, config = time.monotonic(), restic.client()
    record: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "problems": [],
        "files_opened": 0,
        "bytes": 0,
    }
    for host in config["repository_hosts"]:
        try:
            open_sample(host, config, sample, record)
        except restic.ResticError as error:
            record["problems"].append(f"{host}: {error}")
    return record | {"proved": not record["problems"], "seconds": round(time.monotonic() - began, 1)}


def open_sample(host: str, config: dict[str, Any], sample: int, record: dict[str, Any]) -> None:
    found = restic.snapshot_before(host, datetime.now(UTC), config["full_every"])
    if found is None:
        raise restic.ResticError("it has no backup of this host: systemctl start grunnfjell-restic-backup")
    period, snapshot = found
    entries = restic.nodes(host, period, snapshot["short_id"])
    files = [entry for entry in entries if entry["type"] == "file" and unchanged(entry)]
    if not files:
        raise restic.ResticError("no file of the last backup is unchanged since, so none can be compared. Take one now")
    for entry in random.sample(files, min(sample, len(files))):
        backed_up = digest_in_backup(host, period, snapshot["short_id"], entry["path"])
        with contextlib.suppress(FileNotFoundError):
            # A file that changed meanwhile proves nothing.
            if backed_up != digest_of_live(entry["path"]) and unchanged(entry):
                raise restic.ResticError(f"{entry['path']} differs from the backup of {snapshot['time'][:19]} UTC")
        record["files_opened"] += 1
        record["bytes"] += entry.get("size", 0)


def main() -> None:
    usual_umask()
    module = AnsibleModule(argument_spec={"sample": {"type": "int", "default": 20}}, supports_check_mode=True)
    if module.check_mode:
        module.exit_json(changed=False)
    try:
        record = drill(module.params["sample"])
        write_atomically(ManagedFile(str(restic.DRILL), json.dumps(record, indent=2) + "\n", "root", "root", 0o644))
    except restic.ResticError as error:
        module.fail_json(msg=f"{error}.")
    module.exit_json(changed=False, record=record)


if __name__ == "__main__":
    main()
