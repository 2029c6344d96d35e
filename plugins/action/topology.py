"""Reads the whole fleet as the inventory describes it, and refuses what cannot work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import Templar

# Ansible loads a plugin by its path, so a package that plugins share is not importable by itself.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from fleet.contract import broken_specs, out_of_range, unknown_inputs
from fleet.model import Fleet, Host
from fleet.refusals import refusals

DOCUMENTATION = r"""
module: topology
short_description: Refuse a fleet that cannot work
description:
  - Takes every host's inputs, role defaults included, holds them against the roles' argument specs and ranges, then
    holds the hosts against each other. Fails with one sentence for each thing to edit. Changes nothing.
options:
  roles: {description: "Role to inventory group, or list of groups.", type: dict, required: true}
  applications: {description: Inventory groups that are applications., type: list, elements: str, required: true}
  supported_releases: {description: Distribution to its supported major releases., type: dict, required: true}
  apart: {description: Pairs of roles that must not share a machine., type: list, elements: list, required: true}
author: maintainers
"""

RETURN = r"""
preflights: {description: "Host to its roles that have tasks/preflight.yml.", type: dict, returned: always}
packages: {description: "Host to what its roles list as __<role>_packages.", type: dict, returned: always}
"""


RUN_VARIABLES = ("ansible_check_mode", "groups", "hostvars", "omit", "playbook_dir")


def root_cause(error: BaseException) -> str:
    """The innermost sentence: what a filter of the kit, or Jinja, said."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).rstrip(".")


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        fleet, sentences = self._judge(task_vars)
        result["preflights"] = {name: self._preflights(host) for name, host in fleet.hosts.items()}
        result["packages"] = self._packages
        if sentences:
            result["failed"] = True
            result["msg"] = "Nothing was changed. This fleet cannot work:\n" + "\n".join(f"  * {s}" for s in sentences)
        return result

    def _judge(self, task_vars: dict[str, Any] | None) -> tuple[Fleet, list[str]]:
        """The fleet as the inventory describes it, and every sentence that stands against it; plan asks the same."""
        self._all_vars = task_vars or {}
        self._groups: dict[str, list[str]] = self._all_vars["groups"]
        self._sentences: list[str] = []
        self._packages: dict[str, list[str]] = {}
        args = self._task.args
        roles = {"topology": ("all",)}
        roles |= {role: tuple([at] if isinstance(at, str) else at) for role, at in args["roles"].items()}
        self._contracts = {role: self._contract(role) for role in roles}

        hosts = {name: self._host(name, roles, args["applications"]) for name in self._groups["all"]}
        fleet = Fleet(hosts, roles, tuple(args["applications"]))
        return fleet, [*refusals(fleet, args["supported_releases"], args["apart"]), *self._sentences]

    def _contract(self, role: str) -> dict[str, Any]:
        """Defaults, constants, argument spec and ranges of a role, from its own files."""
        home = Path(self._find_role(role))

        def load(path: str) -> dict[str, Any]:
            file = home / path
            return (self._loader.load_from_file(str(file), trusted_as_template=True) or {}) if file.exists() else {}

        return {
            "defaults": load("defaults/main.yml"),
            "vars": load("vars/main.yml"),
            "options": load("meta/argument_specs.yml")["argument_specs"]["main"]["options"],
            "ranges": load("meta/ranges.yml"),
            "preflight": (home / "tasks/preflight.yml").exists(),
        }

    def _preflights(self, host: Host) -> list[str]:
        """The host's roles that look at the host itself before anything changes."""
        return [role for role in self._contracts if role in host.roles and self._contracts[role]["preflight"]]

    def _find_role(self, role: str) -> str:
        for base in (Path(self._loader.get_basedir()), Path(__file__).resolve().parents[2]):
            for home in (base / "roles" / role, base.parent / "roles" / role):
                if home.is_dir():
                    return str(home)
        raise AnsibleError(f"topology_roles names the role '{role}', which is not in roles/.")

    def _host(self, name: str, roles: dict[str, tuple[str, ...]], applications: list[str]) -> Host:
        given = self._all_vars["hostvars"].raw_get(name)
        own = [role for role, groups in roles.items() if any(name in self._groups.get(group, []) for group in groups)]
        # What belongs to the run rather than to a host (hostvars, groups, playbook_dir ...).
        variables = {name: value for name, value in self._all_vars.items() if name in RUN_VARIABLES}
        for role in own:
            variables |= self._contracts[role]["defaults"]
        variables |= given
        for role in own:
            variables |= self._contracts[role]["vars"]
        templar = self._templar.copy_with_new_env(available_variables=variables)
        inputs, unresolved = self._inputs(own, variables, templar)

        # A host outside --limit was not measured: what follows from its facts is judged when it is in the run.
        if "resources" in given.get("ansible_facts", {}):
            lists = [f"__{role}_packages" for role in own if f"__{role}_packages" in variables]
            self._packages[name] = sorted({package for each in lists for package in templar.template(variables[each])})
            for role in own:
                self._sentences += broken_specs(name, role, self._contracts[role]["options"], inputs)
            for cause, options in unresolved.items():
                self._sentences.append(f"{name}: {cause}. Edit the inventory. (This decides {', '.join(options)}.)")
        for role in own:
            self._sentences += out_of_range(name, self._contracts[role]["ranges"], inputs)
        known = {option for contract in self._contracts.values() for option in contract["options"]}
        self._sentences += unknown_inputs(name, given, roles, known)

        facts = given.get("ansible_facts", {})
        return Host(
            name=name,
            roles=frozenset(own),
            applications=tuple(app for app in applications if name in self._groups.get(app, [])),
            address=inputs.get("topology_address"),
            machine_id=facts.get("machine_id"),
            distribution=facts.get("distribution"),
            release=facts.get("distribution_major_version"),
            inputs=inputs,
            promises=frozenset(variables.get("__application_promises", ())),
            measured=facts.get("resources", {}),
        )

    def _inputs(
        self, roles: list[str], variables: dict[str, Any], templar: Templar
    ) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """The inputs of the roles with their templates resolved, and for each cause those that do not resolve."""
        inputs: dict[str, Any] = {}
        unresolved: dict[str, list[str]] = {}
        for option in (option for role in roles for option in self._contracts[role]["options"]):
            if option not in variables:
                continue
            try:
                inputs[option] = templar.template(variables[option])
            except AnsibleError as error:
                unresolved.setdefault(root_cause(error), []).append(option)
        return inputs, unresolved
