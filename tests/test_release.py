"""`make release`: the content of the artifact, that a commit has one artifact, and that it works once installed."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest
import yaml

from lab import release
from lab.machine import REPOSITORY

BIN = Path(sys.executable).parent
VERSION = yaml.safe_load((REPOSITORY / "galaxy.yml").read_text())["version"]
# What a user gets; everything else at the top of the repository makes or tests it.
PRODUCT = {
    "MANIFEST.json", "FILES.json", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE", "site.yml",
    "docs", "examples", "inventories", "meta", "playbooks", "plugins", "roles", "templates",
}  # fmt: skip


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return release.build("HEAD", tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def entries(artifact: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(artifact) as tar:
        return {entry.name: entry for entry in tar}


@pytest.fixture(scope="module")
def operator(artifact: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with only the installed artifact, a copy of its example inventory and the ansible.cfg of README.md."""
    home = tmp_path_factory.mktemp("operator")
    # The link of `make setup` counts as installed, hence --force.
    run(home, "ansible-galaxy", "collection", "install", artifact, "-p", "collections", "--force", "--offline")
    installed = home / "collections/ansible_collections/grunnfjell/platform"
    shutil.copytree(installed / "inventories/example", home / "inventory")
    (home / ".vault-password").write_text("not-a-secret")
    settings = re.search(r"```ini\n(\[defaults\]\n.*?)```", (installed / "README.md").read_text(), re.DOTALL)
    (home / "ansible.cfg").write_text(settings.group(1))
    return home


def run(home: Path, tool: str, *arguments: str | Path, ok: bool = True) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run([BIN / tool, *arguments], cwd=home, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == ok, done.stdout + done.stderr
    return done.stdout


def test_two_builds_of_a_commit_are_the_same_bytes(artifact: Path, tmp_path: Path) -> None:
    umask = os.umask(0o077)
    try:
        again = release.build("HEAD", tmp_path)
    finally:
        os.umask(umask)
    assert artifact.name == again.name
    assert sha256(artifact.read_bytes()).hexdigest() == sha256(again.read_bytes()).hexdigest()


def test_the_artifact_does_not_depend_on_time_user_or_order() -> None:
    """ansible-galaxy leaves them to chance."""

    def packed(names: list[str], mtime: int) -> bytes:
        files = {"files": [{"name": name} for name in names]}
        manifest = {"file_manifest_file": {"chksum_sha256": str(mtime)}}
        contents = {"MANIFEST.json": release.text(manifest), "FILES.json": release.text(files)}
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
            for name, content in [*contents.items(), *((name, name.encode()) for name in names)]:
                entry = tarfile.TarInfo(name)
                entry.size, entry.mtime = len(content), mtime
                tar.addfile(entry, io.BytesIO(content))
        return buffer.getvalue()

    first, second = packed(["a", "b", "c"], 1.25), packed(["c", "a", "b"], 2)
    assert first != second
    assert release.repacked(first, 1_700_000_000) == release.repacked(second, 1_700_000_000)


def test_the_artifact_contains_only_the_product(entries: dict[str, tarfile.TarInfo]) -> None:
    assert {name.split("/")[0] for name in entries} == PRODUCT
    assert {name.split("/")[1] for name in entries if name.startswith("inventories/")} == {
        "example",
        "example-compact",
        "example-spread",
    }
    assert {"examples/newsroom", "examples/ledger", "playbooks/site.yml", "playbooks/templates"} <= entries.keys()


def test_the_artifact_contains_no_secret(artifact: Path) -> None:
    with tarfile.open(artifact) as tar:
        for entry in (entry for entry in tar if entry.isreg()):
            text = tar.extractfile(entry).read()
            assert not text.startswith(b"$ANSIBLE_VAULT"), entry.name
            assert b"PRIVATE KEY-----\n" not in text, entry.name
            assert Path(entry.name).name not in {"vault.yml", ".vault-password", "ansible.cfg"}, entry.name


def test_owners_modes_and_dates_come_from_the_commit(entries: dict[str, tarfile.TarInfo]) -> None:
    date = int(release.git("show", "--no-patch", "--format=%ct", "HEAD"))
    assert {(entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime) for entry in entries.values()} == {(0, 0, "", "", date)}
    assert {oct(entry.mode) for entry in entries.values() if not entry.issym()} <= {"0o644", "0o755"}


def test_the_listed_checksums_are_those_of_the_files(artifact: Path) -> None:
    with tarfile.open(artifact) as tar:
        listing = tar.extractfile("FILES.json").read()
        assert json.load(tar.extractfile("MANIFEST.json"))["file_manifest_file"]["chksum_sha256"] == sha256(listing).hexdigest()
        for file in json.loads(listing)["files"]:
            if file["ftype"] == "file":
                assert sha256(tar.extractfile(file["name"]).read()).hexdigest() == file["chksum_sha256"], file["name"]


def test_a_tree_with_changes_is_not_released(tmp_path: Path) -> None:
    def commit() -> None:
        for command in (["init", "-q"], ["add", "-A"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
            release.git(*command, repository=tmp_path)

    (tmp_path / "tracked").write_text("a")
    commit()
    assert release.uncommitted(tmp_path) == ""
    (tmp_path / "tracked").write_text("b")
    (tmp_path / "new").write_text("b")
    assert "from which a release is built: tracked, new. " in release.uncommitted(tmp_path)


@pytest.mark.parametrize(
    ("changelog", "refused"),
    [
        ("# Changelog\n\n## 1.2.3 (2026-11-28)\n\n* x\n", False),
        ("# Changelog\n\n## 1.2.3 (unreleased)\n", True),
        ("# Changelog\n\n## 1.2.30 (2026-11-28)\n", True),
        ("# Changelog\n\n## 1.2.3-rc.1 (2026-11-28)\n", True),
        ("", True),
    ],
)
def test_a_version_needs_a_dated_section(changelog: str, refused: bool) -> None:
    assert bool(release.undated("1.2.3", changelog)) == refused


def test_the_changelog_has_a_section_with_upgrade_notes_for_each_version_newest_first() -> None:
    sections = re.split(r"^## ", (REPOSITORY / "CHANGELOG.md").read_text(), flags=re.MULTILINE)[1:]
    heads = [section.splitlines()[0] for section in sections]
    assert heads[0].split()[0] == VERSION
    assert all(re.fullmatch(r"\d+\.\d+\.\d+\S* \((\d{4}-\d{2}-\d{2}|unreleased)\)", head) for head in heads), heads
    assert all("\n### Upgrading\n" in section for section in sections)


def test_the_installed_artifact_runs_the_site_by_name(operator: Path) -> None:
    """ansible.cfg names it before the collection that `make setup` links."""
    playbook = operator / "collections/ansible_collections/grunnfjell/platform/playbooks/site.yml"
    assert f"playbook: {playbook}" in run(operator, "ansible-playbook", "grunnfjell.platform.site", "--syntax-check")


def test_the_installed_artifact_refuses_and_plans_without_a_checkout(operator: Path) -> None:
    """All hosts are this machine, which the checks of the fleet find; the report goes to the working directory."""
    run(operator, "ansible-playbook", "grunnfjell.platform.secrets")
    local = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
    (operator / "inventory/group_vars/all/local.yml").write_text(yaml.safe_dump(local))
    output = run(operator, "ansible-playbook", "grunnfjell.platform.site", "--tags", "topology", ok=False)
    assert "broker1, db1, web1, worker1 and worker2 are one machine" in output
    run(operator, "ansible-playbook", "grunnfjell.platform.plan", ok=False)
    assert json.loads((operator / "build/plan.json").read_text())["workers_that_fit"] == 0
