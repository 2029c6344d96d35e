"""Calls a module of the kit in this process, with arguments as Ansible passes them."""

from __future__ import annotations

import contextlib
import io
import json
import traceback
from types import ModuleType
from typing import Any

from ansible.module_utils.testing import patch_module_args


def call(module: ModuleType, check_mode: bool = False, **arguments: Any) -> dict[str, Any]:
    """What the module returned; `failed` is in it if it failed, by an exception too."""
    printed = io.StringIO()
    given = patch_module_args(arguments | {"_ansible_check_mode": check_mode})
    with given, contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        try:
            module.main()
        except Exception:
            return {"failed": True, "msg": traceback.format_exc()}
    return {"failed": False} | json.loads(printed.getvalue())
