"""The kit's filters: names for inventories, roles and templates, and their functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet import model, rollout, services
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network import ruleset
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals import host, queues
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports import acceptance
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing import celery, supervisor
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust import logins, rotation


@cache  # Ansible asks again for each environment that it renders in
def of_roles() -> dict[str, Callable[..., Any]]:
    """The functions of each sizing/<role>.py whose name begins with the role's; a new role needs no line here."""
    functions = {}
    for path in Path(str(celery.__file__)).parent.glob("[a-z]*.py"):
        module = import_module(f"{celery.__package__}.{path.stem}")
        members = inspect.getmembers(module, inspect.isfunction)
        functions |= {name: call for name, call in members if name.startswith(f"{path.stem}_")}
    return functions


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return of_roles() | {
            "acceptance_problems": acceptance.problems,
            "addresses": rollout.addresses,
            "application_broker_users": logins.application_broker_users,
            "application_database_roles": logins.application_database_roles,
            "application_databases": logins.application_databases,
            "application_pools": logins.application_pools,
            "application_problems": logins.application_problems,
            "application_vhosts": logins.application_vhosts,
            "authorities_trusted": rotation.trusted,
            "beat_program": supervisor.beat_program,
            "bracketed": model.bracketed,
            "broker_url": celery.broker_url,
            "database_sslmode": logins.database_sslmode,
            "drained_hosts": rollout.drained_hosts,
            "fingerprint": celery.fingerprint,
            "firewall_table": ruleset.firewall_table,
            "former_secrets": rotation.former,
            "hosts_with": rollout.hosts_with,
            "login_in_use": rotation.login_of,
            "login_secrets": logins.login_secrets,
            "program_sections": supervisor.program_sections,
            "programs_consuming": supervisor.programs_consuming,
            "python_literal": celery.python_literal,
            "queues_refused": queues.queues_refused,
            "queues_used": queues.queues_used,
            "release_leader": rollout.release_leader,
            "release_wanted": rollout.release_wanted,
            "renewal_due": rotation.renews,
            "restart_batches": rollout.restart_batches,
            "secret_beside": rotation.beside,
            "secret_in_use": rotation.secret_of,
            "services_declared": services.declared,
            "services_of": services.of_roles,
            "services_played": services.played,
            "services_units": services.packaged_units,
            "services_with": services.with_tasks,
            "settings_contents": celery.settings_contents,
            "settings_files": celery.settings_files,
            "ssh_problems": host.ssh_problems,
            "time_servers": host.time_servers,
            "update_order": rollout.update_order,
            "waiting_hosts": rollout.waiting_hosts,
            "worker_programs": supervisor.worker_programs,
        }
