"""Certificates, secrets, logins and their rotation."""
