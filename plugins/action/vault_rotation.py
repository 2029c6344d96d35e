"""Takes one step of a secret rotation in the vault, which records the progress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from ..plugin_utils.trust import pki, rotation, vault_file

DOCUMENTATION = r"""
module: vault_rotation
short_description: Take one step of a secret rotation in the vault
description:
  - Refuses an unknown secret or application, a missing vault, a run that does not reach the whole fleet, a second rotation at the
    same time, and an inventory that does not read its logins from the vault. Prints no secret.
options:
  path: {description: The vault's file., type: path, required: true}
  step: {description: The step to take., type: str, choices: [begin, hand_over, retire, finish], required: true}
  applications: {description: The applications of the fleet., type: list, elements: str, required: true}
  secrets: {description: 'The secrets to change, separated by commas; empty for all.', type: str, default: ""}
  application: {description: The application whose secrets are changed; empty for any., type: str, default: ""}
author: maintainers
"""

RETURN = r"""
phase: {description: The phase that the fleet must be brought to now., returned: success, type: str}
secrets: {description: Names of the secrets that are being changed., returned: success, type: list, elements: str}
programs: {description: Whether programs use another secret than before., returned: success, type: bool}
"""

# Step to the phase that it ends.
LEAVES = {"hand_over": rotation.NEXT, "retire": rotation.FORMER, "finish": rotation.RETIRED}

# Inputs of programs that must follow the vault: (login, secret). An inventory that binds only one of them would combine the
# login of one account with the password of the other.
FOLLOW = {
    "vault_rabbitmq_user_passwords": ("application_broker_user", "application_broker_password"),
    "vault_postgresql_role_passwords": ("application_database_user", "application_database_password"),
}
BOUNCER = ("pgbouncer_auth_user", "pgbouncer_auth_password")
# Inputs that must hold both logins while both are valid.
SERVICES = {
    "vault_rabbitmq_user_passwords": ("rabbitmq_users", "rabbitmq_user_passwords"),
    "vault_postgresql_role_passwords": ("postgresql_roles", "postgresql_role_passwords"),
}


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        args = self._task.args
        self._vars = task_vars or {}
        try:
            self._refuse_part_of_the_fleet()
            held, moved = self._move(args)
        except rotation.RotationRefused as refusal:
            return result | {"failed": True, "msg": f"Nothing was changed. {refusal}"}
        under_way = rotation.under_way(moved)
        result["changed"] = moved != held
        result["phase"] = rotation.phase_of_vault(moved)
        result["secrets"] = list(under_way)
        result["programs"] = rotation.programs_follow(moved)
        return result

    def _move(self, args: dict[str, Any]) -> tuple[rotation.Vault, rotation.Vault]:
        """The vault as it was, and as it is now."""
        path = Path(args["path"])
        if not path.exists():
            raise rotation.RotationRefused(
                f"There is no vault at {path}: this inventory has no secrets to rotate. `make secrets` creates them."
            )
        vault = vault_file.opened(self._loader._vault.secrets)
        held = vault_file.read(path, vault)
        if args["step"] == "begin":
            names = [name for name in str(args.get("secrets") or "").replace(" ", "").split(",") if name]
            moved, wanted = rotation.begin(
                held, args["applications"], names, str(args.get("application") or ""), authority=pki.new_authority
            )
            self._refuse_what_does_not_follow(moved, wanted)
        else:
            moved = rotation.advance(held, LEAVES[args["step"]])
        if moved != held and not self._task.check_mode:
            vault_file.write(path, vault, moved)
        return held, moved

    def _refuse_part_of_the_fleet(self) -> None:
        """A step that reached only some hosts must not count as done."""
        missing = [host for host in self._vars["groups"]["all"] if host not in self._vars["ansible_play_hosts"]]
        if missing:
            raise rotation.RotationRefused(
                f"{', '.join(missing)} of the fleet {'is' if len(missing) == 1 else 'are'} not in this run, and would be left "
                "without the secrets that the others use. Run it without --limit, with every host up; the vault records the "
                "progress."
            )

    def _refuse_what_does_not_follow(self, moved: rotation.Vault, wanted: list[str]) -> None:
        """Compare the inventory's inputs with the vault in the two phases that differ: both logins valid, and handed over."""
        both = moved
        handed = rotation.advance(moved, rotation.NEXT)
        wrong: dict[str, None] = {}
        for secret in wanted:
            variable, name, _ = rotation.entries(moved)[secret]
            kind = rotation.KINDS[variable]
            for host in self._vars["groups"]["all"]:
                if kind == rotation.AUTHORITY:
                    wrong |= dict.fromkeys(self._trust(host, variable, both) + self._trust(host, variable, handed))
                if kind != rotation.LOGINS:
                    continue
                wrong |= dict.fromkeys(self._program(host, variable, name, handed))
                wrong |= dict.fromkeys(self._service(host, variable, name, both))
        if wrong:
            raise rotation.RotationRefused(
                "The inventory does not take its logins from the vault, as inventories/example does: " + "; ".join(wrong) + "."
            )

    def _inputs(self, host: str, names: tuple[str, ...], vault: rotation.Vault) -> list[Any] | None:
        """The inputs that the inventory computes from this vault; None where it has none of them."""
        variables = dict(self._vars["hostvars"].raw_get(host)) | vault | {"hostvars": self._vars["hostvars"]}
        if not any(name in variables for name in names):
            return None
        templar = self._templar.copy_with_new_env(available_variables=variables)
        try:
            return [templar.template(variables[name]) if name in variables else None for name in names]
        except AnsibleError:
            # A binding that expects text where the vault now has a mapping.
            return [None for _ in names]

    def _program(self, host: str, variable: str, name: str, vault: rotation.Vault) -> list[str]:
        application = self._vars["hostvars"].raw_get(host).get("application_name")
        names = FOLLOW[variable] if application == name else ()
        if variable == "vault_postgresql_role_passwords" and name not in self._task.args["applications"]:
            names = BOUNCER
        inputs = self._inputs(host, names, vault) if names else None
        entry = vault[variable][name]
        if inputs is None or inputs == [rotation.login_of(entry, name), rotation.secret_of(entry)]:
            return []
        return [f"{' and '.join(names)} of {host} do not follow {variable}['{name}']"]

    def _trust(self, host: str, variable: str, vault: rotation.Vault) -> list[str]:
        names = ("pki_authority", "pki_authorities_trusted")
        inputs, entry = self._inputs(host, names, vault), vault[variable]
        if inputs == [rotation.secret_of(entry), rotation.trusted(entry)]:
            return []
        return [f"{' and '.join(names)} of {host} do not follow {variable}"]

    def _service(self, host: str, variable: str, name: str, vault: rotation.Vault) -> list[str]:
        inputs = self._inputs(host, SERVICES[variable], vault)
        if inputs is None:
            return []
        accepted = rotation.accepted(vault[variable][name], name)
        known, passwords = inputs
        declared = {entry.get("name") for entry in known or [] if isinstance(entry, dict)} | {"pgbouncer"}
        if isinstance(passwords, dict) and set(accepted) <= declared and accepted.items() <= passwords.items():
            return []
        return [f"{' and '.join(SERVICES[variable])} of {host} do not follow {variable}['{name}']"]
