"""Where a host keeps who it is, and what stands there; on nothing but Python, for a host has no library for certificates."""

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
    """The names under which something stands; what begins with a dot is the kit's own."""
    try:
        return sorted(name for name in os.listdir(home) if os.path.islink(os.path.join(home, name)))
    except OSError:
        return []


def fingerprints(bundle: str | None) -> list[str]:
    return [hashlib.sha256(ssl.PEM_cert_to_DER_cert(one)).hexdigest() for one in PEM.findall(bundle or "")]


def issuing(home: str = HOME) -> list[str]:
    """The certificates of the authorities that issued what the host shows, among those that it believes."""
    names = {issuer for issuer in (text_of(os.path.join(home, name, ISSUER)) for name in identities(home)) if issuer}
    believed = PEM.findall(text_of(os.path.join(home, BUNDLE)) or "")
    return [one for one in believed if fingerprints(one)[0] in {name.strip() for name in names}]


def described(home: str = HOME) -> dict[str, list[str]]:
    """Whom the host believes, and who issued what it shows; by fingerprint. Empty on a host that has nothing yet."""
    issuers = [text_of(os.path.join(home, name, ISSUER)) for name in identities(home)]
    return {
        "trusted": fingerprints(text_of(os.path.join(home, BUNDLE))),
        "issuers": sorted({issuer.strip() for issuer in issuers if issuer}),
    }
