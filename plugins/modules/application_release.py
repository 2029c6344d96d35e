#!/usr/bin/python
"""Builds a release of an application on its host, with its locked environment, and switches to it."""

DOCUMENTATION = r"""
module: application_release
short_description: Build a release of an application beside the previous one
description:
  - A release is in I(root)/releases/I(release), with its source in C(src) and its environment in C(venv). A half-built one is
    built again from scratch. The packages are in I(root)/environments, once per lock, so a release with the lock of another
    one downloads and compiles nothing. Programs run it once it is ready, which the caller declares after the release's commands.
  - Its script C(run) runs a program of the release with the application's environment.
  - The link C(current) names the release that the host's programs run. While a program runs the previous one, only
    I(state=current) moves it.
  - The file C(history) lists the releases that were current, the last one at its end. Going back to one removes those after
    it, so the previous release is never one that was rolled back.
options:
  root: {description: Home of the application's releases., type: path, required: true}
  state:
    description: C(built) builds; C(prepared) runs I(commands), unless they have run; C(ready) lets programs run it, and
      moves the link if no program runs; C(current) moves the link; C(listed) only reports.
    choices: [built, prepared, ready, current, listed]
    type: str
    default: built
  source: {description: "As application_source of the role; read on the control machine.", type: dict}
  identity: {description: Identity of the source when the run began; another one is refused., type: str}
  requirements: {description: The locked requirements in the source., type: str, default: requirements.txt}
  requirements_from:
    description: Where the packages of I(requirements) come from, the host's package index or C(control), as
      application_requirements_from of the role; used by the action plugin.
    choices: [index, control]
    type: str
    default: index
  python: {description: "Set by the action plugin, from C(python) of I(source): the interpreter of the release's programs.",
           type: path, default: /usr/bin/python3}
  build_packages: {description: Debian packages that the host has only while it installs I(requirements)., type: list,
                   elements: str, default: []}
  settings: {description: Directory of the application's newest settings; C(versions) in it holds every version., type: path}
  version: {description: The version of the settings that the host changes to., type: str}
  commands: {description: "Commands that prepare the release, in this order.", type: list, elements: list, default: []}
  prepared_for: {description: "Fingerprint of what the commands depend on, besides the release; they run again when it
                 changes.", type: str, default: ""}
  service: {description: Value of C(PGSERVICE) for the commands., type: str, default: ""}
  user: {description: Account that runs the commands and the programs., type: str}
  timeout: {description: Seconds for each step of a build and for each command., type: int, default: 1800}
  keep: {description: Number of releases that stay on the host., type: int, default: 3}
  release: {description: A release that the host has; by default the identity of I(source)., type: str}
  artifact: {description: Set by the action plugin., type: path}
  wheels: {description: "Set by the action plugin: an archive with a wheel for each package of I(requirements).", type: path}
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
ready: {description: Whether programs may run it., type: bool, returned: "unless C(listed)"}
prepared: {description: Whether its commands have run for I(prepared_for)., type: bool, returned: "unless C(listed)"}
output: {description: The last lines of each command., type: list, elements: str, returned: C(prepared)}
"""

import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import bounded
from ..module_utils.build_packages import build_packages
from ..module_utils.environments import DEBIANS_PYTHON, LINK, environment_name, lay_over, platform_of, remove_unused
from ..module_utils.own_package import write_own_package
from ..module_utils.releases import BUILT, Releases, prune_settings
from ..module_utils.whole_files import usual_umask

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


INSTALL = ["install", "--no-input", "--disable-pip-version-check", "--quiet"]
LAST_LINES = 30


class BuildError(Exception):
    """Why a release could not be built."""


class Build:
    """The build of one release."""

    def __init__(self, module: AnsibleModule, directory: Path, platform: dict) -> None:
        self.module = module
        self.platform = platform
        self.venv = [platform["python"], "-m", "venv"]
        self.name = directory.name
        self.directory = directory
        self.root = directory.parents[1]
        self.unchanged = "The previous release still runs." if Releases(self.root).current else "No program runs yet."

    def fail(self, reason: str) -> None:
        """Removes the failed build: the next one has another name, and the disk may be full."""
        shutil.rmtree(self.directory, ignore_errors=True)
        remove_unused(self.root)
        self.module.fail_json(msg=f"Release {self.name}: {reason}")

    def command(self, what: str, argv: list[str]) -> str:
        seconds = self.module.params["timeout"]
        try:
            done = bounded.run(argv, seconds, cwd="/")
        except subprocess.TimeoutExpired:
            raise BuildError(
                f"{what} did not end within {seconds} s (application_build_timeout), and was killed "
                f"({' '.join(argv[:4])} ...). {self.unchanged}"
            ) from None
        if done.returncode:
            tail = "\n".join((done.stdout + done.stderr).splitlines()[-LAST_LINES:])
            raise BuildError(f"{what} failed ({' '.join(argv[:4])} ...). {self.unchanged}\n{tail}")
        return done.stdout

    def build(self) -> None:
        try:
            self.make()
        except BuildError as error:
            self.fail(str(error))
        except OSError as error:
            self.fail(f"{error}. {self.unchanged}")

    def make(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        source = self.directory / "src"
        source.mkdir(parents=True)
        unpack(self.module.params["artifact"], source)
        self.environment(source)
        run = self.directory / "run"
        run.write_text(RUN.format(settings=self.module.params["settings"], directory=self.directory))
        run.chmod(0o755)
        os.sync()  # else a power cut may leave the mark on the disk, and files of the release empty
        (self.directory / BUILT).touch()

    def environment(self, source: Path) -> None:
        requirements = source / self.module.params["requirements"]
        if not requirements.exists():
            raise BuildError(
                f"the source has no {self.module.params['requirements']}. "
                "Add the locked requirements to it, or edit application_requirements in the inventory."
            )
        environment = self.root / "environments" / environment_name(requirements.read_bytes(), self.platform)
        (self.directory / LINK).symlink_to(environment)
        if not (environment / BUILT).exists():
            self.install(requirements, environment)
        venv = self.directory / "venv"
        self.command("creating the release's environment", [*self.venv, "--without-pip", str(venv)])
        # The source is put on the path instead of being built: a build would fetch tools that are not locked.
        lay_over(environment, venv, source)
        for wheel in source.glob("*.whl"):
            pip = [str(environment / "bin/pip"), "--python", str(venv / "bin/python")]
            self.command("installing the wheel", [*pip, *INSTALL, "--no-deps", str(wheel)])
        write_own_package(environment, venv, source)

    def install(self, requirements: Path, environment: Path) -> None:
        """Install locked packages into an environment that other releases with this lock will use too."""
        if self.module.params["requirements_from"] == "control" and not self.module.params["wheels"]:
            shutil.rmtree(self.directory)
            self.module.exit_json(needs_wheels=environment.name, platform=self.platform)
        shutil.rmtree(environment, ignore_errors=True)  # of a build that was cut off
        self.command("creating the environment", [*self.venv, str(environment)])
        # Without hashes the package index, or the control machine, decides what runs, not the team.
        pip = [str(environment / "bin/pip"), *INSTALL, "--require-hashes", "--requirement", str(requirements)]
        wheels = self.directory / "wheels"
        if self.module.params["wheels"]:
            unpack(self.module.params["wheels"], wheels)
            pip += ["--no-index", "--find-links", str(wheels)]
        with build_packages(self.module.params["build_packages"], self.root / "build-packages.json", self.command):
            self.command("installing the requirements", pip)
        shutil.rmtree(wheels, ignore_errors=True)
        os.sync()
        (environment / BUILT).touch()


def unpack(archive: str, directory: Path) -> None:
    with tarfile.open(archive) as packed:
        # Debian 12's Python 3.11.2 has no filters yet; the archive comes from the control machine.
        packed.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
        packed.extractall(directory)


# PgBouncer's answer to the first client after the database was down, however long ago; only then does it reconnect. The command
# has not begun.
CACHED_FAILURE = "server login has been failing, cached error"


def prepare(module: AnsibleModule, directory: Path) -> list[str]:
    """Runs the release's commands and returns what they printed. A failed one can be repeated without another build."""
    asked, output = module.params, []
    code = directory / "src"  # where `python manage.py` finds its file
    for number, command in enumerate(asked["commands"]):
        shown = " ".join(map(str, command))
        # `run` sets PGSERVICE to that of the programs.
        argv = ["runuser", "-u", asked["user"], "--", str(directory / "run"), "env", f"PGSERVICE={asked['service']}"]
        argv += map(str, command)
        try:
            done = bounded.run(argv, asked["timeout"], cwd=code)
            if CACHED_FAILURE in done.stdout + done.stderr:
                done = bounded.run(argv, asked["timeout"], cwd=code)
            problem = done.returncode and f"ended with status {done.returncode}"
            lines = (done.stdout + done.stderr).splitlines()[-LAST_LINES:]
        except subprocess.TimeoutExpired:
            problem, lines = f"did not end within {asked['timeout']} s (application_release_timeout), and was killed", []
        if problem:
            reason = f"application_release_commands[{number}] ({shown}) {problem}. No program was changed."
            module.fail_json(msg="\n".join([f"Release {directory.name}: {reason}", *lines]), output=output)
        output += [f"$ {shown}", *lines]
    return output


def read_platform(module: AnsibleModule) -> dict:
    python = module.params["python"]
    try:
        return platform_of(python)
    except (OSError, subprocess.SubprocessError) as error:
        module.fail_json(
            msg=f"application_python is {python}, which runs nothing on this host: {error}. "
            "Let application_packages install it, or correct application_python."
        )


def main() -> None:
    usual_umask()
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["built", "prepared", "ready", "current", "listed"], "default": "built"},
            "source": {"type": "dict"},
            "requirements": {"type": "str", "default": "requirements.txt"},
            "requirements_from": {"type": "str", "choices": ["index", "control"], "default": "index"},
            "python": {"type": "path", "default": DEBIANS_PYTHON},
            "build_packages": {"type": "list", "elements": "str", "default": []},
            "settings": {"type": "path"},
            "version": {"type": "str"},
            "commands": {"type": "list", "elements": "list", "default": []},
            "prepared_for": {"type": "str", "default": ""},
            "service": {"type": "str", "default": ""},
            "user": {"type": "str"},
            "keep": {"type": "int", "default": 3},
            "timeout": {"type": "int", "default": 1800},
            "release": {"type": "str"},
            "artifact": {"type": "path"},
            "wheels": {"type": "path"},
        },
        required_if=[
            ("state", "built", ["release", "settings", "version"]),
            ("state", "prepared", ["release", "user"]),
            ("state", "ready", ["release"]),
            ("state", "current", ["release"]),
        ],
        supports_check_mode=True,
    )
    asked = module.params
    releases = Releases(Path(asked["root"]))
    before, name = releases.current, asked["release"]
    directory = releases.root / "releases" / (name or before)
    result = {"release": name or before, "directory": str(directory), "previous": before, "changed": False}
    if asked["state"] == "listed":
        module.exit_json(history=releases.history, **result)
    result["ready"], result["prepared"] = releases.is_ready(name), releases.is_prepared(name, asked["prepared_for"])
    predicted = module.check_mode and asked["state"] in ("prepared", "ready")
    if not (result["ready"] or asked["source"] or releases.is_built(name) or predicted):
        module.fail_json(
            msg=f"There is no release {name} here, only {', '.join(releases.history) or 'none'}. To build it, name it in "
            "application_source; to go on without this host, --limit the run to the others."
        )
    if asked["state"] == "built" and not result["ready"] and not releases.is_built(name):
        result["changed"] = True
        if not module.check_mode:
            if not asked["artifact"]:
                module.exit_json(needs_artifact=True, **result)
            releases.remove_unfinished()
            Build(module, directory, read_platform(module)).build()
    if asked["state"] == "prepared" and not result["prepared"]:
        result["changed"] = True
        result["output"] = [] if module.check_mode else prepare(module, directory)
    if asked["state"] == "ready" and not (result["ready"] and result["prepared"]):
        result["changed"] = result["ready"] = result["prepared"] = True
        if not module.check_mode:
            releases.mark_ready(name, asked["prepared_for"])
    if not result["ready"]:
        module.exit_json(history=releases.history, **result)
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
