"""Why a fleet cannot work. Each rule yields sentences that name the value, the limit and what to edit."""

from __future__ import annotations

from functools import partial

from ..capacity.room import does_not_fit
from ..capacity.timers import timers_out_of_order
from ..fleet.model import Fleet
from . import (
    applications,
    authorities,
    backups,
    connections,
    etcd,
    firewall,
    groups,
    machines,
    other_firewalls,
    outside,
    ports,
    programs,
    scaling,
    sites,
    versions,
)


def refusals(fleet: Fleet, supported: dict[str, list[str]], apart: list[list[str]]) -> list[str]:
    """Every sentence against the fleet, without repetition; an empty list when it can work."""
    rules = (
        machines.unreachable,
        versions.older_than_hosts,
        groups.empty_groups,
        partial(machines.unsupported_systems, supported=supported),
        partial(machines.shared_machines, apart=apart),
        machines.duplicate_machines,
        machines.public_addresses,
        machines.wrong_clocks,
        machines.full_disks,
        machines.descriptors_too_few,
        machines.invalid_kernel_settings,
        applications.invalid_application_names,
        applications.incomplete_applications,
        applications.missing_accounts,
        groups.programs_without_supervisor,
        applications.scattered_brokers,
        applications.duplicate_beats,
        scaling.unworkable_drains,
        scaling.unreadable_batches,
        does_not_fit,
        connections.unreachable_brokers,
        connections.unreachable_databases,
        connections.unreachable_servers,
        connections.unused_databases,
        ports.duplicate_ports,
        ports.occupied_ports,
        ports.privileged_ports,
        ports.postgresql_open_to_all,
        ports.malformed_addresses,
        ports.distribution_over_ipv6,
        authorities.unusable_authorities,
        authorities.split_authority,
        sites.unreadable_countries,
        sites.hosts_abroad,
        sites.unsound_sites,
        timers_out_of_order,
        programs.duplicate_programs,
        programs.overriding_arguments,
        programs.shared_logs,
        programs.unconsumed_queues,
        applications.invalid_environment_names,
        programs.malformed_programs,
        applications.unexplained_waivers,
        applications.broken_promises,
        firewall.locked_out,
        firewall.closed_jump_hosts,
        firewall.ssh_open_to_all,
        outside.undeclared_servers,
        other_firewalls.other_firewalls,
        other_firewalls.unexplained_firewall_waivers,
        firewall.malformed_flows,
        backups.unpaired_backups,
        backups.repositories_beside_databases,
        backups.unarchived_databases,
        backups.queues_beyond_the_disk,
        etcd.split_clusters,
        etcd.unequal_members,
        etcd.members_elsewhere,
    )
    return list(dict.fromkeys(sentence for rule in rules for sentence in rule(fleet)))
