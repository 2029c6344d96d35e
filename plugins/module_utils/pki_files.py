"""A host's identities and trusted authorities, in plain Python, since a host has no certificate library."""

from __future__ import annotations

import hashlib
import os
import re
import ssl

HOME = "/etc/grunnfjell/pki"
BUNDLE = "authorities.pem"
KEY, CERTIFICATE, ISSUER = "key.pem", "certificate.pem", "issuer"
PEM = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def text_of(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, ValueError):
        return None


def identities(home: str = HOME) -> list[str]:
    """The names of the host's identities, which are symbolic links."""
    try:
        return sorted(name for name in os.listdir(home) if os.path.islink(os.path.join(home, name)))
    except OSError:
        return []


def fingerprints(bundle: str | None) -> list[str]:
    return [hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest() for pem in PEM.findall(bundle or "")]


def issuing(home: str = HOME) -> list[str]:
    """Certificates of the trusted authorities that issued the host's certificates."""
    names = {issuer for issuer in (text_of(os.path.join(home, name, ISSUER)) for name in identities(home)) if issuer}
    trusted = PEM.findall(text_of(os.path.join(home, BUNDLE)) or "")
    return [pem for pem in trusted if fingerprints(pem)[0] in {name.strip() for name in names}]


def described(home: str = HOME) -> dict[str, list[str]]:
    """Fingerprints of the trusted authorities and of those that issued the host's certificates; empty on a new host."""
    issuers = [text_of(os.path.join(home, name, ISSUER)) for name in identities(home)]
    return {
        "trusted": fingerprints(text_of(os.path.join(home, BUNDLE))),
        "issuers": sorted({issuer.strip() for issuer in issuers if issuer}),
    }
