"""The certificate authority of the fleet under test: issues valid and invalid certificates for clients in tests."""

from __future__ import annotations

import json
import os
import ssl
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from ansible.constants import DEFAULT_VAULT_ID_MATCH
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible_collections.grunnfjell.platform.plugins.plugin_utils.trust.pki import authority_of, new_authority, signed
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

REPOSITORY = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Authority:
    """certificate, key: PEM.  home: directory for its files and those that it issues."""

    certificate: str
    key: str
    home: Path

    @property
    def bundle(self) -> str:
        path = self.home / "authority.pem"
        path.write_text(self.certificate, encoding="utf-8")
        return str(path)

    def issue(self, name: str, names: list[str] | None = None, days: int = 1, ago_days: float = 0) -> tuple[str, str]:
        """Paths of a new certificate and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        request_pem = request.public_bytes(serialization.Encoding.PEM).decode()
        issued_at = datetime.now(UTC) - timedelta(days=ago_days)
        certificate = signed(
            authority_of(self.certificate, self.key), request_pem, name, "test", names or [name], days, issued_at
        )
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        paths = self.home / f"{name}-{issued_at:%j%f}.pem", self.home / f"{name}-{issued_at:%j%f}-key.pem"
        for path, text in zip(paths, (certificate, private.decode()), strict=True):
            path.write_text(text, encoding="utf-8")
        return str(paths[0]), str(paths[1])

    def context(self, identity: tuple[str, str] | None) -> ssl.SSLContext:
        """A client that trusts this authority, checks the name, and presents a certificate, or none."""
        context = ssl.create_default_context(cafile=self.bundle)
        if identity:
            context.load_cert_chain(*identity)
        return context


def unknown_authority(home: Path) -> Authority:
    """An authority that no host trusts."""
    home.mkdir(exist_ok=True)
    pair = new_authority("unknown")
    return Authority(pair["certificate"], pair["key"], home)


def issuing(inventory: Path) -> str:
    """The value of pki_authority: which of several authorities issues. Asking Ansible takes a second."""
    ask = [Path(sys.executable).parent / "ansible", "-i", inventory, "all", "-m", "debug", "-a", "var=pki_authority"]
    answer = subprocess.run(
        [*ask, "-o", "--limit", "all[0]"], cwd=REPOSITORY, env=os.environ | {"ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(answer.stdout.partition("=>")[2])["pki_authority"]


def of_inventory(inventory: Path, home: Path) -> Authority:
    """The authority that issues the certificates of a fleet, from its vault."""
    password = (REPOSITORY / ".vault-password").read_text(encoding="utf-8").strip()
    vault = VaultLib([(DEFAULT_VAULT_ID_MATCH, VaultSecret(password.encode()))])
    pairs = yaml.safe_load(vault.decrypt((inventory / "group_vars/all/vault.yml").read_bytes()))["vault_pki_authorities"]
    name = next(iter(pairs)) if len(pairs) == 1 else issuing(inventory)
    return Authority(pairs[name]["certificate"], pairs[name]["key"], home)
