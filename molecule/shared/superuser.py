"""A safe superuser session of PostgreSQL: an application may have planted operators and functions in its database."""

from __future__ import annotations

PSQL = "env PGOPTIONS=-csearch_path=pg_catalog,pg_temp runuser -u postgres -- psql -XqAtw -v ON_ERROR_STOP=1"
