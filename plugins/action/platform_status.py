"""Queries all services of a host in one call."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ..plugin_utils.fleet.services import ROLES, carried, of_roles, services


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        self._vars = task_vars or {}
        sections = self._sections(carried(self._templar.template(self._vars["topology_roles"]), self._vars["group_names"]))
        result |= self._execute_module(
            "grunnfjell.platform.platform_status", module_args={"sections": sections}, task_vars=task_vars
        )
        return result

    def _input(self, name: str) -> Any:
        """A role's input on this host, or its default."""
        if name in self._vars:
            return self._templar.template(self._vars[name])
        role = next(role for role in services() if name.startswith(f"{role}_"))
        defaults = self._loader.load_from_file(str(ROLES / role / "defaults/main.yml"), trusted_as_template=True)
        return self._templar.template(defaults[name]) if name in defaults else None

    def _sections(self, roles: set[str]) -> dict[str, dict[str, Any]]:
        """The ``status`` of each service of the host, without services that were removed from it, its updates, and its beats.

        A beat may run on any host: one that has left a role, or that somebody started one on.
        """
        packages = of_roles(roles, "packages")
        return (
            {"beats": {}}
            | ({"updates": {"packages": packages}} if packages else {})
            | {
                section: {key: self._input(name) for key, name in wanted.items()}
                for role, service in services().items()
                if role in roles and (not service.status or self._input(f"{role}_state") != "absent")
                for section, wanted in service.status.items()
            }
        )
