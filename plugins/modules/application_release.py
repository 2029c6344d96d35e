#!/usr/bin/python
"""Builds a release of an application on its host, with its locked environment, and switches to it."""

DOCUMENTATION = r"""
module: application_release
short_description: Build a release of an application beside the previous one
description:
  - A release is in I(root)/releases/I(release), with its source in C(src) and its environment in C(venv). It is ready only once
    everything, the migration included, has succeeded; a half-built one is built again from scratch.
  - Its script C(run) runs a program of the release with the application's environment.
  - The link C(current) names the release that the host's programs run. While a program runs the previous one, only
    I(state=current) moves it.
  - The file C(history) lists the releases that were current, the last one at its end. Going back to one removes those after
    it, so the previous release is never one that was rolled back.
options:
  root: {description: Home of the application's releases., type: path, required: true}
  state:
    description: C(built) builds; C(current) moves the link; C(listed) only reports.
    choices: [built, current, listed]
    type: str
    default: built
  source: {description: "As application_source of the role; read on the control machine.", type: dict}
  identity: {description: Identity of the source when the run began; another one is refused., type: str}
  requirements: {description: The locked requirements in the source., type: str, default: requirements.txt}
  settings: {description: Directory of the application's newest settings; C(versions) in it holds every version., type: path}
  version: {description: The version of the settings that the host changes to., type: str}
  migrate: {description: Command that prepares the database for the release., type: list, elements: str, default: []}
  user: {description: Account that runs the migration and the programs., type: str}
  timeout: {description: "Seconds for each step of a build: environment, requirements, migration.", type: int, default: 1800}
  keep: {description: Number of releases that stay on the host., type: int, default: 3}
  release: {description: A release that the host has; by default the identity of I(source)., type: str}
  artifact: {description: Set by the action plugin., type: path}
author: maintainers
"""

EXAMPLES = r"""
- name: Build the release
  application_release:
    source: {directory: examples/newsroom}
    root: /opt/newsroom
    settings: /etc/newsroom
    user: www-data
"""

RETURN = r"""
release: {description: Identity of the release by its content., type: str, returned: always}
previous: {description: The release that was current before the call., type: str, returned: always}
history: {description: "Releases that were current, the last one at the end.", type: list, elements: str, returned: always}
directory: {description: Directory of the release., type: str, returned: always}
"""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import bounded
from ..module_utils.whole_files import usual_umask

READY = ".ready"
# Files that name a release in use: processes, their supervisord sections, and the scripts that these call.
USES = ("proc/[0-9]*/cmdline", "etc/supervisor/conf.d/*.conf", "etc/supervisor/programs/*")
RUN = """\
#!/bin/sh
# Runs a program of this release in the application's environment, e.g. `run celery status`. supervisord's programs name the
# version of the settings that they were started with; the default is the newest.
set -a
APPLICATION_SETTINGS=${{APPLICATION_SETTINGS:-{settings}}}
. "$APPLICATION_SETTINGS/environment"
PYTHONPATH=$APPLICATION_SETTINGS
PGSERVICEFILE=$APPLICATION_SETTINGS/pg_service.conf
set +a
PATH={directory}/venv/bin:$PATH
exec "$@"
"""


def releases_to_remove(ready: list[tuple[Any, str]], current: str, keep: int, used: set[str]) -> list[str]:
    """Of (age, release), the oldest beyond ``keep``; never the current one, nor one in use."""
    others = [release for _, release in sorted(ready, reverse=True) if release != current]
    return [release for release in others[max(keep - 1, 0) :] if release not in used]


def history_ending_at(history: list[str], release: str) -> list[str]:
    """The history once the release is current: later releases were rolled back, and are left out."""
    return history[: history.index(release) + 1] if release in history else [*history, release]


class Releases:
    """The releases of an application on its host."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.link = root / "current"
        self.list = root / "history"

    @property
    def current(self) -> str:
        return Path(os.readlink(self.link)).name if self.link.is_symlink() else ""

    @property
    def history(self) -> list[str]:
        """Without pruned releases, and with a current one that is older than this file."""
        listed = self.list.read_text().split() if self.list.exists() else []
        ready = [name for name in listed if self.is_ready(name)]
        return history_ending_at(ready, self.current) if self.current else ready

    def is_ready(self, name: str) -> bool:
        return (self.root / "releases" / name / READY).exists()

    def switch(self, name: str) -> None:
        history = history_ending_at(self.history, name)
        self.replace(self.list, lambda path: path.write_text("\n".join(history) + "\n"))
        self.replace(self.link, lambda path: path.symlink_to(self.root / "releases" / name))

    @staticmethod
    def replace(path: Path, make: Callable[[Path], object]) -> None:
        new = path.with_name(f".{path.name}")
        new.unlink(missing_ok=True)
        make(new)
        new.replace(path)

    def prune(self, keep: int) -> None:
        built = {file.parent.name: file.stat().st_mtime for file in self.root.glob(f"releases/*/{READY}")}
        history = self.history
        # Releases that were never current, or were rolled back, are removed before those that a rollback may need.
        ready = [((history.index(name) if name in history else -1, time), name) for name, time in built.items()]
        for name in releases_to_remove(ready, self.current, keep, self.used()):
            shutil.rmtree(self.root / "releases" / name)

    def used(self) -> set[str]:
        """Releases that a program runs, or would run after a restart."""
        names = [file.parent.name for file in self.root.glob(f"releases/*/{READY}")]
        return named(self.root / "releases", names)


def prune_settings(directory: Path, version: str) -> None:
    """Keeps only the new version and those in use, since they hold secrets."""
    names = [path.name for path in (directory / "versions").glob("*") if path.name != version]
    for name in set(names) - named(directory / "versions", names):
        shutil.rmtree(directory / "versions" / name)


def named(directory: Path, names: list[str]) -> set[str]:
    """The names whose path is in a process's command line or in a program's configuration."""
    texts = []
    for file in (file for pattern in USES for file in Path("/").glob(pattern)):
        try:
            texts.append(file.read_bytes())
        except OSError:  # the process has ended
            continue
    return {name for name in names if any(bytes(directory / name) in text for text in texts)}


# PgBouncer's answer to the first client after the database was down, however long ago; only then does it reconnect. The migration
# has not begun.
CACHED_FAILURE = "server login has been failing, cached error"


class Build:
    """The build of one release."""

    def __init__(self, module: AnsibleModule, directory: Path) -> None:
        self.module = module
        self.name = directory.name
        self.directory = directory

    def fail(self, reason: str) -> None:
        """Removes the failed build: the next one has another name, and the disk may be full."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.module.fail_json(msg=f"Release {self.name}: {reason}")

    def command(self, what: str, argv: list[str]) -> None:
        seconds = self.module.params["timeout"]
        try:
            done = bounded.run(argv, seconds, cwd="/")
            if CACHED_FAILURE in done.stdout + done.stderr:
                done = bounded.run(argv, seconds, cwd="/")
        except subprocess.TimeoutExpired:
            self.fail(
                f"{what} did not end within {seconds} s (application_build_timeout), and was killed "
                f"({' '.join(argv[:4])} ...). The previous release still runs."
            )
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-30:])
            self.fail(f"{what} failed ({' '.join(argv[:4])} ...). The previous release still runs.\n{tail}")

    def build(self) -> None:
        try:
            self.make()
        except OSError as error:
            self.fail(f"{error}. The previous release still runs.")

    def make(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        source = self.directory / "src"
        source.mkdir(parents=True)
        with tarfile.open(self.module.params["artifact"]) as artifact:
            # Debian 12's Python 3.11.2 has no filters yet; the archive comes from the control machine.
            artifact.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
            artifact.extractall(source)
        self.environment(source)
        run = self.directory / "run"
        run.write_text(RUN.format(settings=self.module.params["settings"], directory=self.directory))
        run.chmod(0o755)
        if self.module.params["migrate"]:
            as_user = ["runuser", "-u", self.module.params["user"], "--"]
            self.command("the migration", [*as_user, str(run), *self.module.params["migrate"]])
        os.sync()  # else a power cut may leave the mark on the disk, and files of the release empty
        (self.directory / READY).write_text(json.dumps({"release": self.name}) + "\n")

    def environment(self, source: Path) -> None:
        requirements = source / self.module.params["requirements"]
        if not requirements.exists():
            self.fail(
                f"the source has no {self.module.params['requirements']}. "
                "Add the locked requirements to it, or edit application_requirements in the inventory."
            )
        venv = self.directory / "venv"
        pip = [str(venv / "bin/pip"), "install", "--no-input", "--disable-pip-version-check", "--quiet"]
        self.command("creating the environment", ["/usr/bin/python3", "-m", "venv", str(venv)])
        # Without hashes the package index decides what runs, not the team.
        self.command("installing the requirements", [*pip, "--require-hashes", "--requirement", str(requirements)])
        for wheel in source.glob("*.whl"):
            self.command("installing the wheel", [*pip, "--no-deps", str(wheel)])
        # The source is put on the path instead of being built: a build would fetch tools that are not locked.
        path_file = next(venv.glob("lib/python3*/site-packages")) / "application.pth"
        path_file.write_text(f"{source}\n")


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["built", "current", "listed"], "default": "built"},
            "source": {"type": "dict"},
            "requirements": {"type": "str", "default": "requirements.txt"},
            "settings": {"type": "path"},
            "version": {"type": "str"},
            "migrate": {"type": "list", "elements": "str", "default": []},
            "user": {"type": "str"},
            "keep": {"type": "int", "default": 3},
            "timeout": {"type": "int", "default": 1800},
            "release": {"type": "str"},
            "artifact": {"type": "path"},
        },
        required_if=[("state", "built", ["release", "settings", "version", "user"]), ("state", "current", ["release"])],
        supports_check_mode=True,
    )
    asked = module.params
    releases = Releases(Path(asked["root"]))
    before, name = releases.current, asked["release"]
    directory = releases.root / "releases" / (name or before)
    result = {"release": name or before, "directory": str(directory), "previous": before, "changed": False}
    if asked["state"] == "listed":
        module.exit_json(history=releases.history, **result)
    if not releases.is_ready(name):
        result["changed"] = True
        if not asked["source"]:
            module.fail_json(
                msg=f"There is no release {name} here, only {', '.join(releases.history) or 'none'}. To build it, name it in "
                "application_source; to go on without this host, --limit the run to the others."
            )
        if module.check_mode:
            module.exit_json(history=releases.history, **result)
        if not asked["artifact"]:
            module.exit_json(needs_artifact=True, **result)
        Build(module, directory).build()
    # The link must not name a release before it has passed its checks.
    if before != name and (asked["state"] == "current" or before not in releases.used()):
        result["changed"] = True
        if not module.check_mode:
            releases.switch(name)
    if not module.check_mode and releases.current == name:
        releases.prune(asked["keep"])
        if asked["settings"]:
            prune_settings(Path(asked["settings"]), asked["version"])
    module.exit_json(history=releases.history, **result)


if __name__ == "__main__":
    main()
