"""Creates authorities, signs requests, and checks certificates."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_YEARS = 10
# A certificate is valid from before its creation, for hosts whose clock is behind (topology_clock_offset_max).
EARLIER = timedelta(minutes=5)
RSA_BITS = 3072  # as strong as P-256; an authority is used beyond 2030, the end of 2048 bits
EC_BITS = 256
COMMON_NAME_LONGEST = 64  # what X.520 allows


class PkiError(ValueError):
    """What is wrong, as the end of a sentence."""


@dataclass(frozen=True)
class Authority:
    certificate: x509.Certificate
    key: Any

    @property
    def until(self) -> datetime:
        return self.certificate.not_valid_after_utc

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.certificate)


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def usage(**allowed: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: allowed.get(name, False) for name in names})


def new_authority(name: str, now: datetime | None = None) -> dict[str, str]:
    """A self-signed certificate and its key, for the vault."""
    now = now or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    # The number distinguishes authorities with the same name, of two inventories or of before and after a change.
    common_name = f"Grunnfjell {name}"[: COMMON_NAME_LONGEST - 9] + f" {identifier.digest.hex()[:8]}"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + timedelta(days=365 * AUTHORITY_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return {"certificate": pem(certificate), "key": private.decode()}


@lru_cache(maxsize=64)
def certificate_of(text: str) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(text.encode())
    except ValueError as error:
        raise PkiError("has a certificate that cannot be read") from error


def extension(certificate: x509.Certificate, kind: type[Any]) -> x509.Extension[Any] | None:
    try:
        return certificate.extensions.get_extension_for_class(kind)
    except x509.ExtensionNotFound:
        return None


@lru_cache(maxsize=64)
def root_of(text: str) -> x509.Certificate:
    """The self-signed certificate of an authority; raises if a program of the fleet would not accept it."""
    if (number := text.count("-----BEGIN CERTIFICATE-----")) > 1:
        raise PkiError(f"has {number} certificates, but needs only the self-signed one")
    held = certificate_of(text)
    try:
        held.verify_directly_issued_by(held)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        raise PkiError("has a certificate that another authority signed, but needs a self-signed one") from None
    constraints, allowed = extension(held, x509.BasicConstraints), extension(held, x509.KeyUsage)
    if constraints is None or not constraints.value.ca:
        raise PkiError("has a certificate that may not sign others (basicConstraints without CA)")
    # Python 3.13 checks the rest (VERIFY_X509_STRICT).
    if not constraints.critical:
        raise PkiError("has a certificate whose basicConstraints are not critical, which Debian 13 refuses")
    if allowed is None or not allowed.value.key_cert_sign:
        raise PkiError("has a certificate without keyCertSign in its keyUsage, which Debian 13 refuses")
    if extension(held, x509.SubjectKeyIdentifier) is None:
        raise PkiError("has a certificate without a subjectKeyIdentifier, by which others name their issuer")
    return held


@lru_cache(maxsize=16)
def authority_of(certificate: str, key: str) -> Authority:
    """The authority of a vault's entry; raises if it cannot issue certificates."""
    held = root_of(certificate)
    try:
        private = serialization.load_pem_private_key(key.encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise PkiError("has a key that cannot be read") from error
    public = private.public_key()
    if public != held.public_key():
        raise PkiError("has a key that does not belong to its certificate")
    bits = getattr(public, "key_size", 0)
    if isinstance(public, rsa.RSAPublicKey):
        if bits < RSA_BITS:
            raise PkiError(f"has an RSA key of {bits} bits, but needs at least {RSA_BITS}")
    elif not isinstance(public, ec.EllipticCurvePublicKey) or bits < EC_BITS:
        raise PkiError(f"has a key that is neither RSA nor of an elliptic curve of {EC_BITS} bits at least")
    return Authority(held, private)


def alternative_names(names: Iterable[str]) -> list[x509.GeneralName]:
    alternatives: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            alternatives.append(x509.DNSName(name))
    return alternatives


def signed(authority: Authority, request: str, common_name: str, unit: str, names: list[str], days: int, now: datetime) -> str:
    """A certificate for a request's key. It expires with its authority at the latest.

    Its names come from the inventory, not from the request.
    """
    asked = x509.load_pem_x509_csr(request.encode())
    if not asked.is_signature_valid:
        raise PkiError("sent a request with an invalid signature")
    key = asked.public_key()
    issuer = authority.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    certificate = (
        x509.CertificateBuilder()
        .subject_name(
            x509.Name(
                [
                    x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, unit),
                    x509.NameAttribute(NameOID.COMMON_NAME, common_name[:COMMON_NAME_LONGEST]),
                ]
            )
        )
        .issuer_name(authority.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(min(now + timedelta(days=days), authority.until))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternative_names(names)), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    return pem(certificate)


def common_names(certificate: x509.Certificate) -> list[str]:
    return [str(attribute.value) for attribute in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]


def days_left(certificate: x509.Certificate, now: datetime) -> float:
    return (certificate.not_valid_after_utc - now).total_seconds() / 86400


def due(text: str, authority: Authority, common_name: str, names: list[str], renew_days: float, now: datetime) -> str | None:
    """Why a certificate must be replaced; None if it need not be."""
    try:
        held = certificate_of(text)
    except PkiError:
        return "it cannot be read"
    try:
        held.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return "another authority issued it"
    alternative = extension(held, x509.SubjectAlternativeName)
    shown = set(alternative.value) if alternative else set()
    if shown != set(alternative_names(names)) or common_names(held) != [common_name[:COMMON_NAME_LONGEST]]:
        return "its names changed"
    left = days_left(held, now)
    # One that expires with its authority cannot be replaced by a longer one.
    if left < renew_days and held.not_valid_after_utc < authority.until:
        return f"it expires in {left:.1f} days"
    return None
