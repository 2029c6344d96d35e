"""Tells a host's services apart by the roles that it carries, and asks all of them in one call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

ROLES = Path(__file__).resolve().parents[2] / "roles"


class ActionModule(ActionBase):
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        self._vars = task_vars or {}
        sections = self._sections(self._roles())
        result |= self._execute_module(
            "grunnfjell.platform.platform_status", module_args={"sections": sections}, task_vars=task_vars
        )
        return result

    def _roles(self) -> set[str]:
        """The roles of this host, by the inventory's own table."""
        groups = {"all", *self._vars["group_names"]}
        table = self._templar.template(self._vars["topology_roles"]).items()
        return {role for role, at in table if groups & set([at] if isinstance(at, str) else at)}

    def _input(self, role: str, name: str) -> Any:
        """A role's input as this host has it; the role's own default where the inventory says nothing."""
        if name in self._vars:
            return self._templar.template(self._vars[name])
        return self._templar.template(
            self._loader.load_from_file(str(ROLES / role / "defaults/main.yml"), trusted_as_template=True)[name]
        )

    def _sections(self, roles: set[str]) -> dict[str, dict[str, Any]]:
        sections: dict[str, dict[str, Any]] = {
            "version": {},
            "certificates": {"renew_days": self._input("pki", "pki_renew_days")},
        }
        if "firewall" in roles and self._input("firewall", "firewall_state") == "present":
            sections["firewall"] = {}
        if "rabbitmq" in roles:
            sections["broker"] = {}
        if "postgresql" in roles:
            sections["database"] = {"port": self._input("postgresql", "postgresql_port")}
        if "pgbouncer" in roles:
            sections["bouncer"] = {
                "socket_dir": self._input("pgbouncer", "pgbouncer_unix_socket_dir"),
                "port": self._input("pgbouncer", "pgbouncer_listen_port"),
            }
        if "supervisor" in roles:
            sections["programs"] = {"socket": "/run/supervisor.sock"}
        if "application" in roles:
            sections["application"] = {"name": self._input("application", "application_name")}
        if "producer" in roles:
            address, path = self._input("producer", "producer_bind"), self._input("producer", "producer_health_path")
            sections["producer"] = {
                "name": self._input("application", "application_name"),
                "user": self._input("application", "application_user"),
                "url": f"https://{address}{path}",
                "authorities": self._input("producer", "producer_ca_file"),
            }
        return sections
