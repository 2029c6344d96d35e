"""What an operator reads: status, residency, acceptance, dead letters."""
