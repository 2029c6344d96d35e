"""With the umask of 077 that hardened images and sudo set, services can still read their files. Review finding 14."""

import ast
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from accounts import GROUP, OWNER
from ansible_collections.grunnfjell.platform.plugins.modules import application_release
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.source import source_of

from lab.machine import REPOSITORY

MODULES = REPOSITORY / "plugins/modules"
# Runs a module as a host does: with arguments from Ansible and the umask of the login.
RUN = """
import importlib, json, os, sys
from ansible.module_utils import basic
name, changes, arguments = sys.argv[1:]
basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = json.dumps({"ANSIBLE_MODULE_ARGS": json.loads(arguments)}).encode(), "legacy"
module = importlib.import_module(f"ansible_collections.grunnfjell.platform.plugins.modules.{name}")
for attribute, value in json.loads(changes).items():
    setattr(module, attribute, value)
os.umask(0o077)
module.main()
"""


def run(name: str, changes: dict | None = None, **arguments) -> dict:
    command = [sys.executable, "-c", RUN, name, json.dumps(changes or {}), json.dumps(arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def unreadable(home: Path) -> list[str]:
    """Files that others may not read, and directories that they may not enter."""
    below = [path for path in home.rglob("*") if not path.is_symlink()]
    return [str(path.relative_to(home)) for path in below if path.stat().st_mode & (0o005 if path.is_dir() else 0o004) == 0]


def test_files_below_new_directories_are_readable(tmp_path):
    file = {"path": str(tmp_path / "etc/service/conf.d/a.conf"), "content": "a", "owner": OWNER, "group": GROUP}
    assert run("managed_files", files=[file], directories=[str(tmp_path / "etc/other/empty")])["changed"]
    assert unreadable(tmp_path) == []


@pytest.mark.skipif(os.getuid() != 0, reason="gives files to root")
def test_the_identities_of_a_host_are_readable(tmp_path):
    run("pki_identity", {"HOME": str(tmp_path / "grunnfjell/pki")}, identities={}, authorities="-----BEGIN CERTIFICATE-----\n")
    assert sorted(unreadable(tmp_path)) == ["grunnfjell/pki/.pending", "grunnfjell/pki/.untold"]
    # A service may enter .versions to read its key, but not list it.
    assert (tmp_path / "grunnfjell/pki/.versions").stat().st_mode & 0o777 == 0o711


def test_a_release_is_readable_by_the_account_of_the_application(tmp_path, monkeypatch):
    with tarfile.open(tmp_path / "artifact", "w:gz") as archive:
        entry = tarfile.TarInfo("package/module.py")
        entry.size, entry.mode = 2, 0o644
        archive.addfile(entry, io.BytesIO(b"x\n"))
    environment = lambda self, source: (self.directory / "venv/bin").mkdir(parents=True)  # noqa: E731
    monkeypatch.setattr(application_release.Build, "environment", environment)
    module = SimpleNamespace(params={"artifact": str(tmp_path / "artifact"), "settings": "/settings"})
    before = os.umask(0o077)
    try:
        application_release.usual_umask()
        application_release.Build(module, tmp_path / "opt/app/releases/1", {"python": "/usr/bin/python3"}).build()
    finally:
        os.umask(before)
    assert unreadable(tmp_path / "opt") == []


def writers() -> list[Path]:
    """Without retired_logins, which makes private directories in /run."""
    signs = ("mkdir(", "makedirs(", "write_files", "write_atomically", "import firewall_program as")
    texts = {path: path.read_text(encoding="utf-8") for path in sorted(MODULES.glob("*.py")) if path.stem != "retired_logins"}
    return [path for path, text in texts.items() if any(sign in text for sign in signs)]


@pytest.mark.parametrize("path", writers(), ids=lambda path: path.stem)
def test_each_module_that_makes_directories_sets_the_usual_umask_first(path):
    (main,) = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if getattr(node, "name", "") == "main"]
    assert ast.unparse(main.body[0]) == "usual_umask()"


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
def test_an_artifact_does_not_depend_on_the_umask_of_the_operator(tmp_path, mask):
    source = tmp_path / "source"
    before = os.umask(mask)
    try:
        (source / "package").mkdir(parents=True)
        (source / "package/module.py").write_text("x\n")
        (source / "requirements.txt").write_text("\n")
        (source / "tool").write_text("#!/bin/sh\n")
        (source / "tool").chmod(0o777 & ~mask)
        source_of({"directory": str(source)}, "requirements.txt").pack(tmp_path / "artifact")
    finally:
        os.umask(before)
    with tarfile.open(tmp_path / "artifact") as archive:
        modes = {entry.name: oct(entry.mode) for entry in archive}
    assert modes == {"package/module.py": "0o644", "requirements.txt": "0o644", "tool": "0o755"}
