"""The host's part of role pki in a directory with real keys: what it holds after each step and after an interrupted one."""

import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from accounts import GROUP
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
IDENTITIES = {"broker": {"group": GROUP, "unit": "no-such-unit.service"}, "client": {"group": GROUP}}


class Host:
    """The directory of one host, and the calls of the control node."""

    def __init__(self, home: Path) -> None:
        self.home, self.did = home, []

    def ask(self, check: bool = False, identities: dict | None = None, **params: Any) -> dict[str, Any]:
        store = pki_identity.Store(self.home, check)
        defaults = {"identities": identities or IDENTITIES, "authorities": FIRST["certificate"], "renew": [], "certificates": {}}
        report = pki_identity.run(store, defaults | params)
        self.did = store.did
        return report

    def serve(self, requests: dict[str, str], authority: dict[str, str] = FIRST, **params: Any) -> dict[str, Any]:
        issuing = authority_of(**authority)
        certificates = {
            name: {
                "certificate": signed(issuing, request, "host", name, ["host"], 90, datetime.now(UTC)),
                "issuer": issuing.fingerprint,
            }
            for name, request in requests.items()
        }
        return self.ask(certificates=certificates, **params)

    def version(self, name: str) -> str:
        return os.readlink(self.home / name)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    (tmp_path / "pki").mkdir()
    return Host(tmp_path / "pki")


@pytest.fixture
def issued(host: Host) -> Host:
    host.serve(host.ask()["requests"])
    return host


def test_a_blank_host_requests_each_certificate_once(host: Host) -> None:
    report = host.ask()
    assert sorted(report["requests"]) == sorted(report["missing"]) == ["broker", "client"]
    report = host.serve(report["requests"])
    assert (report["requests"], report["missing"], sorted(report["certificates"])) == ({}, [], ["broker", "client"])
    assert host.ask()["requests"] == {} and host.did == []


def test_check_mode_creates_nothing(host: Host) -> None:
    report = host.ask(check=True)
    assert (report["missing"], report["requests"]) == (["broker", "client"], {})
    assert host.did == ["authorities"] and list(host.home.iterdir()) == []


def test_a_host_reports_the_authorities_that_it_trusts_and_those_of_its_certificates(issued: Host) -> None:
    first = authority_of(**FIRST).fingerprint
    assert pki_files.described(str(issued.home)) == {"trusted": [first], "issuers": [first]}
    assert pki_files.described("/nowhere") == {"trusted": [], "issuers": []}


def test_an_interrupted_renewal_keeps_the_previous_certificate(issued: Host) -> None:
    before = {name: issued.version(name) for name in IDENTITIES}
    first = issued.ask(renew=["broker"])["requests"]
    assert list(first) == ["broker"] and {name: issued.version(name) for name in IDENTITIES} == before
    assert issued.ask()["missing"] == []
    # The key of that request still waits; the next renewal makes another.
    again = issued.ask(renew=["broker"])["requests"]
    with pytest.raises(pki_identity.Failure, match="does not belong to its key"):
        issued.serve(first)
    assert again["broker"] != first["broker"] and issued.version("broker") == before["broker"]


def test_a_renewal_replaces_key_and_certificate_together_and_leaves_nothing_behind(issued: Host) -> None:
    before, untouched = issued.version("broker"), issued.version("client")
    issued.serve(issued.ask(renew=["broker"])["requests"])
    assert issued.version("broker") != before and issued.version("client") == untouched
    assert len(list((issued.home / ".versions").iterdir())) == 2 and list((issued.home / ".pending").iterdir()) == []


def test_a_new_bundle_reloads_every_service(issued: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(pki_identity, "call_code", lambda *argv: 0)
    monkeypatch.setattr(pki_identity, "call", lambda *argv: calls.append(argv) or "")
    issued.ask(authorities=FIRST["certificate"] + SECOND["certificate"])
    assert calls == [("systemctl", "reload", "no-such-unit.service")]
    issued.ask(authorities=FIRST["certificate"] + SECOND["certificate"])
    assert len(calls) == 1


def test_a_service_that_failed_to_reload_is_reloaded_by_the_next_run(issued: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*argv: str) -> str:
        raise pki_identity.Failure("systemctl reload ended with 1")

    monkeypatch.setattr(pki_identity, "call_code", lambda *argv: 0)
    with monkeypatch.context() as broken:
        broken.setattr(pki_identity, "call", fails)
        with pytest.raises(pki_identity.Failure):
            issued.ask(authorities=FIRST["certificate"] + SECOND["certificate"])
    calls: list[tuple[str, ...]] = []
    monkeypatch.setattr(pki_identity, "call", lambda *argv: calls.append(argv) or "")
    issued.ask(authorities=FIRST["certificate"] + SECOND["certificate"])
    assert calls == [("systemctl", "reload", "no-such-unit.service")]


def test_an_identity_that_is_no_longer_declared_is_removed(issued: Host) -> None:
    issued.ask(identities={"client": IDENTITIES["client"]})
    assert issued.did == ["removed broker"]
    assert [path.name for path in (issued.home / ".versions").iterdir()] == [os.path.basename(issued.version("client"))]


def test_the_key_of_another_identity_is_noticed(issued: Host) -> None:
    shutil.copy(issued.home / "client" / "key.pem", issued.home / "broker" / "key.pem")
    report = issued.ask()
    assert report["missing"] == ["broker"] and list(report["requests"]) == ["broker"]
    assert certificate_of(issued.serve(report["requests"])["certificates"]["broker"])
