"""Queries for a PostgreSQL server's roles, databases and privileges."""

from __future__ import annotations

MARK = "Managed by Grunnfjell"
AUTH_SCHEMA = "pgbouncer"
# Directories of the databases in a cluster that nobody has used: template1, template0 and postgres.
OF_A_NEW_CLUSTER = {"1", "4", "5"}
# Returns a verifier only for an ordinary role that may log in, now, to this database.
AUTH_BODY = """
  SELECT r.rolname::text, r.rolpassword
  FROM pg_catalog.pg_authid r
  WHERE r.rolname = p_usename
    AND r.rolcanlogin
    AND NOT r.rolsuper AND NOT r.rolreplication AND NOT r.rolbypassrls
    AND (r.rolvaliduntil IS NULL OR r.rolvaliduntil > pg_catalog.now())
    AND pg_catalog.has_database_privilege(r.oid, pg_catalog.current_database(), 'CONNECT')
"""
AUTH_PATH = "pg_catalog, pg_temp"

SERVER_SQL = """
SELECT json_build_object(
  'major', current_setting('server_version_num')::int / 10000,
  'roles', (SELECT coalesce(json_agg(json_build_object(
      'name', a.rolname,
      'ordinary', NOT (a.rolsuper OR a.rolreplication OR a.rolbypassrls OR a.rolcreatedb OR a.rolcreaterole),
      'login', a.rolcanlogin,
      'connection_limit', a.rolconnlimit,
      'valid_until', CASE WHEN a.rolvaliduntil = 'infinity' THEN NULL ELSE extract(epoch FROM a.rolvaliduntil)::bigint END,
      'verifier', a.rolpassword,
      'member_of', (SELECT coalesce(json_agg(g.rolname), '[]')
                    FROM pg_auth_members m JOIN pg_authid g ON g.oid = m.roleid WHERE m.member = a.oid),
      'managed', shobj_description(a.oid, 'pg_authid') IS NOT DISTINCT FROM 'MARK',
      'settings', (SELECT coalesce(json_agg(c), '[]') FROM pg_db_role_setting s, unnest(s.setconfig) c
                   WHERE s.setrole = a.oid AND s.setdatabase = 0),
      'owns_in', (SELECT coalesce(json_agg(DISTINCT coalesce(b.datname, o.datname, 'postgres')), '[]')
                  FROM pg_shdepend d LEFT JOIN pg_database b ON b.oid = d.dbid
                  LEFT JOIN pg_database o ON d.classid = 'pg_database'::regclass AND o.oid = d.objid
                  WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = a.oid AND d.deptype = 'o'),
      'granted_in', (SELECT coalesce(json_agg(DISTINCT coalesce(b.datname, 'postgres')), '[]')
                     FROM pg_shdepend d LEFT JOIN pg_database b ON b.oid = d.dbid
                     WHERE d.refclassid = 'pg_authid'::regclass AND d.refobjid = a.oid AND d.deptype IN ('a', 'r', 'i'))
      )), '[]') FROM pg_authid a WHERE a.rolname !~ '^pg_'),
  'databases', (SELECT coalesce(json_agg(json_build_object(
      'name', b.datname,
      'owner', pg_get_userbyid(b.datdba),
      'public', b.datacl IS NULL OR EXISTS (SELECT FROM aclexplode(b.datacl) x WHERE x.grantee = 0),
      'connect', (SELECT coalesce(json_agg(DISTINCT pg_get_userbyid(x.grantee)), '[]') FROM aclexplode(b.datacl) x
                  WHERE x.privilege_type = 'CONNECT' AND x.grantee NOT IN (0, b.datdba))
      )), '[]') FROM pg_database b WHERE b.datname NOT IN ('template0', 'template1')));
""".replace("MARK", MARK)

# The state of each database's schema for PgBouncer's query. With explicit types, each operator is PostgreSQL's even if a
# session's search_path is not pinned.
DATABASE_SQL = """
SELECT json_build_object(
  'schema_owner', (SELECT pg_get_userbyid(nspowner) FROM pg_catalog.pg_namespace WHERE nspname = 'SCHEMA'::name),
  'schema_acl', (SELECT coalesce(json_agg(DISTINCT
                   CASE WHEN x.grantee = 0::pg_catalog.oid THEN 'public' ELSE pg_get_userbyid(x.grantee) END), '[]')
                 FROM pg_catalog.pg_namespace n, aclexplode(n.nspacl) x WHERE n.nspname = 'SCHEMA'::name),
  'functions', (SELECT coalesce(json_agg(json_build_object(
                   'owner', pg_get_userbyid(p.proowner), 'body', p.prosrc, 'definer', p.prosecdef,
                   'config', p.proconfig, 'acl', (SELECT coalesce(json_agg(DISTINCT
                     CASE WHEN x.grantee = 0::pg_catalog.oid THEN 'public' ELSE pg_get_userbyid(x.grantee) END), '[]')
                     FROM aclexplode(coalesce(p.proacl, acldefault('f'::"char", p.proowner))) x))), '[]')
                FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
                WHERE n.nspname = 'SCHEMA'::name AND p.proname = 'get_auth'::name));
""".replace("SCHEMA", AUTH_SCHEMA)
