"""Authorities that cannot issue what the fleet needs, and changes of authority that would split the fleet."""

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
    return {str(name): entry for name, entry in held.items() if isinstance(entry, dict)} if isinstance(held, dict) else {}


def trusted_by(host: Host) -> list[str]:
    named = host.inputs.get("pki_authorities_trusted")
    return [str(name) for name in named] if isinstance(named, list) else []


def issuing(host: Host) -> Authority | None:
    entry = held_by(host).get(str(host.inputs.get("pki_authority")), {})
    try:
        return authority_of(str(entry["certificate"]), str(entry["key"]))
    except (KeyError, PkiError):
        return None


def unusable_authorities(fleet: Fleet) -> Iterator[str]:
    now = datetime.now(UTC)
    for host in fleet.with_role("pki"):
        held, name, trusted = held_by(host), host.inputs.get("pki_authority"), trusted_by(host)
        if "pki_authorities" not in host.inputs or not isinstance(name, str):
            continue  # the contract refuses that
        for missing in dict.fromkeys(authority for authority in (name, *trusted) if authority not in held):
            yield f"The vault holds no authority '{missing}', which pki_authority or pki_authorities_trusted names. {SECRETS}"
        if name not in trusted:
            yield (
                f"{host.name}: pki_authority is '{name}', but pki_authorities_trusted is {', '.join(trusted) or 'empty'}: nobody "
                f"would trust its certificates. Add '{name}' to pki_authorities_trusted."
            )
        yield from unusable_certificates(held, trusted, now)
        yield from unusable_authority(host, name, held.get(name))


def unusable_certificates(held: dict[str, dict[str, Any]], trusted: list[str], now: datetime) -> Iterator[str]:
    for name in (name for name in trusted if name in held):
        try:
            certificate = root_of(str(held[name].get("certificate")))
        except PkiError as error:
            yield f"The authority '{name}' of pki_authorities {error}. Take it out of vault.yml (ansible-vault edit). {SECRETS}"
            continue
        if (left := days_left(certificate, now)) <= 0:
            yield (
                f"The authority '{name}' expired {-left:.0f} days ago. Take it out of pki_authorities_trusted, and change to "
                f"another one with -e pki_authority_lost=true (docs/tls.md)."
            )


def unusable_authority(host: Host, name: str, entry: dict[str, Any] | None) -> Iterator[str]:
    if entry is None:
        return
    try:
        authority_of(str(entry.get("certificate")), str(entry.get("key")))
    except PkiError as error:
        yield (
            f"The authority '{name}' of pki_authorities {error}. Change to another one (docs/tls.md), or take its entry out of "
            f"vault.yml (ansible-vault edit) and let `make secrets` create one."
        )
        return
    days, renew = host.number("pki_days"), host.number("pki_renew_days")
    if days is not None and renew is not None and renew >= days:
        yield (
            f"{host.name}: pki_renew_days is {renew}, but pki_days is {days}: every run would replace every certificate. "
            f"Set pki_renew_days below {days}."
        )


def expiring_authorities(fleet: Fleet) -> Iterator[str]:
    """What to do before an authority expires; everything works until then."""
    now = datetime.now(UTC)
    for host in fleet.with_role("pki"):
        days, authority = host.number("pki_days"), issuing(host)
        if days is not None and authority and 0 < (left := days_left(authority.certificate, now)) < days:
            yield (
                f"The authority '{host.inputs['pki_authority']}' expires in {left:.0f} days, and every certificate with it, "
                f"instead of after {days} (pki_days). Change to another one: make rotate SECRET=pki_authority (docs/tls.md)."
            )


def split_authority(fleet: Fleet) -> Iterator[str]:
    """Two of the three steps of a change at once: updated hosts and the others would refuse each other."""
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
                return  # unusable_certificates names it
        steps = "A change takes three runs (docs/tls.md), or one if the old authority is lost: -e pki_authority_lost=true."
        if seen.get("trusted") and authority.fingerprint not in seen["trusted"]:
            yield (
                f"{host.name} does not trust the authority '{host.inputs['pki_authority']}' (pki_authority) yet, and would "
                f"refuse the other hosts' new certificates. Let the old authority issue for one more run, with both in "
                f"pki_authorities_trusted. {steps}"
            )
        elif set(seen.get("issuers") or []) - kept:
            yield (
                f"{host.name} still has a certificate of an authority that is not in pki_authorities_trusted: the other hosts "
                f"would refuse it before it has a new one. Keep both there for one more run. {steps}"
            )
