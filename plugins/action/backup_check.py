"""Reports what must be kept where, and what is missing of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.utils.display import Display

from ..plugin_utils.fleet import version_control
from ..plugin_utils.reports.backup_check import Control, lines, missing, to_keep
from ..plugin_utils.reports.status import StatusReport
from ..plugin_utils.trust import vault_file

# Ansible loads a plugin by its path, so packages that plugins share are not importable by themselves.
from .status_report import ActionModule as StatusAction

DOCUMENTATION = r"""
module: backup_check
short_description: Report what is missing for a restore
description:
  - Takes what M(platform_status) registered as C(__platform_status) on each host, and looks at the inventory, its vault and their
    version control on the control machine. Prints what must be kept where, and fails with a sentence for each missing thing.
    Changes nothing, and prints no secret.
options:
  vault: {description: The vault's file., type: path, required: true}
author: maintainers
"""


class ActionModule(StatusAction):
    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        variables = task_vars or {}
        hosts = {name: self._host(variables, name) for name in variables["ansible_play_hosts_all"]}
        report = StatusReport(self._answers(variables, hosts), hosts).report()
        control = self._control(variables)
        text = [f"  {what:<30}{where}" for what, where in to_keep(control, report)]
        text += ["Held now:", *(f"  {what:<10}{line}" for what, line in lines(report))]
        Display().display("\n".join(["To be kept:", *text]))
        problems = missing(control, report, hosts)
        result: dict[str, Any] = {"changed": False, "missing": problems}
        if problems:
            result |= {"failed": True, "msg": "\n".join(problems)}
        return result

    def _control(self, variables: dict[str, Any]) -> Control:
        inventory, path = Path(str(variables.get("inventory_dir") or ".")), Path(self._task.args["vault"])
        vault, problem = self._vault(path)
        password = Path(constants.config.get_config_value("DEFAULT_VAULT_PASSWORD_FILE") or "")
        has_password = password.name != "" and password.exists()
        repositories = {
            name: str(held["pgbackrest_repo_cipher_pass"])
            for name in variables["ansible_play_hosts_all"]
            if (held := variables["hostvars"][name]).get("pgbackrest_database_hosts") and "pgbackrest_repo_cipher_pass" in held
        }
        return Control(
            inventory=str(inventory),
            vault_path=str(path),
            vault=vault,
            vault_problem=problem,
            password_path=str(password) if has_password else "",
            password_tracked=has_password and version_control.tracked(password),
            authorities=[str(name) for name in variables.get("pki_authorities_trusted") or []],
            passphrases=repositories,
            versions=version_control.state(inventory),
        )

    def _vault(self, path: Path) -> tuple[dict[str, Any] | None, str]:
        """The vault's content, or why it cannot be read."""
        if not path.exists():
            return None, f"{path} does not exist"
        if not path.read_bytes().startswith(b"$ANSIBLE_VAULT"):
            return None, f"{path} is not encrypted"
        try:
            return vault_file.read(path, vault_file.opened(self._loader._vault.secrets)), ""
        except AnsibleError as error:
            return None, str(error.message)
