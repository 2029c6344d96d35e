"""Rotates secrets without downtime: two are valid at the same time until the first is no longer used.

A service stores one password per login, so each application has two logins that take turns. A secret in the vault is text until
it is first changed, then a mapping: the ``secret`` in use, its ``login``, and during a change the other one under the name of
the change's phase. Only the vault records the progress, so the next run continues an interrupted one:

  settled   one secret.
  next      Services accept both; programs still use the first. Next: hand the programs over.
  former    Services accept both; programs use the second. Next: remove the first from the services.
    retired   Services accept only the second; the first is kept to check that each service refuses it. Next: forget it.

A run brings the fleet to the vault's phase, and the vault moves on only after that run has succeeded on every host. Services
accept the secret of a program in either of two adjacent phases.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

BYTES = 32  # 256 bits, as `make secrets` uses

SETTLED, NEXT, FORMER, RETIRED = "settled", "next", "former", "retired"
PHASES = (SETTLED, NEXT, FORMER, RETIRED)
# Phases in which a service accepts both secrets.
BOTH = (NEXT, FORMER)

# Suffix of an application's second login, which takes turns with the application's name.
SECOND = "_b"

# Kinds of a vault's variables: passwords of logins that take turns; values of which two may be valid; one value that is
# replaced in one step; or the name of an authority, of which a fleet may trust two.
LOGINS, VALUES, ONE, AUTHORITY = "logins", "values", "one", "authority"
AUTHORITIES = "vault_pki_authorities"
RENEWAL = "vault_pki_renewal"
KINDS = {
    "vault_rabbitmq_user_passwords": LOGINS,
    "vault_postgresql_role_passwords": LOGINS,
    "vault_application_tokens": VALUES,
    "vault_rabbitmq_erlang_cookie": ONE,
    "vault_pki_authority": AUTHORITY,
    # Not a secret: it marks a renewal of all keys, which are created on the hosts.
    RENEWAL: ONE,
}
# Values of a fleet with an authority before the first change.
AT_FIRST = {"vault_pki_authority": "first", RENEWAL: "never"}

Entry = Any  # text, or the mapping
Vault = dict[str, Any]


class RotationRefused(Exception):
    """A message for the operator."""


def phase_of(entry: Entry) -> str:
    if not isinstance(entry, Mapping):
        return SETTLED
    return next((phase for phase in (NEXT, FORMER, RETIRED) if phase in entry), SETTLED)


def secret_of(entry: Entry) -> str:
    """The secret that programs use."""
    return str(entry["secret"]) if isinstance(entry, Mapping) else entry


def login_of(entry: Entry, name: str) -> str:
    """The login that programs use: the name itself, or the second one."""
    return str(entry.get("login", name)) if isinstance(entry, Mapping) else name


def other_of(entry: Entry) -> Mapping[str, str] | None:
    """The secret that is not in use: the next or the former one."""
    phase = phase_of(entry)
    return None if phase == SETTLED else entry[phase]


def accepted(entry: Entry, name: str) -> dict[str, str]:
    """Login to secret of all that a service must accept now; the one in use first."""
    valid = {login_of(entry, name): secret_of(entry)}
    other = other_of(entry)
    if other is not None and phase_of(entry) in BOTH:
        valid.setdefault(other.get("login", name), other["secret"])
    return valid


def beside(entry: Entry) -> str:
    """Of values without a login: the one that is also valid beside the one in use; empty without one."""
    other = other_of(entry)
    return other["secret"] if other is not None and phase_of(entry) in BOTH else ""


def retired(entry: Entry, name: str) -> dict[str, str]:
    """Login to secret of all that every service must refuse now."""
    other = other_of(entry)
    return {other.get("login", name): other["secret"]} if other is not None and phase_of(entry) == RETIRED else {}


def leaving(entry: Entry, name: str) -> dict[str, str]:
    """Login to secret of all that must be unused before it is removed."""
    other = other_of(entry)
    return {other.get("login", name): other["secret"]} if other is not None and phase_of(entry) == FORMER else {}


def other_authority(name: str) -> str:
    return "second" if name == "first" else "first"


def trusted(entry: Entry) -> list[str]:
    """The authorities that are trusted now, the issuing one first."""
    return [name for name in (secret_of(entry), beside(entry)) if name]


def renews(entry: Entry) -> bool:
    """Whether a run replaces every key and certificate."""
    return phase_of(entry) == FORMER


def other_login(login: str, name: str) -> str:
    return name if login != name else name + SECOND


def begun(entry: Entry, name: str, kind: str, fresh: Callable[[], str]) -> Entry:
    """A settled entry with its next secret beside it."""
    now: dict[str, Any] = {"secret": secret_of(entry)}
    coming = {"secret": other_authority(now["secret"]) if kind == AUTHORITY else fresh()}
    if kind == LOGINS:
        now["login"] = login_of(entry, name)
        coming["login"] = other_login(now["login"], name)
    return now | {NEXT: coming}


def handed_over(entry: Mapping[str, Any]) -> Entry:
    return dict(entry[NEXT]) | {FORMER: {key: entry[key] for key in ("login", "secret") if key in entry}}


def taken_away(entry: Mapping[str, Any]) -> Entry:
    return {key: value for key, value in entry.items() if key != FORMER} | {RETIRED: entry[FORMER]}


def forgotten(entry: Mapping[str, Any], name: str) -> Entry:
    """The settled entry: text again if the login is the application's name, or if there is none."""
    if entry.get("login", name) == name:
        return entry["secret"]
    return {key: entry[key] for key in ("login", "secret")}


# How each phase is left.
LEAVE: dict[str, Callable[[Entry, str], Entry]] = {
    NEXT: lambda entry, name: handed_over(entry),
    FORMER: lambda entry, name: taken_away(entry),
    RETIRED: forgotten,
}


# --- The vault as a whole -------------------------------------------------------------------------------------------------------


def entries(vault: Vault) -> dict[str, tuple[str, str, Entry]]:
    """Name of each secret that can be changed: (variable, name within it, entry)."""
    secrets_by_name = {}
    for variable, kind in KINDS.items():
        held = vault.get(variable, AT_FIRST.get(variable) if AUTHORITIES in vault else None)
        if kind in (ONE, AUTHORITY):
            if held is not None:
                secrets_by_name[variable] = (variable, "", held)
        elif isinstance(held, Mapping):
            secrets_by_name |= {f"{variable}.{name}": (variable, name, entry) for name, entry in held.items()}
    return secrets_by_name


def under_way(vault: Vault) -> dict[str, str]:
    """Secret to phase, of unfinished changes."""
    return {secret: phase_of(entry) for secret, (_, _, entry) in entries(vault).items() if phase_of(entry) != SETTLED}


def phase_of_vault(vault: Vault) -> str:
    """The phase of all changes, which a step moves together; the earliest one if the vault was edited by hand."""
    return min(under_way(vault).values(), key=PHASES.index, default=SETTLED)


def changed(vault: Vault, secret: str, entry: Entry) -> None:
    variable, name, _ = entries(vault)[secret]
    if KINDS[variable] in (ONE, AUTHORITY):
        vault[variable] = entry
    else:
        vault[variable] = dict(vault[variable]) | {name: entry}


def chosen(vault: Vault, applications: Iterable[str], names: Iterable[str], application: str) -> list[str]:
    """The chosen secrets; all of them by default."""
    known = entries(vault)
    names = list(names)
    if application:
        if application not in set(applications):
            raise RotationRefused(
                f"There is no application '{application}'. topology_applications names {', '.join(applications) or 'none'}."
            )
        own = [secret for secret, (_, name, _) in known.items() if name == application]
        names += own
    wanted: list[str] = []
    for name in names:
        # A variable's name stands for all its secrets.
        spelt = (name, f"vault_{name}")
        matches = [secret for secret in known if secret in spelt or secret.partition(".")[0] in spelt]
        if not matches:
            raise RotationRefused(
                f"There is no secret '{name}' that can be rotated. There are: {', '.join(known)}, and each variable "
                "before the dot, for all its secrets. Change any other secret with ansible-vault edit."
            )
        wanted += matches
    return list(dict.fromkeys(wanted or known))


def begin(
    vault: Vault,
    applications: Iterable[str],
    names: Iterable[str] = (),
    application: str = "",
    fresh: Callable[[], str] = lambda: secrets.token_hex(BYTES),
    authority: Callable[[str], dict[str, str]] = lambda name: {},
) -> tuple[Vault, list[str]]:
    """The vault with the change begun, or unchanged if one is under way; and the secrets of the change.

    fresh, authority: create a secret, and the key and certificate of a new authority.
    """
    applications, names = list(applications), list(names)
    wanted = chosen(vault, applications, names, application)
    current = under_way(vault)
    if current:
        asked = bool(names or application)
        if asked and set(wanted) != set(current):
            raise RotationRefused(
                f"The change of {', '.join(current)} is still under way (phase '{phase_of_vault(vault)}'). "
                "Finish it first: run `make rotate` without a name, then run this again."
            )
        return vault, list(current)
    vault = dict(vault)
    for secret in wanted:
        variable, name, entry = entries(vault)[secret]
        if KINDS[variable] == LOGINS and name + SECOND in vault[variable]:
            raise RotationRefused(
                f"'{name + SECOND}' in {variable} has the name of the second login of '{name}'. Rename that application first."
            )
        changed(vault, secret, begun(entry, name, KINDS[variable], fresh))
        if KINDS[variable] == AUTHORITY:
            coming = other_authority(secret_of(entry))
            vault[AUTHORITIES] = dict(vault[AUTHORITIES]) | {coming: authority(coming)}
    return vault, wanted


def advance(vault: Vault, phase: str) -> Vault:
    """The vault with every change that is in ``phase`` moved on to the next one."""
    vault = dict(vault)
    for secret, at in under_way(vault).items():
        if at == phase:
            variable, name, entry = entries(vault)[secret]
            changed(vault, secret, LEAVE[phase](entry, name))
            if KINDS[variable] == AUTHORITY and phase == RETIRED:
                gone = entry[RETIRED]["secret"]
                vault[AUTHORITIES] = {name: held for name, held in vault[AUTHORITIES].items() if name != gone}
    return vault


def programs_follow(vault: Vault) -> bool:
    """Whether programs use other secrets in this phase than in the previous one: logins in one phase, values in each."""
    kinds = {KINDS[secret.partition(".")[0]] for secret in under_way(vault)}
    return VALUES in kinds or (LOGINS in kinds and phase_of_vault(vault) == FORMER)


def former(held: Any, variable: str) -> list[dict[str, str]]:
    """A variable's former and retired secrets: name, login and secret each."""
    return [
        {"name": name or variable, "login": login, "secret": secret}
        for _, name, entry in entries({variable: held}).values()
        for login, secret in (leaving(entry, name) | retired(entry, name)).items()
    ]
