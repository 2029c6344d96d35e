"""The herd: hundreds of worker processes come back to a long queue at once, with PgBouncer and straight at PostgreSQL."""
