"""While a secret changes, no program has one that its service refuses.

In this model a run may have reached any of the services and programs, may be interrupted anywhere, and the next run knows only
the vault.
"""

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
        "vault_mail_password": "of another program",
    }


def counter():
    numbers = itertools.count(1)
    return lambda: f"fresh-{next(numbers)}"


def in_use(vault: rotation.Vault) -> dict[tuple[str, str], tuple[str, str]]:
    """By mapping and name: the login and the secret that programs use."""
    return {
        (variable, name): (rotation.login_of(entry, name), rotation.secret_of(entry))
        for variable in MAPPINGS
        for name, entry in vault[variable].items()
    }


def accepted(vault: rotation.Vault) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """By mapping and name: the pairs that the service accepts; a value without logins counts with the name as its login."""
    pairs = {}
    for variable in MAPPINGS:
        for name, entry in vault[variable].items():
            values = {(name, rotation.secret_of(entry)), (name, rotation.beside(entry))}
            pairs[variable, name] = values if variable == TOKENS else set(rotation.accepted(entry, name).items())
    return pairs


def changes() -> st.SearchStrategy[list[tuple[str, str]]]:
    """The secrets of several rotations: (name, application)."""
    names = st.sampled_from(["", *rotation.entries(fresh_vault()), BROKER, DATABASE, TOKENS])
    return st.lists(st.tuples(names, st.sampled_from(["", "", "shop"])), min_size=1, max_size=4)


def phases(vault: rotation.Vault) -> list[rotation.Vault]:
    """The vault, and after each step."""
    return list(itertools.accumulate(STEPS, rotation.advance, initial=vault))


@given(changes(), st.data())
def test_between_any_two_steps_every_service_accepts_what_programs_use(asked, data) -> None:
    """Also when a run is interrupted after any step, with services and programs between two phases."""
    vault = fresh_vault()
    make = counter()
    for name, application in asked:
        vault, _ = rotation.begin(vault, APPLICATIONS, [name] if name else [], application, make)
        states = [fresh_vault() if vault is None else vault]
        for phase in STEPS:
            for _ in range(data.draw(st.integers(0, 2), label="runs interrupted here")):
                resumed, going_on = rotation.begin(vault, APPLICATIONS, fresh=make)
                assert resumed == vault and set(going_on) == set(rotation.under_way(vault))
            vault = rotation.advance(vault, phase)
            states.append(vault)
        for before, after in itertools.pairwise(states):
            # One of program and service may already have the next secret while the other has the previous one.
            for used, served in itertools.product((before, after), (before, after)):
                if used is after and served is before and rotation.phase_of_vault(before) == rotation.SETTLED:
                    continue
                for key, pair in in_use(used).items():
                    assert pair in accepted(served)[key], (key, rotation.phase_of_vault(before))
        assert rotation.under_way(vault) == {}


@given(changes())
def test_exactly_the_requested_secrets_have_changed_in_the_end(asked) -> None:
    make = counter()
    vault = fresh_vault()
    for name, application in asked:
        before = vault
        vault, wanted = rotation.begin(vault, APPLICATIONS, [name] if name else [], application, make)
        vault = phases(vault)[-1]
        for secret, (_, _, entry) in rotation.entries(vault).items():
            old = rotation.entries(before)[secret][2]
            assert (rotation.secret_of(entry) != rotation.secret_of(old)) == (secret in wanted)
        assert vault["vault_mail_password"] == before["vault_mail_password"]


def test_the_two_logins_alternate_and_the_first_is_a_plain_string_again() -> None:
    vault, _ = rotation.begin(fresh_vault(), APPLICATIONS, [f"{BROKER}.shop"], fresh=counter())
    vault = phases(vault)[-1]
    assert vault[BROKER]["shop"] == {"login": "shop_b", "secret": "fresh-1"}
    vault, _ = rotation.begin(vault, APPLICATIONS, [f"{BROKER}.shop"], fresh=lambda: "second")
    assert login_secrets(vault[BROKER]) == {"shop_b": "fresh-1", "shop": "second", "mail": "b-mail"}
    assert phases(vault)[-1][BROKER]["shop"] == "second"


def test_a_step_that_is_not_due_changes_nothing() -> None:
    vault, _ = rotation.begin(fresh_vault(), APPLICATIONS, fresh=counter())
    assert rotation.advance(vault, rotation.FORMER) == vault
    assert rotation.advance(vault, rotation.RETIRED) == vault
    assert rotation.phase_of_vault(rotation.advance(vault, rotation.NEXT)) == rotation.FORMER


def test_a_retired_secret_is_kept_until_the_service_refused_it() -> None:
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
def test_programs_are_restarted_only_when_their_secret_changes(secret, follow) -> None:
    vault, _ = rotation.begin(fresh_vault(), APPLICATIONS, [secret])
    assert [rotation.programs_follow(after) for after in phases(vault)] == follow


def test_the_cookie_has_no_login_and_one_value_at_a_time() -> None:
    vault, wanted = rotation.begin(fresh_vault(), APPLICATIONS, [COOKIE], fresh=lambda: "new")
    assert wanted == [COOKIE] and rotation.secret_of(vault[COOKIE]) == "cookie"
    _, next_vault, _, last = phases(vault)
    assert rotation.secret_of(next_vault[COOKIE]) == "new" and last[COOKIE] == "new"


@pytest.mark.parametrize(
    ("names", "application", "says"),
    [
        (["vault_rabbitmq_user_passwords.shopp"], "", "There is no secret 'vault_rabbitmq_user_passwords.shopp'"),
        (["vault_mail_password"], "", "There is no secret 'vault_mail_password' that can be rotated"),
        ([], "shopp", "There is no application 'shopp'. topology_applications names shop, mail."),
    ],
)
def test_an_unknown_secret_or_application_is_refused(names, application, says) -> None:
    with pytest.raises(rotation.RotationRefused, match=says.replace("(", r"\(")):
        rotation.begin(fresh_vault(), APPLICATIONS, names, application)


def test_no_change_begins_during_another() -> None:
    vault, _ = rotation.begin(fresh_vault(), APPLICATIONS, [f"{BROKER}.shop"], fresh=counter())
    with pytest.raises(rotation.RotationRefused, match=f"The change of {BROKER}.shop is still under way .phase 'next'."):
        rotation.begin(vault, APPLICATIONS, [COOKIE])
    assert rotation.begin(vault, APPLICATIONS, [f"{BROKER}.shop"]) == (vault, [f"{BROKER}.shop"])


def test_an_application_with_the_name_of_a_second_login_is_refused() -> None:
    vault = fresh_vault()
    vault[DATABASE]["shop_b"] = "d"
    with pytest.raises(rotation.RotationRefused, match="'shop_b' in vault_postgresql_role_passwords has the name of the second"):
        rotation.begin(vault, [*APPLICATIONS, "shop_b"])


def test_no_refusal_shows_a_secret() -> None:
    vault, _ = rotation.begin(fresh_vault(), APPLICATIONS, fresh=lambda: "hidden")
    with pytest.raises(rotation.RotationRefused) as refusal:
        rotation.begin(vault, APPLICATIONS, [COOKIE])
    assert not {"hidden", "b-shop", "d-shop", "t-shop"} & set(str(refusal.value).replace("'", " ").split())


def test_an_authority_is_trusted_before_it_issues_and_until_its_certificates_are_gone() -> None:
    vault = fresh_vault() | {rotation.AUTHORITIES: {"first": {"key": "f"}}}
    vault, wanted = rotation.begin(vault, APPLICATIONS, ["pki_authority"], authority=lambda name: {"key": f"key of {name}"})
    assert wanted == ["vault_pki_authority"]
    assert vault[rotation.AUTHORITIES] == {"first": {"key": "f"}, "second": {"key": "key of second"}}
    # A step may have reached only some hosts: the issuer of a step is also trusted in the steps before and after it.
    trusted = [rotation.trusted(after["vault_pki_authority"]) for after in phases(vault)]
    assert trusted == [["first", "second"], ["second", "first"], ["second"], ["second"]]
    last = phases(vault)[-1]
    assert last[rotation.AUTHORITIES] == {"second": {"key": "key of second"}} and last["vault_pki_authority"] == "second"


def test_certificates_are_renewed_in_exactly_one_phase() -> None:
    vault = fresh_vault() | {rotation.AUTHORITIES: {"first": {}}}
    vault, _ = rotation.begin(vault, APPLICATIONS, [rotation.RENEWAL])
    assert [rotation.renews(after[rotation.RENEWAL]) for after in phases(vault)] == [False, True, False, False]


def test_a_fleet_without_an_authority_cannot_change_it() -> None:
    with pytest.raises(rotation.RotationRefused, match="There is no secret 'pki_authority'"):
        rotation.begin(fresh_vault(), APPLICATIONS, ["pki_authority"])


# --- Logins of the services ---------------------------------------------------------------------------------------------


def test_the_owner_is_one_role_whichever_login_is_in_use() -> None:
    vault, _ = rotation.begin(fresh_vault(), APPLICATIONS, [DATABASE], fresh=counter())

    def roles(vault: rotation.Vault) -> list[dict]:
        return applications.application_database_roles(["shop"], vault[DATABASE], "pgbouncer")

    both = [{"name": "shop"}, {"name": "shop_b", "acts_as": "shop"}, {"name": "pgbouncer_b", "acts_as": "pgbouncer"}]
    begun, after_next, after_former, _ = phases(vault)
    assert roles(begun) == both
    assert roles(after_next) == both
    assert roles(after_former) == [
        {"name": "shop", "login": False}, {"name": "shop_b", "acts_as": "shop"},
        {"name": "pgbouncer", "login": False}, {"name": "pgbouncer_b", "acts_as": "pgbouncer"},
    ]  # fmt: skip


def test_a_fleet_whose_passwords_never_changed_has_one_login_each() -> None:
    vault = fresh_vault()
    assert applications.application_database_roles(["shop"], vault[DATABASE], "pgbouncer") == [{"name": "shop"}]
    assert [user["name"] for user in applications.application_broker_users(APPLICATIONS, vault[BROKER])] == APPLICATIONS
    assert login_secrets(vault[BROKER]) == vault[BROKER]


def test_both_logins_of_an_application_reach_only_its_virtual_host() -> None:
    vault, _ = rotation.begin(fresh_vault(), APPLICATIONS, [BROKER], fresh=counter())
    users = applications.application_broker_users(APPLICATIONS, vault[BROKER])
    assert [(user["name"], user["permissions"][0]["vhost"]) for user in users] == [
        ("shop", "shop"), ("shop_b", "shop"), ("mail", "mail"), ("mail_b", "mail"),
    ]  # fmt: skip
