"""The kit's filters: the names that inventories, roles and templates call, and the functions behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet import model, rollout, services
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.network import ruleset
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals import host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.reports import acceptance
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.sizing import (
    celery,
    pgbouncer,
    postgresql,
    rabbitmq,
    supervisor,
)
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust import logins, rotation


class FilterModule:
    def filters(self) -> dict[str, Callable[..., Any]]:
        return {
            "acceptance_problems": acceptance.problems,
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
            "pgbouncer_client_tls": pgbouncer.pgbouncer_client_tls,
            "pgbouncer_database_connections": pgbouncer.pgbouncer_database_connections,
            "pgbouncer_database_lines": pgbouncer.pgbouncer_database_lines,
            "pgbouncer_descriptors": pgbouncer.pgbouncer_descriptors,
            "pgbouncer_problems": pgbouncer.pgbouncer_problems,
            "pgbouncer_settings": pgbouncer.pgbouncer_settings,
            "postgresql_hba_rules": postgresql.postgresql_hba_rules,
            "postgresql_problems": postgresql.postgresql_problems,
            "postgresql_settings": postgresql.postgresql_settings,
            "postgresql_sizes": postgresql.postgresql_sizes,
            "program_sections": supervisor.program_sections,
            "python_literal": celery.python_literal,
            "rabbitmq_erlang_address": rabbitmq.rabbitmq_erlang_address,
            "rabbitmq_settings": rabbitmq.rabbitmq_settings,
            "rabbitmq_share": rabbitmq.rabbitmq_share,
            "rabbitmq_wal_max_size_bytes": rabbitmq.rabbitmq_wal_max_size_bytes,
            "release_wanted": rollout.release_wanted,
            "renewal_due": rotation.renews,
            "restart_batches": rollout.restart_batches,
            "secret_beside": rotation.beside,
            "secret_in_use": rotation.secret_of,
            "services_declared": services.declared,
            "services_played": services.played,
            "settings_contents": celery.settings_contents,
            "settings_files": celery.settings_files,
            "ssh_problems": host.ssh_problems,
            "time_servers": host.time_servers,
            "waiting_hosts": rollout.waiting_hosts,
            "worker_programs": supervisor.worker_programs,
        }
