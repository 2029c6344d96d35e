"""Prints the status of the platform and writes it as JSON."""

from __future__ import annotations

import json
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from ..plugin_utils.fleet.services import carried
from ..plugin_utils.reports.status import HostInfo, StatusReport
from ..plugin_utils.reports.status_text import render

DOCUMENTATION = r"""
module: status_report
short_description: Report the status of the platform
description:
  - Takes what M(platform_status) registered as C(__platform_status) on each host, prints the report, and writes it as JSON.
    Fails when no producer can accept a job now. Changes nothing on a host.
options:
  path: {description: Where the report goes on the control machine., type: path, required: true}
author: maintainers
"""


class ActionModule(ActionBase):
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        path = Path(self._task.args["path"]).resolve()
        inventory = str(variables.get("inventory_dir", ""))
        hosts = {name: self._host(variables, name) for name in variables["ansible_play_hosts_all"]}
        status = StatusReport(self._answers(variables, hosts), hosts, self._previous(path, inventory))
        report = {"inventory": inventory, "asked_at": datetime.now(UTC).isoformat(timespec="seconds"), **status.report()}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")

        Display().display(render(report))
        result |= {"changed": False, "accepting": report["accepting"], "msg": report["verdict"]}
        if not report["accepting"]:
            result["failed"] = True
        return result

    @staticmethod
    def _answers(variables: dict[str, Any], hosts: dict[str, HostInfo]) -> dict[str, dict[str, Any]]:
        results = {name: variables["hostvars"][name].get("__platform_status", {}) for name in hosts}
        return {
            name: {key: result[key] for key in ("sections", "unreachable", "msg") if key in result}
            for name, result in results.items()
        }

    def _host(self, variables: dict[str, Any], name: str) -> HostInfo:
        held = variables["hostvars"][name]
        address = str(held.get("topology_address") or held.get("ansible_host") or name)
        return HostInfo(
            roles=frozenset(carried(held["topology_roles"], held["group_names"])),
            application=str(held.get("application_name", "")),
            addresses=frozenset({address, *resolved(address)}),
            drained=held.get("celery_worker_state") == "drained",
            successor=str(held.get("rabbitmq_successor") or ""),
            celery_app=str(held.get("application_celery_app", "")),
            waived_queues=held.get("application_waived_queues") or {},
            beat=held.get("celery_worker_beat") is True and held.get("celery_worker_state") != "drained",
        )

    @staticmethod
    def _previous(path: Path, inventory: str) -> dict[str, Any] | None:
        """The last report of the same fleet, for the rates since then."""
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return report if isinstance(report, dict) and report.get("inventory") == inventory else None


def resolved(address: str) -> set[str]:
    """The addresses of a name; a broker knows its clients by address."""
    try:
        return {str(info[4][0]) for info in socket.getaddrinfo(address, None, type=socket.SOCK_STREAM)}
    except OSError:
        return set()
