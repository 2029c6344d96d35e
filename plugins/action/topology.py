"""Builds the model of the fleet from the inventory, and refuses what cannot work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import Templar

from ..plugin_utils.fleet.contract import bent_types, broken_specs, numbers, out_of_range, unknown_inputs, weak_secrets
from ..plugin_utils.fleet.former_names import former_names
from ..plugin_utils.fleet.inventory_files import files_for_nobody, vaults_in_the_clear
from ..plugin_utils.fleet.model import Fleet, Host
from ..plugin_utils.fleet.version import kit_version
from ..plugin_utils.network.flows import flows, of_host
from ..plugin_utils.refusals import refusals
from ..plugin_utils.refusals.applications import askable_brokers
from ..plugin_utils.refusals.authorities import expiring_authorities
from ..plugin_utils.refusals.ports import names_to_resolve
from ..plugin_utils.refusals.programs import consumed_queues
from ..plugin_utils.refusals.sources import pinned_sources

DOCUMENTATION = r"""
module: topology
short_description: Refuse a fleet that cannot work
description:
  - Checks every host's inputs, role defaults included, against the roles' argument specs and ranges, then the hosts against each
    other. Returns one sentence for each thing to edit, with which the next task ends the run. Changes nothing.
  - >-
    A role may add rules as constants in its vars: C(__<role>_refusals), a list of sentences, and C(__<role>_derived), values
    that its filters refuse to compute from wrong inputs.
options:
  roles: {description: "Role to inventory group, or list of groups.", type: dict, required: true}
  applications: {description: Inventory groups that are applications., type: list, elements: str, required: true}
  supported_releases: {description: Distribution to its supported major releases., type: dict, required: true}
  apart: {description: Pairs of roles that must not share a machine., type: list, elements: list, required: true}
author: maintainers
"""

RETURN = r"""
refused: {description: Every sentence against the fleet., type: str, returned: when there is one}
preflights: {description: "Host to its roles that have tasks/preflight.yml.", type: dict, returned: success}
packages: {description: "Host to what its roles list as __<role>_packages.", type: dict, returned: success}
program_logs: {description: "Host to what its roles list as __<role>_program_logs.", type: dict, returned: success}
identities: {description: "Host to its roles' __<role>_identity, by role.", type: dict, returned: success}
sources: {description: "Host to its application's source (a branch as its commit) and identity.", type: dict, returned: success}
names: {description: "Host to the names that it must resolve, each with the input that holds it.", type: dict, returned: success}
roles: {description: "Host to its roles.", type: dict, returned: success}
flows: {description: "Host to the declared flows that begin or end there.", type: dict, returned: success}
queues: {description: "Host to the queues that the workers of its application consume.", type: dict, returned: success}
brokers: {description: "Host to the brokers that know its application's queues.", type: dict, returned: success}
"""


RUN_VARIABLES = ("ansible_check_mode", "groups", "hostvars", "omit", "playbook_dir")


def once_for_all_hosts(sentences: list[str], hosts: list[str]) -> list[str]:
    """The sentences in their order; a sentence about several hosts names them all, once."""
    against: dict[str, list[str]] = {}
    for sentence in dict.fromkeys(sentences):
        host, separator, rest = sentence.partition(": ")
        known = bool(separator) and host in hosts
        against.setdefault(rest if known else sentence, []).extend([host] if known else [])
    return [f"{', '.join(named)}: {sentence}" if named else sentence for sentence, named in against.items()]


def root_cause(error: BaseException) -> str:
    """The innermost message, from a filter of the kit or from Jinja."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).rstrip(".")


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        fleet, sentences = self._check(task_vars)
        sentences = [*self._lost(), *sentences]
        if sentences:
            text = "\n".join(f"  * {sentence}" for sentence in sentences)
            refused = f"Nothing was changed. This fleet cannot work:\n{text}"
            # Ansible prints a failed task's message twice, and its recap below.
            printed = "grunnfjell.platform.refusals" in C.CALLBACKS_ENABLED
            return result | {
                "refused": refused,
                "msg": "Nothing was changed. The reasons are at the end." if printed else refused,
            }
        declared = flows(fleet)
        return result | {
            "warnings": list(dict.fromkeys([*former_names(fleet), *expiring_authorities(fleet)])),
            "roles": {name: sorted(host.roles) for name, host in fleet.hosts.items()},
            "flows": {name: [flow.as_data() for flow in of_host(declared, name)] for name in fleet.hosts},
            "queues": {name: consumed_queues(fleet.colleagues(host)) for name, host in fleet.hosts.items()},
            "brokers": {name: askable_brokers(fleet, host) for name, host in fleet.hosts.items()},
            "preflights": {name: self._preflights(host) for name, host in fleet.hosts.items()},
            "packages": self._packages,
            "program_logs": self._program_logs,
            "identities": self._identities,
            "sources": self._pinned,
            "names": {name: names_to_resolve(host) for name, host in fleet.hosts.items()},
        }

    def _lost(self) -> list[str]:
        """A sentence for each host that failed a task of this play, for example without a sudo password."""
        names = [name for name in self._all_vars["ansible_play_hosts_all"] if name not in self._all_vars["ansible_play_hosts"]]
        return [
            f"{name}: its first task failed (see FAILED). Correct that, or leave it out with --limit '!{name}'." for name in names
        ]

    def _check(self, task_vars: dict[str, Any] | None) -> tuple[Fleet, list[str]]:
        """The fleet as the inventory describes it, and every sentence against it; plan and residency_report need them too."""
        self._all_vars = task_vars or {}
        self._inventory_vars: dict[str, dict[str, Any]] = {}
        self._groups: dict[str, list[str]] = self._all_vars["groups"]
        self._sentences: list[str] = []
        self._packages: dict[str, list[str]] = {}
        self._program_logs: dict[str, list[str]] = {}
        self._identities: dict[str, dict[str, Any]] = {}
        args = self._task.args
        roles = {"topology": ("all",)}
        roles |= {role: tuple([at] if isinstance(at, str) else at) for role, at in args["roles"].items()}
        roles = self._known(roles)
        self._contracts = {role: self._contract(role) for role in roles}
        self._sentences += self._inventory_files()

        hosts = {name: self._host(name, roles, args["applications"]) for name in self._groups["all"]}
        fleet = Fleet(hosts, roles, tuple(args["applications"]), frozenset(self._groups), kit_version())
        self._pinned, sentences = pinned_sources(fleet)
        self._sentences += sentences
        sentences = [*refusals(fleet, args["supported_releases"], args["apart"]), *self._sentences]
        return fleet, once_for_all_hosts(sentences, list(hosts))

    def _known(self, roles: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """The roles that exist in the kit; adds a sentence for each other one."""
        for role in [role for role in roles if self._find_role(role) is None]:
            self._sentences.append(f"topology_roles names the role '{role}', which is not in roles/. Correct it, or take it out.")
            roles = {name: groups for name, groups in roles.items() if name != role}
        return roles

    def _inventory_files(self) -> list[str]:
        sentences: list[str] = []
        for path in sorted({self._raw(host).get("inventory_dir") or "" for host in self._groups["all"]} - {""}):
            sentences += files_for_nobody(Path(path), set(self._groups), set(self._groups["all"]))
            sentences += vaults_in_the_clear(Path(path))
        return sentences

    def _raw(self, host: str) -> dict[str, Any]:
        """The host's variables, unresolved; Ansible merges them again whenever it is asked, facts included."""
        if host not in self._inventory_vars:
            self._inventory_vars[host] = self._all_vars["hostvars"].raw_get(host)
        return self._inventory_vars[host]

    def _contract(self, role: str) -> dict[str, Any]:
        """Defaults, constants, argument spec and ranges of a role, from its own files."""
        home = self._find_role(role)
        assert home is not None

        def load(path: str) -> dict[str, Any]:
            file = home / path
            if not file.exists():
                return {}
            # unsafe: no deep copy, which takes as long as reading the file. Nobody changes the result.
            return self._loader.load_from_file(str(file), unsafe=True, trusted_as_template=True) or {}

        return {
            "defaults": load("defaults/main.yml"),
            "vars": load("vars/main.yml"),
            "options": load("meta/argument_specs.yml")["argument_specs"]["main"]["options"],
            "ranges": load("meta/ranges.yml"),
            "preflight": (home / "tasks/preflight.yml").exists(),
        }

    def _preflights(self, host: Host) -> list[str]:
        """The host's roles with checks on the host itself before any change."""
        return [role for role in self._contracts if role in host.roles and self._contracts[role]["preflight"]]

    def _find_role(self, role: str) -> Path | None:
        for base in (Path(self._loader.get_basedir()), Path(__file__).resolve().parents[2]):
            for home in (base / "roles" / role, base.parent / "roles" / role):
                if home.is_dir():
                    return home
        return None

    def _host(self, name: str, roles: dict[str, tuple[str, ...]], applications: list[str]) -> Host:
        given = self._raw(name)
        own = [role for role, groups in roles.items() if any(name in self._groups.get(group, []) for group in groups)]
        # Variables of the run rather than of a host.
        variables = {name: value for name, value in self._all_vars.items() if name in RUN_VARIABLES}
        for role in own:
            variables |= self._contracts[role]["defaults"]
        variables |= given
        for role in own:
            variables |= self._contracts[role]["vars"]
        templar = self._templar.copy_with_new_env(available_variables=variables)
        inputs, unresolved = self._inputs(own, variables, templar)

        # A host outside --limit was not measured, and is checked when it is in the run.
        if "resources" in given.get("ansible_facts", {}):
            packages, program_logs, identities = (
                {
                    role: templar.template(variables[constant])
                    for role in own
                    if (constant := pattern.format(role=role)) in variables
                }
                for pattern in ("__{role}_packages", "__{role}_program_logs", "__{role}_identity")
            )
            self._packages[name] = sorted(set().union(*packages.values()))
            self._program_logs[name] = sorted(set().union(*program_logs.values()))
            self._identities[name] = identities
            if identities and "pki" not in roles and variables.get("pki_authorities") is None:
                self._sentences.append(
                    f"No authority issues the certificates of {', '.join(sorted(identities))}. Add `pki: all` to topology_roles "
                    f"and group_vars/all/pki.yml as inventories/example has them, then run `make secrets`."
                )
            for role in own:
                self._sentences += broken_specs(name, role, self._contracts[role]["options"], inputs)
                self._own_rules(name, role, templar, unresolved)
            for cause, options in unresolved.items():
                self._sentences.append(f"{name}: {cause}. Edit the inventory. (This decides {', '.join(options)}.)")
        for role in own:
            self._sentences += bent_types(name, self._contracts[role]["options"], inputs)
            self._sentences += weak_secrets(name, self._contracts[role]["options"], inputs)
            inputs |= numbers(self._contracts[role]["options"], inputs)
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
            python=facts.get("python_version"),
            measured=facts.get("resources", {}),
            unreachable=self._unreachable(given),
            ansible_port=self._port(variables, templar),
        )

    @staticmethod
    def _port(variables: dict[str, Any], templar: Templar) -> int | None:
        """The inventory's SSH port; None where it cannot be resolved here, or is not a number."""
        try:
            return int(templar.template(variables.get("ansible_port", variables.get("ansible_ssh_port"))))
        except (AnsibleError, TypeError, ValueError):
            return None

    def _unreachable(self, variables: dict[str, Any]) -> str | None:
        """The connection's error, when the host could not be measured."""
        asked = variables.get("__topology_measured", {})
        if not asked.get("unreachable"):
            return None
        return " ".join(str(asked.get("msg", "no answer")).split()).removeprefix("Task failed: ").rstrip(".")

    def _own_rules(self, host: str, role: str, templar: Templar, unresolved: dict[str, list[str]]) -> None:
        """Applies the role's rules to its inputs, or notes why they could not be resolved."""
        constants = self._contracts[role]["vars"]
        derived = [*constants.get(f"__{role}_derived", []), constants.get(f"__{role}_refusals", [])]
        for expression in derived:
            try:
                value = templar.template(expression)
            except AnsibleError as error:
                unresolved.setdefault(root_cause(error), []).append(f"role {role}")
                continue
            if expression is derived[-1]:
                self._sentences += [f"{host}: {sentence}" for sentence in value]

    def _inputs(
        self, roles: list[str], variables: dict[str, Any], templar: Templar
    ) -> tuple[dict[str, Any], dict[str, list[str]]]:
        """The resolved inputs of the roles, and per error the inputs that cannot be resolved."""
        inputs: dict[str, Any] = {}
        unresolved: dict[str, list[str]] = {}
        for option in (option for role in roles for option in self._contracts[role]["options"]):
            if option not in variables:
                continue
            try:
                # Stored, so an input that others refer to is resolved only once.
                variables[option] = inputs[option] = templar.template(variables[option])
            except AnsibleError as error:
                unresolved.setdefault(root_cause(error), []).append(option)
        return inputs, unresolved
