"""Build the collection's artifact into build/, byte for byte the same each time a commit is built.

ansible-galaxy writes the time and the order of a directory listing into its tar file. Both are replaced: entries are sorted and
have the commit's date.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import yaml

from lab.machine import BIN, BUILD, REPOSITORY, fail, git

MANIFEST, FILES = "MANIFEST.json", "FILES.json"


def uncommitted(repository: Path = REPOSITORY) -> str:
    """A sentence if the working tree differs from its commit."""
    changes = [line[3:] for line in git("status", "--porcelain", repository=repository).splitlines()]
    if not changes:
        return ""
    more = f" and {len(changes) - 3} more" if len(changes) > 3 else ""
    return (
        f"The working tree differs from the last commit, from which a release is built: {', '.join(changes[:3])}{more}. "
        f"Commit or remove them."
    )


def undated(version: str, changelog: str) -> str:
    """A sentence if the changelog has no dated section for the version."""
    if re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d{{2}}-\d{{2}}\)$", changelog, re.MULTILINE):
        return ""
    return (
        f"CHANGELOG.md has no section '## {version} (YYYY-MM-DD)' for the version in galaxy.yml. "
        f"Put the date of the release there, or correct the version."
    )


def build(commit: str, directory: Path) -> Path:
    """The artifact of a commit, without anything else in the working tree."""
    with tempfile.TemporaryDirectory() as temporary:
        source, output = Path(temporary, "source"), Path(temporary, "output")
        archive = subprocess.run(["git", "archive", commit], cwd=REPOSITORY, capture_output=True, check=True).stdout
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(source, filter="tar")
        command = [BIN / "ansible-galaxy", "collection", "build", "--output-path", output, source]
        subprocess.run(command, cwd=temporary, capture_output=True, check=True)
        (artifact,) = output.glob("*.tar.gz")
        directory.mkdir(parents=True, exist_ok=True)
        target = directory / artifact.name
        target.write_bytes(repacked(artifact.read_bytes(), int(git("show", "--no-patch", "--format=%ct", commit))))
    return target


def repacked(artifact: bytes, date: int) -> bytes:
    """The artifact with sorted entries, one date, and the checksum of its sorted list of files."""
    with tarfile.open(fileobj=io.BytesIO(artifact)) as tar:
        entries = {entry.name: (entry, content_of(tar, entry)) for entry in tar}
    files = json.loads(entries[FILES][1])
    files["files"].sort(key=lambda file: file["name"])
    manifest = json.loads(entries[MANIFEST][1])
    listing = text(files)
    manifest["file_manifest_file"]["chksum_sha256"] = hashlib.sha256(listing).hexdigest()
    entries[FILES] = entries[FILES][0], listing
    entries[MANIFEST] = entries[MANIFEST][0], text(manifest)

    packed = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=packed, mtime=date) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in [MANIFEST, FILES, *sorted(entries.keys() - {MANIFEST, FILES})]:
            entry, content = entries[name]
            entry.mtime, entry.size, entry.pax_headers = date, len(content), {}
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def content_of(tar: tarfile.TarFile, entry: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(entry) if entry.isreg() else None
    return file.read() if file else b""


def text(data: dict[str, Any]) -> bytes:
    """As ansible-galaxy writes it."""
    return json.dumps(data, indent=True).encode()


def main() -> None:
    version = str(yaml.safe_load((REPOSITORY / "galaxy.yml").read_text(encoding="utf-8"))["version"])
    changelog = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
    if problem := uncommitted() or undated(version, changelog):
        fail(f"No release was built. {problem}")
    artifact = build("HEAD", BUILD)
    print(f"{hashlib.sha256(artifact.read_bytes()).hexdigest()}  {artifact.relative_to(REPOSITORY)}")


if __name__ == "__main__":
    main()
