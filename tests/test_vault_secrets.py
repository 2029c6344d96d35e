"""Secrets are created once and never changed."""

from ansible_collections.grunnfjell.platform.plugins.action.vault_secrets import complete

WANTED = {"cookie": [], "passwords": ["shop", "pgbouncer"]}


def test_an_authority_is_created_once_and_kept_when_another_is_added() -> None:
    before, created = complete({}, {"authorities": {"authorities": ["first"]}})
    assert created == ["authorities.first"] and set(before["authorities"]["first"]) == {"certificate", "key"}
    after, created = complete(before, {"authorities": {"authorities": ["first", "second"]}})
    assert created == ["authorities.second"]
    assert after["authorities"]["first"] == before["authorities"]["first"]


def test_every_missing_secret_is_created_and_different() -> None:
    vault, created = complete({}, WANTED)
    assert created == ["cookie", "passwords.shop", "passwords.pgbouncer"]
    assert len({vault["cookie"], *vault["passwords"].values()}) == 3
    assert all(len(secret) == 64 for secret in (vault["cookie"], *vault["passwords"].values()))


def test_a_second_run_creates_nothing() -> None:
    vault, _ = complete({}, WANTED)
    assert complete(vault, WANTED) == (vault, [])


def test_a_new_application_gets_a_secret_and_the_others_keep_theirs() -> None:
    before, _ = complete({}, WANTED)
    after, created = complete(before, {**WANTED, "passwords": ["shop", "pgbouncer", "mail"]})
    assert created == ["passwords.mail"]
    assert {**after["passwords"], "mail": None} == {**before["passwords"], "mail": None}
