"""Client certificates of the fleet's authorities, valid while a scan runs: some ports answer nobody else."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust.pki import authority_of, signed
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

NAME = "audit"


@contextmanager
def identities(authorities: dict[str, Any]) -> Iterator[list[tuple[Path, Path]]]:
    """A certificate and its key from each authority in the vault, valid for a day, in files that are removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="grunnfjell-audit-") as home:  # readable by this user only
        files = []
        for name, authority in authorities.items():
            key = ec.generate_private_key(ec.SECP256R1())
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
            request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
            request_pem = request.public_bytes(serialization.Encoding.PEM).decode()
            certificate_file, key_file = Path(home, f"{name}.pem"), Path(home, f"{name}-key.pem")
            issuer = authority_of(authority["certificate"], authority["key"])
            certificate = signed(issuer, request_pem, NAME, NAME, [NAME], 1, datetime.now(UTC))
            certificate_file.write_text(certificate, encoding="utf-8")
            key_file.write_bytes(
                key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            )
            files.append((certificate_file, key_file))
        yield files
