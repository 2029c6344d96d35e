"""A release is named after its content, and every kind of source gives the hosts the same archive."""

import hashlib
import socket
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.source import SourceError, refuse_change, source_of


@pytest.fixture
def project(tmp_path: Path) -> Path:
    home = tmp_path / "project"
    (home / "shop").mkdir(parents=True)
    (home / "shop/celery.py").write_text("app = 1\n")
    (home / "requirements.txt").write_text("celery==5.7.0\n")
    return home


def packed(source: dict[str, str], tmp_path: Path) -> list[str]:
    artifact = tmp_path / "artifact.tar.gz"
    source_of(source, "requirements.txt").pack(artifact)
    with tarfile.open(artifact) as archive:
        return sorted(archive.getnames())


def identity(source: dict[str, str]) -> str:
    return source_of(source, "requirements.txt").identity


def test_the_identity_depends_only_on_the_content(project: Path, tmp_path: Path) -> None:
    first = identity({"directory": str(project)})
    (project / "__pycache__").mkdir()
    (project / "__pycache__/x.pyc").write_text("left out")
    assert identity({"directory": str(project)}) == first
    (project / "shop/celery.py").write_text("app = 2\n")
    assert identity({"directory": str(project)}) != first


def test_an_executable_bit_counts_as_content(project: Path) -> None:
    first = identity({"directory": str(project)})
    (project / "shop/celery.py").chmod(0o755)
    assert identity({"directory": str(project)}) != first


def test_the_same_content_packs_to_the_same_bytes(project: Path, tmp_path: Path) -> None:
    source = source_of({"directory": str(project)}, "requirements.txt")
    source.pack(tmp_path / "one")
    (project / "shop/celery.py").touch()
    source.pack(tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_an_archive_is_unpacked_without_its_only_directory(kind: str, project: Path, tmp_path: Path) -> None:
    archive = tmp_path / f"project.{kind}"
    if kind == "tar":
        with tarfile.open(archive, "w:gz") as file:
            file.add(project, "project-1.0")
    else:
        with zipfile.ZipFile(archive, "w") as file:
            for path in project.rglob("*"):
                file.write(path, Path("project-1.0") / path.relative_to(project))
    assert packed({"archive": str(archive)}, tmp_path) == ["requirements.txt", "shop/celery.py"]


def test_a_wheel_is_packed_with_its_lock_file(project: Path, tmp_path: Path) -> None:
    (project / "shop-1.0-py3-none-any.whl").write_bytes(b"wheel")
    wheel = {"wheel": str(project / "shop-1.0-py3-none-any.whl")}
    assert packed(wheel, tmp_path) == ["requirements.txt", "shop-1.0-py3-none-any.whl"]
    (project / "requirements.txt").unlink()
    with pytest.raises(SourceError, match=r"requirements\.txt, which does not exist"):
        identity(wheel)


def in_git(directory: Path, *argv: str) -> str:
    options = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "protocol.file.allow=always"]
    return subprocess.run(["git", "-C", directory, *options, *argv], check=True, capture_output=True, text=True).stdout.strip()


def commit_all(directory: Path) -> None:
    in_git(directory, "init", "--quiet", "--initial-branch=main")
    in_git(directory, "add", ".")
    in_git(directory, "commit", "--quiet", "--message=one")


def test_a_release_from_git_is_named_after_its_commit(project: Path, tmp_path: Path) -> None:
    def git(*argv: str) -> str:
        return in_git(project, *argv)

    commit_all(project)
    git("tag", "--annotate", "v1", "--message=v1")
    commit = git("rev-parse", "HEAD")
    for version in ("main", "v1", "HEAD", commit):
        assert identity({"git": str(project), "version": version}) == commit[:12], version
    assert packed({"git": str(project), "version": "v1"}, tmp_path) == ["requirements.txt", "shop/celery.py"]
    assert identity({"git": str(project), "version": commit.upper()}) == commit[:12]
    with pytest.raises(SourceError, match=r"no branch, tag or commit v2\. Edit application_source\.version"):
        identity({"git": str(project), "version": "v2"})
    # A server looks nothing up by a part of a commit.
    with pytest.raises(SourceError, match=f"no branch, tag or commit {commit[:9]}.*Write all 40 digits of the commit"):
        identity({"git": str(project), "version": commit[:9]})

    assert source_of({"git": str(project), "version": "main"}, "requirements.txt").commit == commit


def test_submodules_of_a_git_repository_belong_to_the_release(project: Path, tmp_path: Path, monkeypatch) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "part.py").write_text("part = 1\n")
    commit_all(other)
    in_git(project, "init", "--quiet", "--initial-branch=main")
    in_git(project, "submodule", "--quiet", "add", str(other), "vendor")
    commit_all(project)
    # git takes submodules from another directory of this machine only if it is told to.
    for name, value in (("COUNT", "1"), ("KEY_0", "protocol.file.allow"), ("VALUE_0", "always")):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    names = packed({"git": str(project), "version": "main"}, tmp_path)
    assert names == [".gitmodules", "requirements.txt", "shop/celery.py", "vendor/part.py"]


def test_files_of_git_lfs_come_from_the_repository(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The filter stands for that of Git LFS, which asks for the remote's address and fails without one."""
    (project / ".gitattributes").write_text("*.bin filter=lfs\n")
    (project / "shop/model.bin").write_text("pointer\n")
    commit_all(project)
    config = tmp_path / "gitconfig"
    config.write_text('[filter "lfs"]\n\tsmudge = "git remote get-url origin"\n\tclean = cat\n\trequired = true\n')
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    with source_of({"git": str(project), "version": "main"}, "requirements.txt").tree() as directory:
        assert (directory / "shop/model.bin").read_text() == f"{project}\n"


def test_one_directory_of_a_source_is_a_release_of_its_own(project: Path, tmp_path: Path) -> None:
    commit_all(project)
    for source in ({"git": str(project), "version": "main"}, {"directory": str(project)}):
        assert packed(source | {"subdirectory": "shop"}, tmp_path) == ["celery.py"]
        assert identity(source | {"subdirectory": "shop"}) != identity(source)
        with pytest.raises(SourceError, match=r"application_source\.subdirectory is web, which is no directory of the source"):
            packed(source | {"subdirectory": "web"}, tmp_path)


def test_links_within_the_source_are_followed(project: Path, tmp_path: Path) -> None:
    (project / "also").symlink_to("shop")
    (project / "shop/lock.txt").symlink_to("../requirements.txt")
    names = packed({"directory": str(project)}, tmp_path)
    assert names == ["also/celery.py", "also/lock.txt", "requirements.txt", "shop/celery.py", "shop/lock.txt"]


@pytest.mark.parametrize(
    ("link", "target", "why"),
    [
        ("passwords", "/etc/passwd", "outside the source"),
        ("shop/home", "..", "which contains the link"),
        ("gone", "nothing", "which does not exist"),
    ],
)
def test_a_link_that_no_release_can_hold_is_refused_by_name(project: Path, link: str, target: str, why: str) -> None:
    (project / link).symlink_to(target)
    with pytest.raises(SourceError, match=f"The source holds the link {link} to {target}, {why}"):
        identity({"directory": str(project)})


def test_links_in_a_circle_are_refused(project: Path) -> None:
    for name, target in (("a", "b"), ("b", "a")):
        (project / name).mkdir()
        (project / name / "on").symlink_to(f"../{target}")
    with pytest.raises(SourceError, match="which contains the link"):
        identity({"directory": str(project)})


def test_a_pointer_of_git_lfs_is_refused_by_name(project: Path) -> None:
    (project / "shop/model.bin").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(SourceError, match=r"holds shop/model\.bin as a pointer of Git LFS"):
        identity({"directory": str(project)})


def test_a_source_that_changes_during_a_run_stops_it(project: Path) -> None:
    """Review finding 35: a push, or an edit, between two hosts."""
    first = source_of({"directory": str(project)}, "requirements.txt")
    refuse_change(first, first.identity)
    refuse_change(first, None)
    (project / "shop/celery.py").write_text("app = 2\n")
    with pytest.raises(SourceError, match=f"it was {first.identity} when the fleet was checked"):
        refuse_change(source_of({"directory": str(project)}, "requirements.txt"), first.identity)


@pytest.fixture
def silent_server():
    """Accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_a_silent_server_is_given_up(silent_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Review finding 39."""
    monkeypatch.setattr("ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.source.SILENT_SECONDS", 0.2)
    monkeypatch.setattr("ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.source.GIT_SECONDS", 1)
    archive = source_of({"archive": f"http://{silent_server}/a.tar.gz", "checksum": "0" * 64}, "requirements.txt")
    with pytest.raises(SourceError, match="cannot be fetched: timed out"):
        archive.pack(tmp_path / "artifact")
    with pytest.raises(SourceError, match="git ls-remote did not end within 1 s"):
        identity({"git": f"git://{silent_server}/shop", "version": "main"})


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ({"directory": "/nowhere"}, "which is not a directory"),
        ({"archive": "/nowhere.tar.gz"}, "which does not exist"),
        ({"archive": "https://example.org/a.tar.gz"}, "checksum must give its SHA-256"),
        ({}, "names none of directory, archive, wheel and git"),
    ],
)
def test_a_missing_source_is_refused_with_what_to_edit(source: dict[str, str], sentence: str) -> None:
    with pytest.raises(SourceError, match=sentence):
        identity(source)


def test_an_archive_with_another_checksum_is_refused(tmp_path: Path) -> None:
    archive = tmp_path / "a.tar.gz"
    archive.write_bytes(b"something else")
    with pytest.raises(SourceError, match="has the SHA-256"):
        identity({"archive": str(archive), "checksum": "0" * 64})


def test_a_checksum_may_have_capitals_and_the_name_of_its_algorithm(project: Path, tmp_path: Path) -> None:
    archive = tmp_path / "project.tar"
    with tarfile.open(archive, "w") as file:
        file.add(project, "project-1.0")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    for place in (str(archive), "https://example.org/a.tar"):
        for checksum in (digest, digest.upper(), f"sha256:{digest}", f"SHA256:{digest.upper()}"):
            assert identity({"archive": place, "checksum": checksum}) == digest[:12], checksum


@pytest.mark.parametrize("checksum", ["0" * 63, "md5:" + "0" * 32, "sha256:"])
def test_a_checksum_that_is_not_a_sha256_is_refused(checksum: str) -> None:
    with pytest.raises(SourceError, match=f"application_source.checksum is {checksum}, which is not a SHA-256"):
        identity({"archive": "https://example.org/a.tar.gz", "checksum": checksum})
