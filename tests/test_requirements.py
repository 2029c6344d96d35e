"""The lock of the tools and the version ranges of the collections agree with what is installed."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parent.parent
LOCK = (ROOT / "requirements.txt").read_text(encoding="utf-8")
# One entry of the lock: its first line, and all continuation lines with the hashes.
ENTRIES = re.findall(r"^[a-z0-9][^\n]*(?:\n    [^\n]*)*", LOCK, re.MULTILINE)
PINS = [Requirement(entry.split("\\")[0].strip()) for entry in ENTRIES]
COLLECTIONS = {
    entry["name"]: entry["version"]
    for entry in yaml.safe_load((ROOT / "requirements.yml").read_text(encoding="utf-8"))["collections"]
}
CARRIED = Path(importlib.util.find_spec("ansible_collections").submodule_search_locations[0])


def manifest(collection):
    path = CARRIED / collection.replace(".", "/") / "MANIFEST.json"
    assert path.exists(), f"the installed ansible package carries no {collection}"
    return json.loads(path.read_text(encoding="utf-8"))["collection_info"]


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_the_range_of_a_collection_includes_the_version_in_the_ansible_package(collection):
    version = manifest(collection)["version"]
    assert version in SpecifierSet(COLLECTIONS[collection]), (
        f"requirements.yml asks for {collection} {COLLECTIONS[collection]}; the installed ansible package carries {version}"
    )


def test_requirements_yml_names_exactly_the_collections_in_use():
    used = set()
    for top in ("site.yml", "playbooks", "roles", "lab", "molecule", "templates", "inventories"):
        paths = [ROOT / top] if (ROOT / top).is_file() else (ROOT / top).rglob("*.yml")
        for path in paths:
            # A module at the start of a task, a filter or lookup inside an expression.
            names = re.findall(r"\b([a-z]+\.[a-z_]+)\.[a-z_]+\b", path.read_text(encoding="utf-8"))
            used |= {name for name in names if (CARRIED / name.replace(".", "/")).is_dir()}
    assert used - {"ansible.builtin", "grunnfjell.platform"} == set(COLLECTIONS)


def test_the_lock_pins_every_package_with_hashes():
    assert len(PINS) > 20
    for entry, pin in zip(ENTRIES, PINS, strict=True):
        assert re.fullmatch(r"==[^,*]+", str(pin.specifier)), f"{pin.name} is not pinned to one version"
        assert "--hash=sha256:" in entry, f"{pin.name} has no hash"


def test_the_lock_names_no_registry():
    offending = [
        line for line in LOCK.splitlines() if re.search(r"https?://|file:|--(extra-)?index-url|--find-links|--trusted", line)
    ]
    # The header repeats the command, options and all.
    assert [line for line in offending if not line.startswith("#")] == []
    assert not re.search(r"https?://", LOCK)


def test_the_lock_satisfies_requirements_in():
    lines = (ROOT / "requirements.in").read_text(encoding="utf-8").splitlines()
    for wanted in (Requirement(line) for line in lines if line.strip() and not line.startswith("#")):
        pins = [pin for pin in PINS if pin.name == wanted.name]
        assert pins, f"{wanted.name} is in requirements.in and not in requirements.txt: make lock"
        for pin in pins:
            (specifier,) = pin.specifier
            assert specifier.version in wanted.specifier, f"{wanted} and {pin} disagree: make lock"


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_the_lock_has_one_version_of_each_package_for_each_python(python):
    environment = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": "linux"}
    chosen = [pin.name for pin in PINS if pin.marker is None or pin.marker.evaluate(environment)]
    assert len(chosen) == len(set(chosen))
    assert "ansible-core" in chosen


def test_the_lock_names_the_command_of_make_lock():
    command = re.search(r"uv pip compile .*", LOCK).group()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n\t  ", "")
    assert command in makefile
