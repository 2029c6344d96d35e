"""How a secret changes while everybody uses it: two are valid at once until nobody needs the first.

A service knows one password a login, so each application has two logins that take turns. A secret in the vault is text until it
is first changed, then a mapping: the ``secret`` that is in use, its ``login``, and during a change the other one under the name
of the phase that the change is in. The vault alone says how far a change has come, so that a run which was cut off is taken up
by the next one:

  settled   one secret.
  next      Services accept both; programs still use the first. Next: hand the programs over.
  former    Services accept both; programs use the second. Next: take the first from the services.
  retired   Services accept only the second; the first is kept to ask each service that it is refused. Next: forget it.

A run brings the fleet to what the vault says, and the vault moves on only after that run came to its end on every host. Whatever
a program uses between two phases, the services of both accept.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping
from typing import Any

BYTES = 32  # 256 bits, as `make secrets` makes them

SETTLED, NEXT, FORMER, RETIRED = "settled", "next", "former", "retired"
PHASES = (SETTLED, NEXT, FORMER, RETIRED)
# Beside the secret in use, a service accepts the other one in these.
BOTH = (NEXT, FORMER)

# The second login of an application; it takes turns with the one of the application's own name.
SECOND = "_b"

# What a variable of the vault holds: passwords of logins that take turns; values of which two may be valid; one value that is
# exchanged in one place, in one step; or the name of an authority, of which a fleet may trust two.
LOGINS, VALUES, ONE, AUTHORITY = "logins", "values", "one", "authority"
AUTHORITIES = "vault_pki_authorities"
RENEWAL = "vault_pki_renewal"
KINDS = {
    "vault_rabbitmq_user_passwords": LOGINS,
    "vault_postgresql_role_passwords": LOGINS,
    "vault_application_tokens": VALUES,
    "vault_rabbitmq_erlang_cookie": ONE,
    "vault_pki_authority": AUTHORITY,
    # No secret of the vault's: keys are made on the hosts. It marks a renewal of all of them that is under way.
    RENEWAL: ONE,
}
# What a fleet with an authority has before either was ever changed.
AT_FIRST = {"vault_pki_authority": "first", RENEWAL: "never"}

Entry = Any  # text, or the mapping
Vault = dict[str, Any]


class RotationRefused(Exception):
    """A sentence for a person."""


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
    """What is not in use: the one that comes, or the one that goes."""
    phase = phase_of(entry)
    return None if phase == SETTLED else entry[phase]


def accepted(entry: Entry, name: str) -> dict[str, str]:
    """Login to secret, of everything that a service must let in now; the one in use first."""
    found = {login_of(entry, name): secret_of(entry)}
    other = other_of(entry)
    if other is not None and phase_of(entry) in BOTH:
        found.setdefault(other.get("login", name), other["secret"])
    return found


def beside(entry: Entry) -> str:
    """Of values without a login: the one that is valid beside the one in use; empty for none."""
    other = other_of(entry)
    return other["secret"] if other is not None and phase_of(entry) in BOTH else ""


def retired(entry: Entry, name: str) -> dict[str, str]:
    """Login to secret, of what every service must refuse now."""
    other = other_of(entry)
    return {other.get("login", name): other["secret"]} if other is not None and phase_of(entry) == RETIRED else {}


def leaving(entry: Entry, name: str) -> dict[str, str]:
    """Login to secret, of what nobody may use any more before it is taken away."""
    other = other_of(entry)
    return {other.get("login", name): other["secret"]} if other is not None and phase_of(entry) == FORMER else {}


def other_authority(name: str) -> str:
    return "second" if name == "first" else "first"


def trusted(entry: Entry) -> list[str]:
    """The authorities whose certificates are believed now, the one that issues first."""
    return [name for name in (secret_of(entry), beside(entry)) if name]


def renews(entry: Entry) -> bool:
    """Whether a run makes every key and certificate anew."""
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
    """Settled: text again where the login is the application's own name, or where there is none."""
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
    """Name of a secret, as a person says it: (variable, name within it, entry), of all that can be changed."""
    found = {}
    for variable, kind in KINDS.items():
        held = vault.get(variable, AT_FIRST.get(variable) if AUTHORITIES in vault else None)
        if kind in (ONE, AUTHORITY):
            if held is not None:
                found[variable] = (variable, "", held)
        elif isinstance(held, Mapping):
            found |= {f"{variable}.{name}": (variable, name, entry) for name, entry in held.items()}
    return found


def under_way(vault: Vault) -> dict[str, str]:
    """Secret to phase, of those whose change has not come to its end."""
    return {secret: phase_of(entry) for secret, (_, _, entry) in entries(vault).items() if phase_of(entry) != SETTLED}


def phase_of_vault(vault: Vault) -> str:
    """One for all: a step moves everything that is under way in one write. The least far, should a hand have moved one alone."""
    return min(under_way(vault).values(), key=PHASES.index, default=SETTLED)


def changed(vault: Vault, secret: str, entry: Entry) -> None:
    variable, name, _ = entries(vault)[secret]
    if KINDS[variable] in (ONE, AUTHORITY):
        vault[variable] = entry
    else:
        vault[variable] = dict(vault[variable]) | {name: entry}


def chosen(vault: Vault, applications: Iterable[str], names: Iterable[str], application: str) -> list[str]:
    """The secrets that a person asked for; all of them without a word."""
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
        # A variable means all that it holds.
        spelt = (name, f"vault_{name}")
        matches = [secret for secret in known if secret in spelt or secret.partition(".")[0] in spelt]
        if not matches:
            raise RotationRefused(
                f"There is no secret '{name}' that can be changed at work. There are: {', '.join(known)}, and each variable "
                "before the dot alone, for all that it holds. Any other secret is its owner's to change: ansible-vault edit."
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
    """The vault with the change begun, or, where one is under way, as it is; and the secrets of the change.

    fresh, authority: make a secret, and the key and certificate of a new authority.
    """
    applications, names = list(applications), list(names)
    wanted = chosen(vault, applications, names, application)
    going_on = under_way(vault)
    if going_on:
        asked = bool(names or application)
        if asked and set(wanted) != set(going_on):
            raise RotationRefused(
                f"The change of {', '.join(going_on)} is still under way (phase '{phase_of_vault(vault)}'). "
                "Finish it first: run `make rotate` without a name, then run this again."
            )
        return vault, list(going_on)
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
    """The vault with everything that is in ``phase`` moved on to the one after it; the rest stays."""
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
    """Whether programs read something else in this phase than in the one before: their login in one, values in each."""
    kinds = {KINDS[secret.partition(".")[0]] for secret in under_way(vault)}
    return VALUES in kinds or (LOGINS in kinds and phase_of_vault(vault) == FORMER)


def former(held: Any, variable: str) -> list[dict[str, str]]:
    """Of a variable's secrets those that are to go, or that went: name, login and secret each."""
    return [
        {"name": name or variable, "login": login, "secret": secret}
        for _, name, entry in entries({variable: held}).values()
        for login, secret in (leaving(entry, name) | retired(entry, name)).items()
    ]
