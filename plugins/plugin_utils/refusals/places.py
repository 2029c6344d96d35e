"""Places where data would rest or pass against the declaration, or that nobody declared properly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ..fleet.model import Fleet, Host
from ..network.places import COUNTRY, declared, faults, place_of, unread_country


def allowed(host: Host) -> list[str]:
    given = host.inputs.get("topology_countries_allowed")
    return given if isinstance(given, list) else []


def countries_unread(fleet: Fleet) -> Iterator[str]:
    """A host without a country, and countries that are none."""
    for host in fleet.hosts.values():
        for country in allowed(host):
            if why := unread_country(country):
                yield f"{host.name}: topology_countries_allowed holds a country that is {why}."
        # A host outside the topology's own inputs (a part of the fleet in a test) says nothing of places at all.
        if "topology_countries_allowed" in host.inputs and (why := unread_country(host.inputs.get("topology_country"))):
            yield f"{host.name}: topology_country is {why}."


def hosts_abroad(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        country = host.inputs.get("topology_country")
        if isinstance(country, str) and COUNTRY.fullmatch(country) and country not in allowed(host):
            yield (
                f"{host.name} stands in {country}, and topology_countries_allowed is {listed(allowed(host))}: its data would "
                f"rest there. Take {host.name} out of the inventory, or decide that {country} may hold the data and add it there."
            )


def places_unsound(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        entries = declared(host)
        names = Counter(str(entry.get("name")) for entry in entries if isinstance(entry, dict))
        for name in (name for name, times in names.items() if times > 1):
            yield f"topology_places names '{name}' {names[name]} times. Give each place a name of its own."
        for entry in entries:
            wrong = faults(entry, fleet.hosts)
            yield from (f"topology_places: {called(entry)} {fault}." for fault in wrong)
            if isinstance(entry, dict) and (why := unread_country(entry.get("country"))):
                yield f"topology_places: the country of {called(entry)} is {why}."
            elif not wrong:
                yield from abroad(entry, host)
            for role in (entry.get("roles") or []) if isinstance(entry, dict) and isinstance(entry.get("roles"), list) else []:
                if role not in fleet.roles:
                    yield f"topology_places: {called(entry)} is for the role '{role}', which no group carries. Correct its roles."


def abroad(entry: dict[str, Any], host: Host) -> Iterator[str]:
    """A place in a country that is not allowed; one with a reason is excepted where only public data passes."""
    place = place_of(entry)
    if place.country in allowed(host):
        return
    where = (
        f"topology_places: {called(entry)} ({place.kind}) stands in {place.country}, and topology_countries_allowed is "
        f"{listed(allowed(host))}"
    )
    if not place.public:
        yield f"{where}: data of the fleet passes there, so that a reason excepts nothing. Use one in an allowed country."
    elif not place.reason.strip():
        yield f"{where}. Use one in an allowed country, or give a reason, which stays in every residency report."


def called(entry: Any) -> str:
    return f"'{entry['name']}'" if isinstance(entry, dict) and entry.get("name") else "a place"


def listed(countries: list[str]) -> str:
    return ", ".join(map(str, countries)) or "empty"
