#!/usr/bin/python
"""One release of an application on its host: unpacked, built with its locked environment, switched to."""

DOCUMENTATION = r"""
module: application_release
short_description: Build one release of an application beside the last one
description:
  - A release lives in I(root)/releases/I(release), with its source in C(src) and its environment in C(venv). It counts
    as standing only once everything, the migration included, has succeeded; a half-built one is built anew.
  - Its script C(run) runs a program of the release with the application's environment.
options:
  source: {description: "As application_source of the role; read on the control machine.", type: dict, required: true}
  requirements: {description: The locked requirements in the source., type: str, default: requirements.txt}
  root: {description: Home of the application's releases., type: path, required: true}
  environment_file: {description: Shell file with the application's environment., type: path, required: true}
  migrate: {description: Command that prepares the database for the release., type: list, elements: str, default: []}
  user: {description: Account that runs the migration and the programs., type: str, required: true}
  keep: {description: Releases that stay on the host., type: int, default: 3}
  release: {description: Set by the action plugin., type: str}
  artifact: {description: Set by the action plugin., type: path}
author: maintainers
"""

EXAMPLES = r"""
- name: Build the release
  application_release:
    source: {directory: examples/newsroom}
    root: /opt/newsroom
    environment_file: /etc/newsroom/environment
    user: www-data
"""

RETURN = r"""
release: {description: Identity of the release by its content., type: str, returned: always}
directory: {description: Where the release stands., type: str, returned: always}
"""

import json
import os
import shutil
import tarfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

READY = ".ready"
RUN = """\
#!/bin/sh
# Runs a program of this release in the application's environment, e.g. `run celery status`.
set -a
. {environment}
set +a
PATH={directory}/venv/bin:$PATH
exec "$@"
"""


def releases_to_remove(ready: list[tuple[float, str]], current: str, keep: int, used: set[str]) -> list[str]:
    """Of (time built, release), the oldest beyond ``keep``; never the current one, nor one that a program uses."""
    others = [release for _, release in sorted(ready, reverse=True) if release != current]
    return [release for release in others[max(keep - 1, 0) :] if release not in used]


class Release:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.root = Path(module.params["root"])
        self.name: str = module.params["release"]
        self.directory = self.root / "releases" / self.name
        self.current = self.root / "current"

    @property
    def ready(self) -> bool:
        return (self.directory / READY).exists()

    @property
    def is_current(self) -> bool:
        return self.current.is_symlink() and Path(os.readlink(self.current)) == self.directory

    def command(self, what: str, argv: list[str], **options: object) -> None:
        code, out, err = self.module.run_command(argv, **options)
        if code:
            tail = "\n".join((out + err).splitlines()[-30:])
            self.module.fail_json(
                msg=f"Release {self.name}: {what} failed ({' '.join(argv[:4])} ...). The release before it still runs.\n{tail}"
            )

    def build(self) -> None:
        shutil.rmtree(self.directory, ignore_errors=True)
        source = self.directory / "src"
        source.mkdir(parents=True)
        with tarfile.open(self.module.params["artifact"]) as artifact:
            # Debian 12's Python 3.11.2 has no filters yet; the archive is the control machine's own.
            artifact.extraction_filter = getattr(tarfile, "data_filter", lambda member, path: member)
            artifact.extractall(source)
        self.environment(source)
        run = self.directory / "run"
        run.write_text(RUN.format(environment=self.module.params["environment_file"], directory=self.directory))
        run.chmod(0o755)
        if self.module.params["migrate"]:
            as_user = ["runuser", "-u", self.module.params["user"], "--"]
            self.command("its migration", [*as_user, str(run), *self.module.params["migrate"]], cwd="/")
        (self.directory / READY).write_text(json.dumps({"release": self.name}) + "\n")

    def environment(self, source: Path) -> None:
        requirements = source / self.module.params["requirements"]
        if not requirements.exists():
            self.module.fail_json(
                msg=f"Release {self.name}: the source has no {self.module.params['requirements']}. "
                "Add the locked requirements to it, or edit application_requirements in the inventory."
            )
        venv = self.directory / "venv"
        pip = [str(venv / "bin/pip"), "install", "--no-input", "--disable-pip-version-check", "--quiet"]
        self.command("making its environment", ["/usr/bin/python3", "-m", "venv", str(venv)])
        # Without hashes a registry, not the team, decides what runs.
        self.command("installing its requirements", [*pip, "--require-hashes", "--requirement", str(requirements)])
        for wheel in source.glob("*.whl"):
            self.command("installing its wheel", [*pip, "--no-deps", str(wheel)])
        # The source itself is on the path rather than built: a build would fetch tools that no lock holds.
        path_file = next(venv.glob("lib/python3*/site-packages")) / "application.pth"
        path_file.write_text(f"{source}\n")

    def switch(self) -> None:
        link = self.root / ".current"
        link.unlink(missing_ok=True)
        link.symlink_to(self.directory)
        link.replace(self.current)

    def prune(self) -> None:
        ready = [(file.stat().st_mtime, file.parent.name) for file in self.root.glob(f"releases/*/{READY}")]
        for name in releases_to_remove(ready, self.name, self.module.params["keep"], self.used({name for _, name in ready})):
            shutil.rmtree(self.root / "releases" / name)

    def used(self, names: set[str]) -> set[str]:
        """Releases that a program runs, or would be started on again: a deploy of the application alone restarts none."""
        texts = []
        for file in (*Path("/proc").glob("[0-9]*/cmdline"), *Path("/etc/supervisor/conf.d").glob("*.conf")):
            try:
                texts.append(file.read_bytes())
            except OSError:  # a process that has ended meanwhile
                continue
        return {name for name in names if any(bytes(self.root / "releases" / name) in text for text in texts)}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "source": {"type": "dict", "required": True},
            "requirements": {"type": "str", "default": "requirements.txt"},
            "root": {"type": "path", "required": True},
            "environment_file": {"type": "path", "required": True},
            "migrate": {"type": "list", "elements": "str", "default": []},
            "user": {"type": "str", "required": True},
            "keep": {"type": "int", "default": 3},
            "release": {"type": "str", "required": True},
            "artifact": {"type": "path"},
        },
        supports_check_mode=True,
    )
    release = Release(module)
    result = {"release": release.name, "directory": str(release.directory), "changed": False}
    if not release.ready:
        result["changed"] = True
        if module.check_mode:
            module.exit_json(**result)
        if not module.params["artifact"]:
            module.exit_json(needs_artifact=True, **result)
        release.build()
    if not release.is_current:
        result["changed"] = True
        if not module.check_mode:
            release.switch()
    if not module.check_mode:
        release.prune()
    module.exit_json(**result)


if __name__ == "__main__":
    main()
