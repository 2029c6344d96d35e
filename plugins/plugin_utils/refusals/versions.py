"""An older version of the kit on a host that a newer one has set up."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible.utils.version import SemanticVersion

from ..fleet.model import Fleet, Host, names_of


def semantic(text: Any) -> SemanticVersion | None:
    """The version; None where the text is not one (nothing was recorded, or the record was edited)."""
    try:
        return SemanticVersion(text) if text and isinstance(text, str) else None
    except ValueError:
        return None


def older_than_hosts(fleet: Fleet) -> Iterator[str]:
    own = semantic(fleet.version)
    newer: dict[str, list[Host]] = {}
    for host in fleet.hosts.values():
        named = host.inputs.get("topology_downgrade_from") or ""
        allowed, recorded = semantic(named), semantic(host.measured.get("version"))
        if named and allowed is None:
            yield f"topology_downgrade_from is {named!r}, which is not a version such as 1.2.3. Correct it, or leave it out."
        elif own and recorded and own < recorded and not (allowed and recorded <= allowed):
            newer.setdefault(str(host.measured["version"]), []).append(host)
    for version, hosts in newer.items():
        yield (
            f"{names_of(hosts)} {'were' if len(hosts) > 1 else 'was'} last set up by Grunnfjell {version}, and this is "
            f"{fleet.version}: an older version can undo or misread what a newer one set up. Run {version} or newer, or accept "
            f"that risk for one run: -e topology_downgrade_from={version}."
        )
