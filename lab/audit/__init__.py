"""Third-party auditors run against a running fleet: ssh-audit, sslyze and lynis."""
