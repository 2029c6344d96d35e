"""Finds an application's release on the control machine, and sends it to a host that does not have it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ..plugin_utils.fleet.source import DEBIANS_PYTHON, SourceError, refuse_change, source_of
from ..plugin_utils.fleet.wheels import wheels_for


class ActionModule(ActionBase):
    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = dict(self._task.args)
        identity = args.pop("identity", None)
        try:
            source, requirements = None, args.get("requirements", "requirements.txt")
            if args.get("source") and not args.get("release"):
                source = source_of(args["source"], requirements)
                args["release"] = source.identity
                args["python"] = args["source"].get("python", DEBIANS_PYTHON)
                refuse_change(source, identity)
                if source.commit:
                    args["source"] = args["source"] | {"version": source.commit}
            elif args.get("release"):
                args.pop("source", None)  # a release that the host has is not built again
            result |= self._execute_module(module_args=args, task_vars=task_vars)
            if source and result.pop("needs_artifact", False):
                with tempfile.TemporaryDirectory() as scratch:
                    artifact = Path(scratch) / "artifact.tar.gz"
                    source.pack(artifact)
                    refuse_change(source_of(args["source"], requirements), source.identity)
                    args["artifact"] = self.send(artifact)
                result |= self._execute_module(module_args=args, task_vars=task_vars)
                if environment := result.pop("needs_wheels", ""):
                    with source.tree() as directory:
                        args["wheels"] = self.send(wheels_for(directory / requirements, result.pop("platform"), environment))
                    result |= self._execute_module(module_args=args, task_vars=task_vars)
        except SourceError as error:
            result |= {"failed": True, "msg": str(error)}
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result

    def send(self, file: Path) -> str:
        """Copy a file into a temporary directory of the host, which goes with the task; its path there."""
        directory = self._connection._shell.tmpdir or self._make_tmp_path()
        return self._transfer_file(str(file), self._connection._shell.join_path(directory, file.name))
