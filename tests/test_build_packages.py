"""Packages that only a build needs leave the host after it, and nothing else does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils.build_packages import build_packages

NEEDS = {"gcc": {"libc6", "libgcc-dev"}, "dkms": {"gcc"}}


class Apt:
    """apt and dpkg-query as `build_packages` calls them. The scenario `application` runs the real ones."""

    def __init__(self) -> None:
        self.installed, self.steps = {"libc6", "python3"}, []
        self.broken = False

    def run(self, what: str, argv: list[str]) -> str:
        names = {word for word in argv[argv.index("install" if "install" in argv else argv[0]) + 1 :] if word[0] != "-"}
        if argv[0] == "dpkg-query":
            return "".join(f"{name} installed\n" for name in sorted(self.installed)) + "gone config-files\n"
        if "install" in argv:
            new = (names | {need for name in names for need in NEEDS.get(name, ())}) - self.installed
            if "--simulate" in argv:
                return "Inst libc6 [1] (2 Debian:12 [amd64])\n" + "".join(f"Inst {name} (1 Debian:12 [amd64])\n" for name in new)
            if self.broken:
                raise OSError("no space left")
            self.installed |= new
            self.steps.append("install")
            return ""
        names = set(argv[argv.index("purge") + 1 :])
        also = {name for name in self.installed if NEEDS.get(name, set()) & names}
        if "--simulate" in argv:
            return "".join(f"Purg {name} [1]\n" for name in sorted(names | also))
        self.installed -= names | also
        self.steps.append("purge")
        return ""


def test_packages_and_what_they_need_are_there_for_the_build_only(tmp_path: Path) -> None:
    apt, record = Apt(), tmp_path / "app/record"
    with build_packages(["gcc", "python3"], record, apt.run):
        assert apt.installed == {"libc6", "python3", "gcc", "libgcc-dev"}
        assert json.loads(record.read_text()) == ["gcc", "libgcc-dev"]
    assert apt.installed == {"libc6", "python3"} and not record.exists()


def test_without_build_packages_no_package_manager_runs(tmp_path: Path) -> None:
    apt = Apt()
    with build_packages([], tmp_path / "record", apt.run):
        pass
    assert apt.steps == []


def test_a_failed_build_shows_its_own_reason_and_leaves_no_package(tmp_path: Path) -> None:
    apt = Apt()
    with pytest.raises(ZeroDivisionError), build_packages(["gcc"], tmp_path / "record", apt.run):
        raise ZeroDivisionError
    assert apt.installed == {"libc6", "python3"}


def test_what_a_build_that_was_cut_off_left_goes_with_the_next_one(tmp_path: Path) -> None:
    apt, record = Apt(), tmp_path / "record"
    apt.installed |= {"gcc", "libgcc-dev"}
    record.write_text(json.dumps(["gcc", "libgcc-dev"]))
    with build_packages([], record, apt.run):
        pass
    assert apt.installed == {"libc6", "python3"} and not record.exists()


def test_packages_that_another_one_has_come_to_need_stay(tmp_path: Path) -> None:
    apt, record = Apt(), tmp_path / "record"
    with build_packages(["gcc"], record, apt.run):
        apt.installed.add("dkms")
    assert apt.installed == {"libc6", "python3", "gcc", "libgcc-dev", "dkms"} and not record.exists()


def test_packages_that_cannot_be_installed_fail_the_build(tmp_path: Path) -> None:
    apt = Apt()
    apt.broken = True
    with pytest.raises(OSError, match="no space left"), build_packages(["gcc"], tmp_path / "record", apt.run):
        raise AssertionError("the build began")
    assert apt.installed == {"libc6", "python3"}
