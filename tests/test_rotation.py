"""A secret changes without a moment at which a program has one that its service refuses.

The model is a fleet that is always in the midst of something: a run may have reached any of its services and programs when the
next look is taken, it may be cut off anywhere, and the next run finds nothing but the vault.
"""

from __future__ import annotations

import itertools

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust import logins as applications
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust import rotation
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust.logins import login_secrets
from hypothesis import given
from hypothesis import strategies as st

BROKER, DATABASE = "vault_rabbitmq_user_passwords", "vault_postgresql_role_passwords"
TOKENS, COOKIE = "vault_application_tokens", "vault_rabbitmq_erlang_cookie"
APPLICATIONS = ["shop", "mail"]
MAPPINGS = (BROKER, DATABASE, TOKENS)
STEPS = (rotation.NEXT, rotation.FORMER, rotation.RETIRED)


def fresh_vault() -> rotation.Vault:
    return {
        BROKER: {"shop": "b-shop", "mail": "b-mail"},
        DATABASE: {"shop": "d-shop", "mail": "d-mail", "pgbouncer": "d-pgbouncer"},
        TOKENS: {"shop": "t-shop", "mail": "t-mail"},
        COOKIE: "cookie",
        "vault_mail_password": "somebody else's",
    }


def counter():
    numbers = itertools.count(1)
    return lambda: f"fresh-{next(numbers)}"


def in_use(vault: rotation.Vault) -> dict[tuple[str, str], tuple[str, str]]:
    """Of each mapping's name the login and the secret that programs use."""
    return {
        (variable, name): (rotation.login_of(entry, name), rotation.secret_of(entry))
        for variable in MAPPINGS
        for name, entry in vault[variable].items()
    }


def accepted(vault: rotation.Vault) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """Of each mapping's name what its service lets in; a value without logins counts with the name as its login."""
    found = {}
    for variable in MAPPINGS:
        for name, entry in vault[variable].items():
            of_values = {(name, rotation.secret_of(entry)), (name, rotation.beside(entry))}
            found[variable, name] = of_values if variable == TOKENS else set(rotation.accepted(entry, name).items())
    return found


def changes() -> st.SearchStrategy[list[tuple[str, str]]]:
    """Which secrets are asked for, several times over: (name, application)."""
    names = st.sampled_from(["", *rotation.entries(fresh_vault()), BROKER, DATABASE, TOKENS])
    return st.lists(st.tuples(names, st.sampled_from(["", "", "shop"])), min_size=1, max_size=4)


@given(changes(), st.data())
def test_at_every_boundary_whatever_a_program_uses_is_let_in_everywhere(asked, data) -> None:
    """Also when a run is cut off after any step, with services and programs left between two phases."""
    vault = fresh_vault()
    make = counter()
    for name, application in asked:
        vault, _ = rotation.begin(vault, APPLICATIONS, [name] if name else [], application, make)
        states = [fresh_vault() if vault is None else vault]
        for phase in STEPS:
            for _ in range(data.draw(st.integers(0, 2), label="runs that were cut off here")):
                resumed, going_on = rotation.begin(vault, APPLICATIONS, fresh=make)
                assert resumed == vault and set(going_on) == set(rotation.under_way(vault))
            vault = rotation.advance(vault, phase)
            states.append(vault)
        for before, after in itertools.pairwise(states):
            # A program still has what the vault said before, a service already what it says now; or the other way round.
            for use, let_in in itertools.product((before, after), (before, after)):
                if use is after and let_in is before and rotation.phase_of_vault(before) == rotation.SETTLED:
                    continue
                for key, pair in in_use(use).items():
                    assert pair in accepted(let_in)[key], (key, rotation.phase_of_vault(before))
        assert rotation.under_way(vault) == {}


@given(changes())
def test_everything_that_was_asked_for_is_another_in_the_end_and_nothing_else(asked) -> None:
    make = counter()
    vault = fresh_vault()
    for name, application in asked:
        before = vault
        vault, wanted = rotation.begin(vault, APPLICATIONS, [name] if name else [], application, make)
        for phase in STEPS:
            vault = rotation.advance(vault, phase)
        for secret, (_, _, entry) in rotation.entries(vault).items():
            old = rotation.entries(before)[secret][2]
            assert (rotation.secret_of(entry) != rotation.secret_of(old)) == (secret in wanted)
        assert vault["vault_mail_password"] == before["vault_mail_password"]


def test_the_two_logins_take_turns_and_the_first_one_is_plain_text_again() -> None:
    vault, _ = rotation.begin(fresh_vault(), APPLICATIONS, [f"{BROKER}.shop"], fresh=counter())
    for phase in STEPS:
        vault = rotation.advance(vault, phase)
    assert vault[BROKER]["shop"] == {"login": "shop_b", "secret": "fresh-1"}
    vault, _ = rotation.begin(vault, APPLICATIONS, [f"{BROKER}.shop"], fresh=lambda: "second")
    assert login_secrets(vault[BROKER]) == {"shop_b": "fresh-1", "shop": "second", "mail": "b-mail"}
    for phase in STEPS:
        vault = rotation.advance(vault, phase)
    assert vault[BROKER]["shop"] == "second"


def test_a_step_that_is_not_due_moves_nothing() -> None:
    vault, _ = rotation.begin(fresh_vault(), APPLICATIONS, fresh=counter())
    assert rotation.advance(vault, rotation.FORMER) == vault
    assert rotation.advance(vault, rotation.RETIRED) == vault
    assert rotation.phase_of_vault(rotation.advance(vault, rotation.NEXT)) == rotation.FORMER


def test_what_is_taken_away_is_known_until_it_was_seen_refused() -> None:
    vault, _ = rotation.begin(fresh_vault(), APPLICATIONS, [BROKER], fresh=counter())
    assert rotation.former(vault[BROKER], BROKER) == []
    vault = rotation.advance(vault, rotation.NEXT)
    leaving = rotation.former(vault[BROKER], BROKER)
    assert leaving == [{"name": name, "login": name, "secret": f"b-{name}"} for name in ("shop", "mail")]
    vault = rotation.advance(vault, rotation.FORMER)
    assert rotation.former(vault[BROKER], BROKER) == leaving
    assert login_secrets(vault[BROKER]) == {"shop_b": "fresh-1", "mail_b": "fresh-2"}
    assert rotation.former(rotation.advance(vault, rotation.RETIRED)[BROKER], BROKER) == []


@pytest.mark.parametrize(
    ("secret", "follow"),
    [
        (f"{BROKER}.shop", [False, True, False, False]),
        (f"{TOKENS}.shop", [True, True, True, False]),
        (COOKIE, [False, False, False, False]),
    ],
)
def test_programs_are_handed_over_only_when_they_have_something_else_to_read(secret, follow) -> None:
    vault, _ = rotation.begin(fresh_vault(), APPLICATIONS, [secret])
    seen = [rotation.programs_follow(vault)]
    for phase in STEPS:
        vault = rotation.advance(vault, phase)
        seen.append(rotation.programs_follow(vault))
    assert seen == follow


def test_the_cookie_has_no_login_and_one_value_at_a_time() -> None:
    vault, wanted = rotation.begin(fresh_vault(), APPLICATIONS, [COOKIE], fresh=lambda: "new")
    assert wanted == [COOKIE] and rotation.secret_of(vault[COOKIE]) == "cookie"
    vault = rotation.advance(vault, rotation.NEXT)
    assert rotation.secret_of(vault[COOKIE]) == "new"
    for phase in STEPS[1:]:
        vault = rotation.advance(vault, phase)
    assert vault[COOKIE] == "new"


@pytest.mark.parametrize(
    ("names", "application", "says"),
    [
        (["vault_rabbitmq_user_passwords.shopp"], "", "There is no secret 'vault_rabbitmq_user_passwords.shopp'"),
        (["vault_mail_password"], "", "There is no secret 'vault_mail_password' that can be rotated"),
        ([], "shopp", "There is no application 'shopp'. topology_applications names shop, mail."),
    ],
)
def test_what_is_not_there_is_refused(names, application, says) -> None:
    with pytest.raises(rotation.RotationRefused, match=says.replace("(", r"\(")):
        rotation.begin(fresh_vault(), APPLICATIONS, names, application)


def test_no_change_begins_beside_another_one() -> None:
    vault, _ = rotation.begin(fresh_vault(), APPLICATIONS, [f"{BROKER}.shop"], fresh=counter())
    with pytest.raises(rotation.RotationRefused, match=f"The change of {BROKER}.shop is still under way .phase 'next'."):
        rotation.begin(vault, APPLICATIONS, [COOKIE])
    assert rotation.begin(vault, APPLICATIONS, [f"{BROKER}.shop"]) == (vault, [f"{BROKER}.shop"])


def test_an_application_with_the_name_of_a_second_login_is_refused() -> None:
    vault = fresh_vault()
    vault[DATABASE]["shop_b"] = "d"
    with pytest.raises(rotation.RotationRefused, match="'shop_b' in vault_postgresql_role_passwords has the name of the second"):
        rotation.begin(vault, [*APPLICATIONS, "shop_b"])


def test_no_refusal_says_a_secret() -> None:
    vault, _ = rotation.begin(fresh_vault(), APPLICATIONS, fresh=lambda: "hidden")
    with pytest.raises(rotation.RotationRefused) as refusal:
        rotation.begin(vault, APPLICATIONS, [COOKIE])
    assert not {"hidden", "b-shop", "d-shop", "t-shop"} & set(str(refusal.value).replace("'", " ").split())


def test_an_authority_is_trusted_before_it_issues_and_until_nobody_shows_its_certificates() -> None:
    vault = fresh_vault() | {rotation.AUTHORITIES: {"first": {"key": "f"}}}
    vault, wanted = rotation.begin(vault, APPLICATIONS, ["pki_authority"], authority=lambda name: {"key": f"key of {name}"})
    assert wanted == ["vault_pki_authority"]
    assert vault[rotation.AUTHORITIES] == {"first": {"key": "f"}, "second": {"key": "key of second"}}
    seen = [rotation.trusted(vault["vault_pki_authority"])]
    for phase in STEPS:
        vault = rotation.advance(vault, phase)
        seen.append(rotation.trusted(vault["vault_pki_authority"]))
    # Each step may have come to some hosts only: whoever issues in one is trusted in the one before and in the one after.
    assert seen == [["first", "second"], ["second", "first"], ["second"], ["second"]]
    assert vault[rotation.AUTHORITIES] == {"second": {"key": "key of second"}} and vault["vault_pki_authority"] == "second"


def test_every_certificate_is_renewed_in_one_phase_alone() -> None:
    vault = fresh_vault() | {rotation.AUTHORITIES: {"first": {}}}
    vault, _ = rotation.begin(vault, APPLICATIONS, [rotation.RENEWAL])
    seen = [rotation.renews(vault[rotation.RENEWAL])]
    for phase in STEPS:
        vault = rotation.advance(vault, phase)
        seen.append(rotation.renews(vault[rotation.RENEWAL]))
    assert seen == [False, True, False, False]


def test_a_fleet_without_an_authority_has_none_to_change() -> None:
    with pytest.raises(rotation.RotationRefused, match="There is no secret 'pki_authority'"):
        rotation.begin(fresh_vault(), APPLICATIONS, ["pki_authority"])


# --- What the services hold for it ---------------------------------------------------------------------------------------------


def test_the_owner_stays_one_role_whichever_login_has_the_turn() -> None:
    vault, _ = rotation.begin(fresh_vault(), APPLICATIONS, [DATABASE], fresh=counter())

    def roles() -> list[dict]:
        return applications.application_database_roles(["shop"], vault[DATABASE], "pgbouncer")

    both = [{"name": "shop"}, {"name": "shop_b", "acts_as": "shop"}, {"name": "pgbouncer_b", "acts_as": "pgbouncer"}]
    assert roles() == both
    vault = rotation.advance(vault, rotation.NEXT)
    assert roles() == both
    vault = rotation.advance(vault, rotation.FORMER)
    assert roles() == [
        {"name": "shop", "login": False}, {"name": "shop_b", "acts_as": "shop"},
        {"name": "pgbouncer", "login": False}, {"name": "pgbouncer_b", "acts_as": "pgbouncer"},
    ]  # fmt: skip


def test_a_fleet_whose_passwords_never_changed_is_declared_as_ever() -> None:
    vault = fresh_vault()
    assert applications.application_database_roles(["shop"], vault[DATABASE], "pgbouncer") == [{"name": "shop"}]
    assert [user["name"] for user in applications.application_broker_users(APPLICATIONS, vault[BROKER])] == APPLICATIONS
    assert login_secrets(vault[BROKER]) == vault[BROKER]


def test_both_logins_of_an_application_reach_its_own_virtual_host_alone() -> None:
    vault, _ = rotation.begin(fresh_vault(), APPLICATIONS, [BROKER], fresh=counter())
    users = applications.application_broker_users(APPLICATIONS, vault[BROKER])
    assert [(user["name"], user["permissions"][0]["vhost"]) for user in users] == [
        ("shop", "shop"), ("shop_b", "shop"), ("mail", "mail"), ("mail_b", "mail"),
    ]  # fmt: skip
