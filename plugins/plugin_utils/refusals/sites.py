"""Sites where data would be stored or pass against the declaration, and malformed declarations of sites."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from ..fleet.model import Fleet, Host
from ..network.sites import COUNTRY, country_fault, declared, faults, site_of


def allowed(host: Host) -> list[str]:
    given = host.inputs.get("topology_countries_allowed")
    return given if isinstance(given, list) else []


def unreadable_countries(fleet: Fleet) -> Iterator[str]:
    """Hosts without a country, and countries that do not exist."""
    for host in fleet.hosts.values():
        for country in allowed(host):
            if why := country_fault(country):
                yield f"{host.name}: topology_countries_allowed holds a country that is {why}."
        # A test's host may lack the inputs of topology.
        if "topology_countries_allowed" in host.inputs and (why := country_fault(host.inputs.get("topology_country"))):
            yield f"{host.name}: topology_country is {why}."


def hosts_abroad(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        country = host.inputs.get("topology_country")
        if isinstance(country, str) and COUNTRY.fullmatch(country) and country not in allowed(host):
            yield (
                f"{host.name} is in {country}, but topology_countries_allowed is {listed(allowed(host))}: its data would be "
                f"stored there. Take {host.name} out of the inventory, or decide that {country} may hold the data and add it "
                f"there."
            )


def unsound_sites(fleet: Fleet) -> Iterator[str]:
    for host in fleet.hosts.values():
        entries = declared(host)
        names = Counter(str(entry.get("name")) for entry in entries if isinstance(entry, dict))
        for name in (name for name, times in names.items() if times > 1):
            yield f"topology_sites names '{name}' {names[name]} times. Give each site a different name."
        for entry in entries:
            problems = faults(entry, fleet.hosts)
            yield from (f"topology_sites: {called(entry)} {problem}." for problem in problems)
            if isinstance(entry, dict) and (why := country_fault(entry.get("country"))):
                yield f"topology_sites: the country of {called(entry)} is {why}."
            elif not problems:
                yield from abroad(entry, host)
            for role in (entry.get("roles") or []) if isinstance(entry, dict) and isinstance(entry.get("roles"), list) else []:
                if role not in fleet.roles:
                    yield f"topology_sites: {called(entry)} is for the role '{role}', which no group has. Correct its roles."


def abroad(entry: dict[str, Any], host: Host) -> Iterator[str]:
    """A site in a country that is not allowed. A reason excepts one where only public data passes."""
    site = site_of(entry)
    if site.country in allowed(host):
        return
    where = (
        f"topology_sites: {called(entry)} ({site.kind}) is in {site.country}, but topology_countries_allowed is "
        f"{listed(allowed(host))}"
    )
    if not site.public:
        yield f"{where}: data of the fleet passes there, which no reason can except. Use one in an allowed country."
    elif not site.reason.strip():
        yield f"{where}. Use one in an allowed country, or give a reason, which every residency report shows."


def called(entry: Any) -> str:
    return f"'{entry['name']}'" if isinstance(entry, dict) and entry.get("name") else "a site"


def listed(countries: list[str]) -> str:
    return ", ".join(map(str, countries)) or "empty"
