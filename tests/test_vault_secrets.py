"""Secrets are made once: what the vault holds never changes."""

from ansible_collections.grunnfjell.platform.plugins.action.vault_secrets import complete

WANTED = {"cookie": [], "passwords": ["shop", "pgbouncer"]}


def test_an_authority_is_made_once_and_another_beside_it() -> None:
    before, made = complete({}, {"authorities": {"authorities": ["first"]}})
    assert made == ["authorities.first"] and set(before["authorities"]["first"]) == {"certificate", "key"}
    after, made = complete(before, {"authorities": {"authorities": ["first", "second"]}})
    assert made == ["authorities.second"]
    assert after["authorities"]["first"] == before["authorities"]["first"]


def test_everything_that_is_missing_is_made_and_differs() -> None:
    vault, made = complete({}, WANTED)
    assert made == ["cookie", "passwords.shop", "passwords.pgbouncer"]
    assert len({vault["cookie"], *vault["passwords"].values()}) == 3
    assert all(len(secret) == 64 for secret in (vault["cookie"], *vault["passwords"].values()))


def test_a_second_run_makes_nothing() -> None:
    vault, _ = complete({}, WANTED)
    assert complete(vault, WANTED) == (vault, [])


def test_a_new_application_gets_its_own_and_the_others_keep_theirs() -> None:
    before, _ = complete({}, WANTED)
    after, made = complete(before, {**WANTED, "passwords": ["shop", "pgbouncer", "mail"]})
    assert made == ["passwords.mail"]
    assert {**after["passwords"], "mail": None} == {**before["passwords"], "mail": None}
