"""Finds an application's release on the control machine, and sends it to a host that does not have it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from ..plugin_utils.fleet.source import SourceError, refuse_change, source_of


class ActionModule(ActionBase):
    TRANSFERS_FILES = True
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = dict(self._task.args)
        identity = args.pop("identity", None)
        try:
            source = None
            if args.get("source") and not args.get("release"):
                source = source_of(args["source"], args.get("requirements", "requirements.txt"))
                args["release"] = source.identity
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
                    refuse_change(source_of(args["source"], args.get("requirements", "requirements.txt")), source.identity)
                    remote = self._connection._shell.join_path(self._make_tmp_path(), artifact.name)
                    args["artifact"] = self._transfer_file(str(artifact), remote)
                result |= self._execute_module(module_args=args, task_vars=task_vars)
        except SourceError as error:
            result |= {"failed": True, "msg": str(error)}
        finally:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return result
