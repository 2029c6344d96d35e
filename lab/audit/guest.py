"""A client that the fleet's authority vouches for, for the while of a question: some ports answer nobody else."""

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


@contextmanager
def identity(authorities: dict[str, Any]) -> Iterator[list[tuple[Path, Path]]]:
    """A certificate and its key by each of the vault's authorities, good for a day, in files that are gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="grunnfjell-judge-") as home:  # nobody else's to read
        found = []
        for name, held in authorities.items():
            key = ec.generate_private_key(ec.SECP256R1())
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "judge")])
            request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
            told = request.public_bytes(serialization.Encoding.PEM).decode()
            authority = authority_of(held["certificate"], held["key"])
            certificate_file, key_file = Path(home, f"{name}.pem"), Path(home, f"{name}-key.pem")
            certificate_file.write_text(
                signed(authority, told, "judge", "judge", ["judge"], 1, datetime.now(UTC)), encoding="utf-8"
            )
            key_file.write_bytes(
                key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
            )
            found.append((certificate_file, key_file))
        yield found
