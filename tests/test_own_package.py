"""Which part of a source's pyproject.toml becomes the package that its programs find."""

from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils.own_package import write_own_package

PROJECT = '[project]\nname = "shop"\nversion = "1.4"\n'


class Release:
    """The directories of a release, without an interpreter."""

    def __init__(self, home: Path) -> None:
        self.environment, self.venv, self.source = home / "environment", home / "venv", home / "src"
        for directory in (self.environment, self.venv):
            (directory / "lib/python3.11/site-packages").mkdir(parents=True)
            (directory / "bin").mkdir()
        self.source.mkdir()

    def write(self, project: str) -> list[str]:
        """The packages that the release has then."""
        (self.source / "pyproject.toml").write_text(project)
        write_own_package(self.environment, self.venv, self.source)
        return sorted(path.name for path in self.venv.glob("lib/*/site-packages/*"))

    def programs(self) -> set[str]:
        return {path.name for path in (self.venv / "bin").iterdir()}


@pytest.fixture
def release(tmp_path: Path) -> Release:
    return Release(tmp_path)


@pytest.mark.parametrize(
    "project",
    [
        '[project]\nname = "shop"\ndynamic = ["version"]\n',
        '[project]\nversion = "1.4"\n',
        '[tool.poetry]\nname = "shop"\nversion = "1.4"\n',
        '[project]\nname = "shop"\nversion = "../1.4"\n',
        '[project]\nname = "../shop"\nversion = "1.4"\n',
        '[project]\nname = "shop"\nversion = 1.4\n',
        'project = "shop"\n',
        "[project\n",
        "",
    ],
)
def test_a_project_without_a_static_name_and_version_is_left_out(release: Release, project: str) -> None:
    assert release.write(project) == []


def test_a_source_without_a_project_is_left_out(release: Release) -> None:
    write_own_package(release.environment, release.venv, release.source)
    assert not list(release.venv.glob("lib/*/site-packages/*"))


@pytest.mark.parametrize("place", ["environment", "venv"])
def test_a_package_of_the_lock_or_of_a_wheel_is_not_replaced(release: Release, place: str) -> None:
    installed = getattr(release, place) / "lib/python3.11/site-packages/My_Shop-2.0.dist-info"
    installed.mkdir()
    assert "my_shop-1.4.dist-info" not in release.write(PROJECT.replace('"shop"', '"my.shop"'))


def test_programs_of_locked_packages_and_the_interpreter_stay(release: Release) -> None:
    for name in ("python", "celery"):
        (release.venv / "bin" / name).write_text("theirs")
    scripts = '[project.scripts]\npython = "shop:run"\ncelery = "shop:run"\nshop = "shop:App.run"\n'
    assert release.write(PROJECT + scripts) == ["shop-1.4.dist-info"]
    assert release.programs() == {"python", "celery", "shop"}
    assert (release.venv / "bin/celery").read_text() == "theirs"
    assert (release.venv / "bin/shop").read_text().endswith("from shop import App\nsys.exit(App.run())\n")


def test_what_is_no_program_is_not_written(release: Release) -> None:
    scripts = '[project.scripts]\n"../shop" = "shop:run"\nmodule = "shop"\nlines = "shop:run\\nimport os"\nnumber = 4\n'
    assert release.write(PROJECT + scripts) == ["shop-1.4.dist-info"]
    assert release.programs() == set()
