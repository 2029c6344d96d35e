"""Why a fleet cannot work. Each rule yields sentences that name the value, the limit and what to edit."""

from __future__ import annotations

from ..capacity.room import does_not_fit
from ..capacity.timers import timers_out_of_order
from ..fleet.model import Fleet
from .applications import (
    accounts_missing,
    applications_incomplete,
    applications_named,
    brokers_scattered,
    environment_names,
    promises_broken,
    second_beat,
    waivers_without_reason,
)
from .authorities import authorities_unfit, fleet_parted
from .connections import (
    brokers_that_nobody_answers,
    databases_that_nobody_answers,
    databases_that_nobody_uses,
    servers_that_nobody_answers,
)
from .firewall import doors_too_wide, jump_hosts_shut, locked_out, ways_malformed
from .groups import empty_groups, programs_without_supervisor
from .machines import (
    addresses_for_others,
    clocks_off,
    descriptors_too_few,
    disks_too_small,
    kept_apart,
    kernel_settings,
    one_machine_twice,
    unreachable,
    unsupported_systems,
)
from .other_firewalls import firewall_waivers_unsound, other_firewalls
from .outside import undeclared_servers
from .places import countries_unread, hosts_abroad, places_unsound
from .ports import listening_to_everybody, places_malformed, ports_reserved, ports_taken, ports_twice, without_ipv6
from .programs import arguments_overruling, logs_shared, programs_malformed, programs_twice, queues_unconsumed
from .scaling import unreadable_batches, unworkable_drains
from .versions import older_than_hosts


def refusals(fleet: Fleet, supported: dict[str, list[str]], apart: list[list[str]]) -> list[str]:
    """Every sentence that stands against the fleet, without repetition; an empty list when it can work."""
    rules = (
        unreachable(fleet),
        older_than_hosts(fleet),
        empty_groups(fleet),
        unsupported_systems(fleet, supported),
        kept_apart(fleet, apart),
        one_machine_twice(fleet),
        addresses_for_others(fleet),
        clocks_off(fleet),
        disks_too_small(fleet),
        descriptors_too_few(fleet),
        kernel_settings(fleet),
        applications_named(fleet),
        applications_incomplete(fleet),
        accounts_missing(fleet),
        programs_without_supervisor(fleet),
        brokers_scattered(fleet),
        second_beat(fleet),
        unworkable_drains(fleet),
        unreadable_batches(fleet),
        does_not_fit(fleet),
        brokers_that_nobody_answers(fleet),
        databases_that_nobody_answers(fleet),
        servers_that_nobody_answers(fleet),
        databases_that_nobody_uses(fleet),
        ports_twice(fleet),
        ports_taken(fleet),
        ports_reserved(fleet),
        listening_to_everybody(fleet),
        places_malformed(fleet),
        without_ipv6(fleet),
        authorities_unfit(fleet),
        fleet_parted(fleet),
        countries_unread(fleet),
        hosts_abroad(fleet),
        places_unsound(fleet),
        timers_out_of_order(fleet),
        programs_twice(fleet),
        arguments_overruling(fleet),
        logs_shared(fleet),
        queues_unconsumed(fleet),
        environment_names(fleet),
        programs_malformed(fleet),
        waivers_without_reason(fleet),
        promises_broken(fleet),
        locked_out(fleet),
        jump_hosts_shut(fleet),
        doors_too_wide(fleet),
        undeclared_servers(fleet),
        other_firewalls(fleet),
        firewall_waivers_unsound(fleet),
        ways_malformed(fleet),
    )
    return list(dict.fromkeys(sentence for rule in rules for sentence in rule))
