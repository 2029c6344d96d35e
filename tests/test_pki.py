"""The authority signs valid certificates, and notices those that must be renewed."""

import base64
import contextlib
import ssl
import tempfile
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.fleet.model import Fleet, Host
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.refusals.authorities import (
    expiring_authorities,
    split_authority,
    unusable_authorities,
)
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust.pki import (
    PkiError,
    authority_of,
    certificate_of,
    days_left,
    due,
    fingerprint,
    new_authority,
    signed,
    usage,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.verification import PolicyBuilder, Store

NOW = datetime.now(UTC)
FIRST, SECOND = new_authority("first", NOW), new_authority("second", NOW)
AUTHORITY = authority_of(**FIRST)


def request(key: ec.EllipticCurvePrivateKey | None = None) -> str:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    signing_request = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return signing_request.public_bytes(serialization.Encoding.PEM).decode()


def issue(days: int = 90, names: tuple[str, ...] = ("worker1", "10.0.0.31"), now: datetime = NOW) -> str:
    return signed(AUTHORITY, request(), "worker1", "application", list(names), days, now)


@pytest.mark.parametrize("name", ["worker1", "10.0.0.31"])
def test_signed_certificates_are_valid_by_the_rules_of_the_web(name: str) -> None:
    """The strictest reader available: RFC 5280 and the browsers' baseline."""
    subject = x509.DNSName(name) if name.isalnum() else x509.IPAddress(ip_address(name))
    store = Store([AUTHORITY.certificate])
    PolicyBuilder().store(store).time(NOW).build_server_verifier(subject).verify(certificate_of(issue()), [])


def test_a_valid_certificate_is_kept() -> None:
    assert due(issue(), AUTHORITY, "worker1", ["worker1", "10.0.0.31"], 30, NOW) is None


@pytest.mark.parametrize(
    ("certificate", "authority", "names", "why"),
    [
        (issue(days=29), FIRST, ["worker1", "10.0.0.31"], "it expires in 29.0 days"),
        (issue(now=NOW - timedelta(days=100)), FIRST, ["worker1", "10.0.0.31"], "it expires in -10.0 days"),
        (issue(), FIRST, ["worker1", "10.0.0.32"], "its names changed"),
        (issue(), FIRST, ["worker1"], "its names changed"),
        (issue(), SECOND, ["worker1", "10.0.0.31"], "another authority issued it"),
        ("nothing", FIRST, ["worker1"], "it cannot be read"),
    ],
)
def test_a_certificate_is_renewed_with_the_reason(certificate: str, authority: dict, names: list[str], why: str) -> None:
    assert due(certificate, authority_of(**authority), "worker1", names, 30, NOW) == why


def test_another_authority_of_the_same_name_is_another_authority() -> None:
    again = new_authority("first", NOW)
    assert due(issue(), authority_of(**again), "worker1", ["worker1", "10.0.0.31"], 30, NOW) == "another authority issued it"


def test_a_request_that_its_key_did_not_sign_is_refused() -> None:
    lines = request().splitlines()
    body = bytearray(x509.load_pem_x509_csr("\n".join(lines).encode()).public_bytes(serialization.Encoding.DER))
    body[-1] ^= 1
    forged = f"{lines[0]}\n{base64.b64encode(bytes(body)).decode()}\n{lines[-1]}\n"
    with pytest.raises((PkiError, ValueError)):
        signed(AUTHORITY, forged, "worker1", "application", ["worker1"], 90, NOW)


def pem_of(key) -> str:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode()


def provided(
    key, ca: bool = True, until: datetime = NOW + timedelta(days=3650), without: str = "", signer=None, issuer: str = "own"
) -> dict[str, str]:
    """An authority that an operator provides; signer: the key of another authority that signed it."""
    name, by = (x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)]) for text in ("own", issuer))
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(by).public_key(key.public_key()).serial_number(1)
        .not_valid_before(NOW - timedelta(days=3650)).not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=without != "critical")
    )  # fmt: skip
    if without != "keyUsage":
        builder = builder.add_extension(usage(key_cert_sign=without != "keyCertSign", crl_sign=True), critical=True)
    if without != "subjectKeyIdentifier":
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    certificate = builder.sign(signer or key, hashes.SHA256())
    return {"certificate": certificate.public_bytes(serialization.Encoding.PEM).decode(), "key": pem_of(key)}


EC_KEY, ROOT_KEY = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
UNFIT = [
    ({"certificate": FIRST["certificate"], "key": SECOND["key"]}, "has a key that does not belong to its certificate"),
    ({"certificate": "nothing", "key": FIRST["key"]}, "has a certificate that cannot be read"),
    ({"certificate": FIRST["certificate"], "key": "nothing"}, "has a key that cannot be read"),
    (provided(rsa.generate_private_key(65537, 2048)), "has an RSA key of 2048 bits, but needs at least 3072"),
    (provided(ec.generate_private_key(ec.SECP192R1())), "neither RSA nor of an elliptic curve of 256 bits at least"),
    (provided(EC_KEY, ca=False), "may not sign others"),
    (provided(EC_KEY, until=NOW - timedelta(days=7)), "expired 7 days ago"),
    # Review finding 21: authorities that companies issue, and that Debian 13's Python refuses.
    (provided(EC_KEY, signer=ROOT_KEY, issuer="company"), "another authority signed, but needs a self-signed one"),
    (provided(EC_KEY, signer=ROOT_KEY), "another authority signed, but needs a self-signed one"),
    (
        {**FIRST, "certificate": FIRST["certificate"] + SECOND["certificate"]},
        "has 2 certificates, but needs only the self-signed one",
    ),
    (provided(EC_KEY, without="subjectKeyIdentifier"), "has a certificate without a subjectKeyIdentifier"),
    (provided(EC_KEY, without="keyUsage"), "has a certificate without keyCertSign in its keyUsage"),
    (provided(EC_KEY, without="keyCertSign"), "has a certificate without keyCertSign in its keyUsage"),
    (provided(EC_KEY, without="critical"), "has a certificate whose basicConstraints are not critical"),
]  # fmt: skip


def fleet(measured: dict | None = None, **inputs) -> Fleet:
    given = {
        "pki_authorities": {"first": FIRST, "second": SECOND},
        "pki_authority": "first",
        "pki_authorities_trusted": ["first"],
        "pki_days": 365,
        "pki_renew_days": 60,
    }
    host = Host("worker1", frozenset({"pki"}), inputs=given | inputs, measured={"pki": measured or {}})
    return Fleet({"worker1": host}, {"pki": ("all",)})


def test_an_authority_of_make_secrets_is_accepted() -> None:
    assert list(unusable_authorities(fleet())) == []


@pytest.mark.parametrize(("authority", "says"), UNFIT)
def test_an_unfit_authority_is_refused(authority: dict[str, str], says: str) -> None:
    assert says in " ".join(unusable_authorities(fleet(pki_authorities={"first": authority})))


@pytest.mark.parametrize("key", [EC_KEY, rsa.generate_private_key(65537, 3072)])
def test_a_provided_authority_is_accepted_by_the_strictest_client_of_a_host(key) -> None:
    """Review finding 21: with a handshake like that of Debian 13's Python."""
    held = provided(key)
    host_key = ec.generate_private_key(ec.SECP256R1())
    certificate = signed(authority_of(**held), request(host_key), "worker1", "application", ["worker1"], 90, NOW)
    client = ssl.create_default_context(cadata=held["certificate"])
    client.verify_flags |= ssl.VERIFY_X509_STRICT | ssl.VERIFY_X509_PARTIAL_CHAIN
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(pem_of(host_key) + certificate)
        file.flush()
        server.load_cert_chain(file.name)
    assert handshake(client, server, "worker1")


def handshake(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bool:
    """Both ends in memory; raises the error of the end that refuses the other."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [client.wrap_bio(to_client, to_server, server_hostname=name), server.wrap_bio(to_server, to_client, server_side=True)]
    for _ in range(10):
        for end in list(ends):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
                ends.remove(end)
    return not ends


SHORT = provided(EC_KEY, until=NOW + timedelta(days=100))
WAY_OUT = [("short", ["short", "second"]), ("second", ["short", "second"]), ("second", ["second"])]


@pytest.mark.parametrize(("issues", "trusted"), [("short", ["short"]), *WAY_OUT])
def test_an_authority_can_be_replaced_in_its_last_year(issues: str, trusted: list[str]) -> None:
    """Review finding 9: the three steps of docs/tls.md, and the runs before them."""
    inputs = {"pki_authorities": {"short": SHORT, "second": SECOND}, "pki_authority": issues, "pki_authorities_trusted": trusted}
    assert list(unusable_authorities(fleet(**inputs))) == []
    warned = " ".join(expiring_authorities(fleet(**inputs)))
    assert ("The authority 'short' expires in 100 days, and every certificate with it, instead of after 365" in warned) == (
        issues == "short"
    )


def test_an_expired_authority_can_still_be_replaced() -> None:
    """Review finding 9: as the refusal says."""
    late = provided(EC_KEY, until=NOW - timedelta(days=7))
    held = {"pki_authorities": {"first": late, "second": SECOND}}
    (sentence,) = unusable_authorities(fleet(**held))
    assert "-e pki_authority_lost=true" in sentence
    observed = dict.fromkeys(("trusted", "issuers"), (fingerprint(certificate_of(late["certificate"])),))
    changed = fleet(observed, **held, pki_authority="second", pki_authorities_trusted=["second"], pki_authority_lost=True)
    assert [*unusable_authorities(changed), *split_authority(changed)] == []


def test_a_certificate_ends_with_its_authority_and_is_not_renewed_by_every_run() -> None:
    """Review finding 9."""
    authority = authority_of(**SHORT)
    certificate = signed(authority, request(), "worker1", "application", ["worker1"], 365, NOW)
    assert certificate_of(certificate).not_valid_after_utc == authority.until
    for later in (0, 50, 99):
        assert due(certificate, authority, "worker1", ["worker1"], 60, NOW + timedelta(days=later)) is None
    shorter = signed(authority, request(), "worker1", "application", ["worker1"], 30, NOW)
    assert days_left(certificate_of(shorter), NOW) == pytest.approx(30, abs=0.01)
    assert due(shorter, authority, "worker1", ["worker1"], 60, NOW) == "it expires in 30.0 days"


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"pki_authorities": {}}, "The vault holds no authority 'first'"),
        ({"pki_authorities_trusted": ["second"]}, "nobody would trust its certificates"),
        ({"pki_renew_days": 365}, "every run would replace every certificate"),
    ],
)
def test_contradicting_inputs_are_refused(inputs: dict, says: str) -> None:
    assert says in " ".join(unusable_authorities(fleet(**inputs)))


ONE, TWO = (fingerprint(certificate_of(authority["certificate"])) for authority in (FIRST, SECOND))
STEPS = [
    # What a host has before each of the three runs of a change, and the inventory of that run.
    ({"trusted": [ONE], "issuers": [ONE]}, "first", ["first", "second"]),
    ({"trusted": [ONE, TWO], "issuers": [ONE]}, "second", ["first", "second"]),
    ({"trusted": [ONE, TWO], "issuers": [TWO]}, "second", ["second"]),
]  # fmt: skip


@pytest.mark.parametrize(("observed", "issues", "trusted"), [*STEPS, ({}, "second", ["second"])])
def test_an_authority_changes_in_three_steps(observed: dict, issues: str, trusted: list[str]) -> None:
    assert list(split_authority(fleet(observed, pki_authority=issues, pki_authorities_trusted=trusted))) == []


@pytest.mark.parametrize(
    ("observed", "issues", "trusted", "says"),
    [
        (STEPS[0][0], "second", ["first", "second"], "does not trust the authority 'second' (pki_authority) yet"),
        (STEPS[0][0], "second", ["second"], "does not trust the authority 'second' (pki_authority) yet"),
        (STEPS[1][0], "second", ["second"], "still has a certificate of an authority that is not in pki_authorities_trusted"),
    ],
)
def test_two_steps_at_once_are_refused_unless_the_authority_is_lost(
    observed: dict, issues: str, trusted: list[str], says: str
) -> None:
    inputs = {"pki_authority": issues, "pki_authorities_trusted": trusted}
    assert says in " ".join(split_authority(fleet(observed, **inputs)))
    assert list(split_authority(fleet(observed, **inputs, pki_authority_lost=True))) == []
    assert list(split_authority(fleet(observed, **inputs, pki_authority_lost="yes"))) == []
