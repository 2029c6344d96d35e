"""A build or a switch of releases that fails or is killed: the release before it stays current, and the next run completes."""

from __future__ import annotations

import errno
import hashlib
import io
import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import bounded, releases
from ansible_collections.grunnfjell.platform.plugins.module_utils.releases import Releases
from ansible_collections.grunnfjell.platform.plugins.modules import application_release
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.rollout import rollback_target
from module_calls import call

# Each command of a build, by a word that no other one has.
STEPS = {"own": "--without-pip", "environment": "venv", "requirements": "--require-hashes", "wheel": "--no-deps"}
REASONS = {
    "own": "creating the release's environment",
    "environment": "creating the environment",
    "requirements": "installing the requirements",
    "wheel": "installing the wheel",
}


def failed() -> subprocess.CompletedProcess[str]:
    return subprocess.CompletedProcess([], 1, "", "why it failed")


def full() -> subprocess.CompletedProcess[str]:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Host:
    """`trouble`: the step of a build at which it fails, and how."""

    def __init__(self, home: Path) -> None:
        self.root, self.artifact = home / "opt", home / "artifact.tar.gz"
        self.trouble: tuple[str, Callable] | None = None
        self.steps: list[str] = []
        self.prepared_for = "an environment"
        self.pack_release()

    def pack_release(self, lock: str = "one") -> None:
        self.pack({"requirements.txt": lock.encode(), "app.py": b"", "own-1-py3-none-any.whl": b""})

    def pack(self, files: dict[str, bytes]) -> None:
        with tarfile.open(self.artifact, "w:gz") as archive:
            for name, content in files.items():
                entry = tarfile.TarInfo(name)
                entry.size, entry.mode = len(content), 0o644
                archive.addfile(entry, io.BytesIO(content))

    def run(self, argv: list[str], timeout: float, **options: object) -> subprocess.CompletedProcess[str]:
        """In place of each command of a build; what an environment has is made."""
        step = next(name for name, word in (STEPS | {"command": "runuser"}).items() if word in argv)
        self.steps.append(step)
        if self.trouble and self.trouble[0] == step:
            return self.trouble[1]()
        if step in ("environment", "own"):
            (Path(argv[-1]) / "lib/python3.11/site-packages").mkdir(parents=True)
            (Path(argv[-1]) / "bin").mkdir()
        return subprocess.CompletedProcess(argv, 0, "", "")

    def call(self, name: str, state: str, **more: object) -> dict:
        return call(
            application_release, root=str(self.root), state=state, release=name, source={"directory": "/"},
            artifact=str(self.artifact), settings="/nonexistent", version="1", user="app", commands=[["migrate"]],
            prepared_for=self.prepared_for, **more,
        )  # fmt: skip

    def build(self, name: str, state: str = "built") -> dict:
        """As the role does: a new release is built, then its command runs, then it is ready."""
        result = self.call(name, state)
        for state in ("prepared", "ready"):
            if not result.get("failed") and not (result["ready"] and result["prepared"]):
                result = self.call(name, state)
        return result

    def build_and_die(self, name: str, state: str = "built") -> None:
        child = multiprocessing.get_context("fork").Process(target=self.build, args=(name, state))
        child.start()
        child.join()
        assert child.exitcode == -signal.SIGKILL

    @property
    def releases(self) -> Releases:
        return Releases(self.root)

    @property
    def directories(self) -> set[str]:
        return {path.name for path in (self.root / "releases").iterdir()}

    @property
    def environments(self) -> int:
        return len([*(self.root / "environments").iterdir()])


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    fake = Host(tmp_path)
    monkeypatch.setattr(bounded, "run", fake.run)
    monkeypatch.setattr(releases, "USES", ())  # no program of this machine is one of the test's
    assert not fake.build("a").get("failed") and fake.releases.current == "a"
    return fake


@pytest.mark.parametrize("how", [failed, full], ids=["fails", "fills the disk"])
@pytest.mark.parametrize("step", STEPS)
def test_a_step_of_a_build_that_fails_leaves_the_release_before_it(host: Host, step: str, how: Callable) -> None:
    host.pack_release("another")
    host.trouble = step, how
    result = host.build("b")
    reason = f"{REASONS[step]} failed" if how is failed else "No space left on device"
    assert result["failed"] and "Release b: " in result["msg"] and reason in result["msg"]
    assert "The previous release still runs." in result["msg"]
    assert host.releases.current == "a" and host.releases.history == ["a"] and host.directories == {"a"}
    assert host.environments == 1
    host.trouble = None
    assert host.build("b")["history"] == ["a", "b"] and host.releases.current == "b" and host.environments == 2


@pytest.mark.parametrize("step", STEPS)
def test_a_build_that_is_killed_counts_for_nothing_and_is_made_again(host: Host, step: str) -> None:
    host.pack_release("another")
    host.trouble = step, killed
    host.build_and_die("b")
    assert "b" in host.directories and not host.releases.is_ready("b")
    assert host.releases.current == "a"
    stale = host.root / "releases/b/stale"
    stale.touch()
    host.trouble = None
    assert host.build("b")["changed"] and host.releases.current == "b" and not stale.exists()


@pytest.mark.parametrize(("before", "wanted", "history"), [("a", "b", ["a", "b"]), ("b", "a", ["a"])], ids=["forward", "back"])
@pytest.mark.parametrize("file", ["history", "current"])
def test_a_switch_that_is_killed_between_its_two_files_is_consistent(
    host: Host, monkeypatch: pytest.MonkeyPatch, before: str, wanted: str, history: list[str], file: str
) -> None:
    host.build("b")
    host.releases.switch(before)
    old = host.releases.history
    replace = Releases.replace
    cut = staticmethod(lambda path, make: killed() if path.name == file else replace(path, make))
    monkeypatch.setattr(Releases, "replace", cut)
    host.build_and_die(wanted, "current")
    monkeypatch.setattr(Releases, "replace", staticmethod(replace))
    assert host.releases.current == before and host.releases.history == old
    if before == "b":
        assert rollback_target([host.releases.history]) == "a"
    host.releases.prune(1)
    assert before in host.directories
    host.build(wanted, "built")
    assert host.build(wanted, "current")["release"] == wanted
    assert host.releases.current == wanted and host.releases.history == [name for name in history if name in host.directories]


def test_what_a_build_wrote_reaches_the_disk_before_it_counts_as_whole(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a power cut, a file that was not on the disk yet may be there and empty."""
    synced = []
    monkeypatch.setattr(os, "sync", lambda: synced.append(host.releases.is_built("b")))
    host.build("b")
    assert synced == [False] and host.releases.is_built("b")


@pytest.mark.parametrize("how", [failed, killed], ids=["fails", "is killed"])
def test_a_command_that_does_not_succeed_keeps_the_release_from_programs_and_is_repeated_without_a_build(
    host: Host, how: Callable
) -> None:
    host.trouble = "command", how
    if how is failed:
        result = host.build("b")
        assert "application_release_commands[0] (migrate) ended with status 1. No program was changed." in result.get("msg", "")
    else:
        host.build_and_die("b")
    assert not host.releases.is_ready("b") and host.releases.current == "a" and host.releases.history == ["a"]
    kept = host.root / "releases/b/kept"
    kept.touch()
    host.trouble = None
    assert host.build("b")["changed"] and host.releases.current == "b" and kept.exists()


def test_in_another_environment_a_release_s_commands_run_again_without_a_build(host: Host) -> None:
    """By the environment a release may find another database."""
    host.build("b")
    host.steps.clear()
    assert not host.build("b")["changed"] and host.steps == []
    host.prepared_for = "another environment"
    assert host.build("b")["prepared"] and host.steps == ["command"]
    assert not host.build("b")["changed"] and host.steps == ["command"]


def test_a_release_with_the_lock_of_another_one_installs_nothing(host: Host) -> None:
    host.pack_release()
    host.steps.clear()
    assert host.build("b")["ready"] and host.steps == ["own", "wheel", "command"] and host.environments == 1
    host.pack_release("another")
    host.steps.clear()
    assert host.build("c")["ready"] and host.steps[:2] == ["environment", "requirements"] and host.environments == 2


def test_an_environment_goes_with_the_last_release_that_has_it(host: Host) -> None:
    host.build("b")
    host.releases.switch("b")
    host.releases.prune(1)
    assert host.directories == {"b"} and host.environments == 1
    host.pack_release("another")
    host.build("c")
    host.releases.switch("c")
    assert host.environments == 2
    host.releases.prune(1)
    assert host.directories == {"c"} and host.environments == 1 and (host.root / "releases/c/environment").is_dir()


def test_a_build_removes_the_unfinished_ones_before_it(host: Host) -> None:
    host.trouble = "command", failed
    host.build("b")
    (host.root / "releases/half").mkdir()
    host.build("c")
    assert host.directories == {"a", "c"}


def test_commands_run_once_per_release(host: Host) -> None:
    host.trouble = "command", failed
    result = host.call("a", "prepared")
    assert not result.get("failed") and not result["changed"] and "output" not in result


def wheel(name: str) -> bytes:
    """A package whose program of the same name prints what the release's source says."""
    about = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "import app\n\ndef main():\n    print(__name__, app.VALUE)\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
        # pip compiles such a program into a directory next to it, as that of Mayan EDMS.
        f"{name}-1.0.data/scripts/{name}-admin.py": f"#!python\nimport {name}\n{name}.main()\n",
    }
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path, text in (files | {f"{about}/RECORD": "".join(f"{path},,\n" for path in files)}).items():
            archive.writestr(path, text)
    return packed.getvalue()


@pytest.fixture
def installing(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """By pip itself, from files, with this Python."""
    monkeypatch.undo()
    run = bounded.run

    def by_this_python(argv: list[str], timeout: float, **options: object) -> subprocess.CompletedProcess[str]:
        host.steps.append(" ".join(argv))
        return run([sys.executable if word == "/usr/bin/python3" else word for word in argv], timeout, **options)

    monkeypatch.setattr(bounded, "run", by_this_python)
    return host


def lock(digest: str) -> bytes:
    return f"--no-index\n--find-links wheels\ntiny==1.0 --hash=sha256:{digest}\n".encode()


def test_a_package_with_another_hash_is_not_installed(installing: Host) -> None:
    wrong = hashlib.sha256(b"another").hexdigest()
    installing.pack({"requirements.txt": lock(wrong), "wheels/tiny-1.0-py3-none-any.whl": wheel("tiny")})
    result = installing.build("b")
    assert result["failed"] and "installing the requirements failed" in result["msg"], result["msg"]
    assert "DO NOT MATCH THE HASHES" in result["msg"] and wrong in result["msg"]
    assert installing.releases.current == "a" and installing.directories == {"a"}


def test_releases_of_one_lock_share_packages_and_each_has_its_own_source(installing: Host) -> None:
    tiny = wheel("tiny")
    files = {"requirements.txt": lock(hashlib.sha256(tiny).hexdigest()), "wheels/tiny-1.0-py3-none-any.whl": tiny}
    for release, value in (("b", b"VALUE = 1"), ("c", b"VALUE = 2")):
        place = "app.py" if release == "b" else "src/app.py"
        installing.pack(files | {"own-1.0-py3-none-any.whl": wheel("own"), place: value})
        assert not installing.call(release, "built").get("failed") and installing.call(release, "ready")["ready"]
    assert sum("--require-hashes" in step for step in installing.steps) == 1
    venvs = [installing.root / f"releases/{release}/venv/bin" for release in "bc"]
    programs = [venv / name for venv in venvs for name in ("tiny", "own", "tiny-admin.py")]
    printed = [subprocess.check_output([program], text=True).split() for program in programs]
    assert printed == [["tiny", "1"], ["own", "1"], ["tiny", "1"], ["tiny", "2"], ["own", "2"], ["tiny", "2"]]
    found = "import importlib.metadata as m; print(*m.entry_points(group='console_scripts', name='own'), m.version('tiny'))"
    assert subprocess.check_output([venvs[1] / "python", "-c", found], text=True).endswith("1.0\n")


PYPROJECT = b"""
[project]
name = "My.Shop"
version = "1.4"
scripts = {shop = "shop.cli:main"}
[project.entry-points."shop.payments"]
card = "shop.cli:Card.pay"
"""
FIND_OWN = """
import importlib.metadata as m
(card,) = m.entry_points(group="shop.payments")
print(m.version("my-shop"), card.name, card.load()(), m.distribution("my.shop").metadata["Name"])
"""


def test_programs_find_the_package_of_the_source_with_its_entry_points_and_scripts(installing: Host) -> None:
    code = b"class Card:\n    pay = staticmethod(lambda: 'paid')\n\ndef main():\n    print('shop at work')\n    return 3\n"
    files = {"requirements.txt": b"", "pyproject.toml": PYPROJECT, "src/shop/__init__.py": b"", "src/shop/cli.py": code}
    installing.pack(files)
    built = installing.call("b", "built")
    assert not built.get("failed"), built["msg"]
    programs = installing.root / "releases/b/venv/bin"
    done = subprocess.run([programs / "python", "-c", FIND_OWN], capture_output=True, text=True, check=False, cwd="/")
    assert done.stdout == "1.4 card paid My.Shop\n", done.stderr
    done = subprocess.run([programs / "shop"], capture_output=True, text=True, check=False, cwd="/")
    assert (done.returncode, done.stdout) == (3, "shop at work\n"), done.stderr


def test_wheels_of_the_control_machine_are_installed_without_an_index(installing: Host, tmp_path: Path) -> None:
    tiny = wheel("tiny")
    digest = hashlib.sha256(tiny).hexdigest()
    installing.pack({"requirements.txt": f"tiny==1.0 --hash=sha256:{digest}\n".encode(), "app.py": b"VALUE = 1"})
    asked = installing.call("b", "built", requirements_from="control")
    assert asked["platform"]["markers"]["os_name"] == "posix" and installing.directories == {"a"}
    wheels = tmp_path / "wheels.tar"
    with tarfile.open(wheels, "w") as archive:
        entry = tarfile.TarInfo("tiny-1.0-py3-none-any.whl")
        entry.size = len(tiny)
        archive.addfile(entry, io.BytesIO(tiny))
    built = installing.call("b", "built", requirements_from="control", wheels=str(wheels))
    assert not built.get("failed"), built["msg"]
    assert {path.name for path in (installing.root / "environments").iterdir()} >= {asked["needs_wheels"]}
    assert subprocess.check_output([installing.root / "releases/b/venv/bin/tiny"], text=True) == "tiny 1\n"
    assert not (installing.root / "releases/b/wheels").exists()
    # The next release has the environment, so it needs no wheels.
    assert not installing.call("c", "built", requirements_from="control").get("needs_wheels")


def test_another_python_has_an_environment_of_its_own(installing: Host) -> None:
    tiny = wheel("tiny")
    files = {"requirements.txt": lock(hashlib.sha256(tiny).hexdigest()), "wheels/tiny-1.0-py3-none-any.whl": tiny, "app.py": b""}
    installing.pack(files)
    for release, python in (("b", "/usr/bin/python3"), ("c", sys.executable)):
        assert not installing.call(release, "built", python=python).get("failed")
    used = {(installing.root / f"releases/{release}/environment").resolve() for release in "bc"}
    assert len(used) == 2


def test_a_python_that_the_host_lacks_is_named(host: Host) -> None:
    result = host.call("b", "built", python="/nonexistent/python3.99")
    assert "application_python is /nonexistent/python3.99, which runs nothing on this host" in result["msg"]
    assert host.directories == {"a"}
