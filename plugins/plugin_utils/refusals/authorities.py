"""Authorities that cannot issue what the fleet needs, and changes of authority that would part the fleet in two."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ansible.module_utils.parsing.convert_bool import boolean

from ..fleet.model import Fleet, Host
from ..trust.pki import Authority, PkiError, authority_of, certificate_of, days_left, fingerprint, root_of

SECRETS = "Run `make secrets` for this inventory."


def held_by(host: Host) -> dict[str, dict[str, Any]]:
    held = host.inputs.get("pki_authorities")
    return {str(name): one for name, one in held.items() if isinstance(one, dict)} if isinstance(held, dict) else {}


def trusted_by(host: Host) -> list[str]:
    named = host.inputs.get("pki_authorities_trusted")
    return [str(name) for name in named] if isinstance(named, list) else []


def issuing(host: Host) -> Authority | None:
    one = held_by(host).get(str(host.inputs.get("pki_authority")), {})
    try:
        return authority_of(str(one["certificate"]), str(one["key"]))
    except (KeyError, PkiError):
        return None


def authorities_unfit(fleet: Fleet) -> Iterator[str]:
    now = datetime.now(UTC)
    for host in fleet.with_role("pki"):
        held, name, trusted = held_by(host), host.inputs.get("pki_authority"), trusted_by(host)
        if "pki_authorities" not in host.inputs or not isinstance(name, str):
            continue  # the contract says so
        for one in dict.fromkeys([name, *trusted]):
            if one not in held:
                yield f"The vault holds no authority '{one}', which pki_authority or pki_authorities_trusted names. {SECRETS}"
        if name not in trusted:
            yield (
                f"{host.name}: pki_authority is '{name}', and pki_authorities_trusted is {', '.join(trusted) or 'empty'}: nobody "
                f"would believe what it issues. Add '{name}' to pki_authorities_trusted."
            )
        yield from certificates_unfit(held, trusted, now)
        yield from authority_unfit(host, name, held.get(name), now)


def certificates_unfit(held: dict[str, dict[str, Any]], trusted: list[str], now: datetime) -> Iterator[str]:
    for name in (name for name in trusted if name in held):
        try:
            certificate = root_of(str(held[name].get("certificate")))
        except PkiError as error:
            yield f"The authority '{name}' of pki_authorities {error}. Take it out of vault.yml (ansible-vault edit). {SECRETS}"
            continue
        if (left := days_left(certificate, now)) <= 0:
            yield (
                f"The authority '{name}' ran out {-left:.0f} days ago. Take it out of pki_authorities_trusted, and change to "
                f"another one with -e pki_authority_lost=true (docs/tls.md)."
            )


def authority_unfit(host: Host, name: str, one: dict[str, Any] | None, now: datetime) -> Iterator[str]:
    if one is None:
        return
    try:
        authority_of(str(one.get("certificate")), str(one.get("key")))
    except PkiError as error:
        yield (
            f"The authority '{name}' of pki_authorities {error}. Change to another one (docs/tls.md), or take its entry out of "
            f"vault.yml (ansible-vault edit) and let `make secrets` make one."
        )
        return
    days, renew = host.number("pki_days"), host.number("pki_renew_days")
    if days is not None and renew is not None and renew >= days:
        yield (
            f"{host.name}: pki_renew_days is {renew}, and pki_days is {days}: every run would replace every certificate. "
            f"Set pki_renew_days below {days}."
        )


def authorities_ending(fleet: Fleet) -> Iterator[str]:
    """What is to be done before an authority ends; nothing stops until then."""
    now = datetime.now(UTC)
    for host in fleet.with_role("pki"):
        days, authority = host.number("pki_days"), issuing(host)
        if days is not None and authority and 0 < (left := days_left(authority.certificate, now)) < days:
            yield (
                f"The authority '{host.inputs['pki_authority']}' runs out in {left:.0f} days, and every certificate with it, "
                f"instead of after {days} (pki_days). Change to another one: make rotate SECRET=pki_authority (docs/tls.md)."
            )


def fleet_parted(fleet: Fleet) -> Iterator[str]:
    """Two of the three steps of a change at once: hosts that are done and hosts that are not would refuse each other."""
    for host in fleet.with_role("pki"):
        seen = host.measured.get("pki") or {}
        if boolean(host.inputs.get("pki_authority_lost") or False, strict=False) or (authority := issuing(host)) is None:
            continue
        held, trusted = held_by(host), trusted_by(host)
        kept = set()
        for name in (name for name in trusted if name in held):
            try:
                kept.add(fingerprint(certificate_of(str(held[name].get("certificate")))))
            except PkiError:
                return  # said above
        way = "An authority changes in three runs (docs/tls.md); if the last one is lost, with -e pki_authority_lost=true in one."
        if seen.get("trusted") and authority.fingerprint not in seen["trusted"]:
            yield (
                f"{host.name} does not believe the authority '{host.inputs['pki_authority']}' yet, which is to issue the others' "
                f"certificates (pki_authority). Let the last one issue for one run more, with both in pki_authorities_trusted. "
                f"{way}"
            )
        elif set(seen.get("issuers") or []) - kept:
            yield (
                f"{host.name} still shows a certificate of an authority that pki_authorities_trusted leaves out: the others "
                f"would refuse it before it has a new one. Keep both there for one run more. {way}"
            )
