"""How a test begins a session of PostgreSQL's superuser: in its own database an application may plant operators and functions."""

from __future__ import annotations

PSQL = "env PGOPTIONS=-csearch_path=pg_catalog,pg_temp runuser -u postgres -- psql -XqAtw -v ON_ERROR_STOP=1"
