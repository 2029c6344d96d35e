"""What a client of PgBouncer needs on its host."""

from __future__ import annotations

PKI = "/etc/grunnfjell/pki"
PASSFILE = "/run/grunnfjell-test-pgpass"
# A client of a bouncer beyond loopback verifies it, and presents a certificate. Root may read this one.
VERIFIED = {
    "PGSSLMODE": "verify-full",
    "PGSSLROOTCERT": f"{PKI}/authorities.pem",
    "PGSSLCERT": f"{PKI}/pgbouncer/certificate.pem",
    "PGSSLKEY": f"{PKI}/pgbouncer/key.pem",
}


def shell(environment: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in environment.items())
