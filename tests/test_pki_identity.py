"""The host's half of role pki on a directory of its own, with real keys: what stands there after a step and after half of one."""

import grp
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.grunnfjell.platform.plugins.module_utils import pki_files
from ansible_collections.grunnfjell.platform.plugins.modules import pki_identity
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust.pki import (
    authority_of,
    certificate_of,
    new_authority,
    signed,
)

pytestmark = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("openssl") is None,
    reason="gives files to groups, as only root may, with openssl as on a host",
)

FIRST, SECOND = new_authority("first"), new_authority("second")
GROUP = grp.getgrgid(os.getgid()).gr_name
IDENTITIES = {"broker": {"group": GROUP, "unit": "no-such-unit.service"}, "client": {"group": GROUP}}


class Host:
    """One host's directory, and what the control machine says to it."""

    def __init__(self, home: Path) -> None:
        self.home, self.did = home, []

    def ask(self, check: bool = False, identities: dict | None = None, **params: Any) -> dict[str, Any]:
        store = pki_identity.Store(self.home, check)
        asked = {"identities": identities or IDENTITIES, "authorities": FIRST["certificate"], "renew": [], "certificates": {}}
        told = pki_identity.run(store, asked | params)
        self.did = store.did
        return told

    def serve(self, requests: dict[str, str], authority: dict[str, str] = FIRST, **params: Any) -> dict[str, Any]:
        issuing = authority_of(**authority)
        made = {
            name: {
                "certificate": signed(issuing, request, "host", name, ["host"], 90, datetime.now(UTC)),
                "issuer": issuing.fingerprint,
            }
            for name, request in requests.items()
        }
        return self.ask(certificates=made, **params)

    def version(self, name: str) -> str:
        return os.readlink(self.home / name)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "pki").mkdir()
    return Host(tmp_path / "pki")


@pytest.fixture
def standing(host: Host) -> Host:
    host.serve(host.ask()["requests"])
    return host


def test_a_blank_host_asks_once_and_shows_who_it_is(host: Host) -> None:
    told = host.ask()
    assert sorted(told["requests"]) == sorted(told["missing"]) == ["broker", "client"]
    told = host.serve(told["requests"])
    assert (told["requests"], told["missing"], sorted(told["certificates"])) == ({}, [], ["broker", "client"])
    assert host.ask()["requests"] == {} and host.did == []


def test_a_prediction_makes_nothing(host: Host) -> None:
    told = host.ask(check=True)
    assert (told["missing"], told["requests"]) == (["broker", "client"], {})
    assert host.did == ["authorities"] and list(host.home.iterdir()) == []


def test_a_host_tells_whom_it_believes_and_who_vouches_for_it(standing: Host) -> None:
    first = authority_of(**FIRST).fingerprint
    assert pki_files.described(str(standing.home)) == {"trusted": [first], "issuers": [first]}
    assert pki_files.described("/nowhere") == {"trusted": [], "issuers": []}


def test_a_renewal_that_was_cut_off_leaves_what_stood(standing: Host) -> None:
    before = {name: standing.version(name) for name in IDENTITIES}
    asked = standing.ask(renew=["broker"])["requests"]
    assert list(asked) == ["broker"] and {name: standing.version(name) for name in IDENTITIES} == before
    assert standing.ask()["missing"] == []
    # The key of that request still waits; the next renewal makes another.
    again = standing.ask(renew=["broker"])["requests"]
    with pytest.raises(pki_identity.Failure, match="does not belong to its key"):
        standing.serve(asked)
    assert again["broker"] != asked["broker"] and standing.version("broker") == before["broker"]


def test_a_renewal_switches_both_at_once_and_leaves_nothing_behind(standing: Host) -> None:
    before, untouched = standing.version("broker"), standing.version("client")
    standing.serve(standing.ask(renew=["broker"])["requests"])
    assert standing.version("broker") != before and standing.version("client") == untouched
    assert len(list((standing.home / ".versions").iterdir())) == 2 and list((standing.home / ".pending").iterdir()) == []


def test_a_new_bundle_is_to_be_told_to_everybody(standing: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr(pki_identity, "call_code", lambda *argv: 0)
    monkeypatch.setattr(pki_identity, "call", lambda *argv: told.append(argv) or "")
    standing.ask(authorities=FIRST["certificate"] + SECOND["certificate"])
    assert told == [("systemctl", "reload", "no-such-unit.service")]
    standing.ask(authorities=FIRST["certificate"] + SECOND["certificate"])
    assert len(told) == 1


def test_a_service_that_cannot_be_told_is_told_by_the_next_run(standing: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*argv: str) -> str:
        raise pki_identity.Failure("systemctl reload ended with 1")

    monkeypatch.setattr(pki_identity, "call_code", lambda *argv: 0)
    with monkeypatch.context() as broken:
        broken.setattr(pki_identity, "call", fails)
        with pytest.raises(pki_identity.Failure):
            standing.ask(authorities=FIRST["certificate"] + SECOND["certificate"])
    told: list[tuple[str, ...]] = []
    monkeypatch.setattr(pki_identity, "call", lambda *argv: told.append(argv) or "")
    standing.ask(authorities=FIRST["certificate"] + SECOND["certificate"])
    assert told == [("systemctl", "reload", "no-such-unit.service")]


def test_what_is_not_declared_any_more_is_gone(standing: Host) -> None:
    standing.ask(identities={"client": IDENTITIES["client"]})
    assert standing.did == ["removed broker"]
    assert [path.name for path in (standing.home / ".versions").iterdir()] == [os.path.basename(standing.version("client"))]


def test_a_key_of_another_is_noticed(standing: Host) -> None:
    shutil.copy(standing.home / "client" / "key.pem", standing.home / "broker" / "key.pem")
    told = standing.ask()
    assert told["missing"] == ["broker"] and list(told["requests"]) == ["broker"]
    assert certificate_of(standing.serve(told["requests"])["certificates"]["broker"])
