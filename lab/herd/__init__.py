"""The thundering herd: hundreds of worker processes return to a long queue at once, with PgBouncer and without."""
