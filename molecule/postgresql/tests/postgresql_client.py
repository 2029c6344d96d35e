"""What a client of PostgreSQL needs on its host."""

PKI = "/etc/grunnfjell/pki"
CERTIFICATE = f"sslcert={PKI}/postgresql/certificate.pem sslkey={PKI}/postgresql/key.pem"
