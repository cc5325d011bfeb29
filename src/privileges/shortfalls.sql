-- What this login is missing of the needs in $1, in the database that it is connected to: the need, the problem as it follows the
-- database's or the server's name, and the mend. `subject` is the owner of the tables, or the schema, that a row
-- is about.
WITH me AS (
  SELECT quote_ident(current_user) AS role, current_setting('server_version_num')::int AS version
), relations AS (
  SELECT c.oid, c.relname, c.relkind, c.relowner, o.rolname AS owner, o.rolsuper AS owner_is_superuser, n.nspname,
         has_schema_privilege(n.oid, 'USAGE') AS entered, c.oid::regclass::text AS relation, format('%I.%I', n.nspname, c.relname) AS qualified
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner
  WHERE c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'm', 'S') AND n.nspname !~ '^(pg_|information_schema)'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
), extension AS (
  SELECT e.oid, n.oid AS schema_oid, n.nspname AS schema, has_schema_privilege(n.oid, 'USAGE') AS entered
  FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'pg_stat_statements'
), functions AS (
  SELECT p.oid, p.proname, p.pronargs, has_function_privilege(p.oid, 'EXECUTE') AS may
  FROM extension e
  JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e' AND d.classid = 'pg_proc'::regclass
  JOIN pg_proc p ON p.oid = d.objid
), creation AS (
  SELECT CASE WHEN current_setting('azure.extensions', true) IS NOT NULL
              THEN COALESCE((SELECT pg_has_role(oid, 'USAGE') FROM pg_roles WHERE rolname = 'azure_pg_admin'), false)
              WHEN COALESCE(v.superuser, true) AND NOT COALESCE(v.trusted, false) THEN (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
              ELSE has_database_privilege(current_database(), 'CREATE') END AS may
  FROM (SELECT 1) one
  LEFT JOIN pg_available_extensions x ON x.name = 'pg_stat_statements'
  -- 13 is the first version that has `trusted`.
  LEFT JOIN pg_available_extension_versions v ON v.name = x.name AND v.version = x.default_version
), missing (need, problem, mend, subject) AS (
  SELECT 'sessions', 'see other roles'' sessions', format('GRANT pg_monitor TO %s', role), NULL::text
  FROM me WHERE NOT pg_has_role('pg_read_all_stats', 'USAGE')
  UNION ALL
  SELECT 'settings', 'see every setting', format('GRANT pg_monitor TO %s', role), NULL
  FROM me WHERE NOT pg_has_role('pg_read_all_settings', 'USAGE')
  UNION ALL
  SELECT 'disk-use', 'see the sizes of WAL and temporary files', format('GRANT pg_monitor TO %s', role), NULL
  FROM me WHERE NOT (has_function_privilege('pg_ls_waldir()', 'EXECUTE') AND has_function_privilege('pg_ls_tmpdir(oid)', 'EXECUTE')
                     AND pg_has_role('pg_read_all_stats', 'USAGE'))
  UNION ALL
  SELECT 'signal', 'end other roles'' sessions', format('GRANT pg_signal_backend TO %s', role), NULL
  FROM me WHERE NOT pg_has_role('pg_signal_backend', 'USAGE')
  UNION ALL
  SELECT 'sequences', 'read every sequence',
         format('GRANT SELECT ON ALL SEQUENCES IN SCHEMA %I TO %s', r.nspname, me.role), NULL
  FROM relations r, me
  WHERE r.relkind = 'S' AND NOT CASE r.relkind WHEN 'S' THEN has_sequence_privilege(r.oid, 'SELECT,USAGE') END
  GROUP BY r.nspname, me.role
  UNION ALL
  SELECT 'migration-history', 'read Prisma''s migration table',
         concat_ws('; ', CASE WHEN NOT r.entered THEN format('GRANT USAGE ON SCHEMA %I TO %s', r.nspname, me.role) END,
                   CASE WHEN NOT has_table_privilege(r.oid, 'SELECT') THEN format('GRANT SELECT ON %s TO %s', r.qualified, me.role) END), NULL
  FROM relations r, me
  WHERE r.relname = '_prisma_migrations' AND r.relkind IN ('r', 'p') AND NOT (r.entered AND has_table_privilege(r.oid, 'SELECT'))
  UNION ALL
  SELECT 'statements', 'use pg_stat_statements',
         concat_ws('; ', CASE WHEN NOT e.entered THEN format('GRANT USAGE ON SCHEMA %I TO %s', e.schema, me.role) END,
                   CASE WHEN NOT f.may THEN format('GRANT EXECUTE ON FUNCTION %s TO %s', f.oid::regprocedure, me.role) END), NULL
  FROM extension e LEFT JOIN functions f ON f.proname = 'pg_stat_statements', me WHERE NOT (e.entered AND COALESCE(f.may, true))
  UNION ALL
  SELECT 'statements-reset', 'reset pg_stat_statements',
         concat_ws('; ', CASE WHEN NOT e.entered THEN format('GRANT USAGE ON SCHEMA %I TO %s', e.schema, me.role) END,
                   CASE WHEN NOT f.may THEN format('GRANT EXECUTE ON FUNCTION %s TO %s', f.oid::regprocedure, me.role) END), NULL
  FROM extension e JOIN functions f ON f.proname = 'pg_stat_statements_reset' AND f.pronargs IN (3, 4), me WHERE NOT (e.entered AND f.may)
  UNION ALL
  SELECT 'statements-creation', 'create pg_stat_statements', 'CREATE EXTENSION pg_stat_statements WITH SCHEMA public', NULL
  FROM creation WHERE NOT EXISTS (SELECT FROM extension) AND NOT COALESCE(may, false)
  UNION ALL
  SELECT 'all-tables', 'read every table',
         CASE WHEN me.version >= 140000 THEN format('GRANT pg_read_all_data TO %s', me.role)
              ELSE string_agg(DISTINCT concat_ws('; ', CASE WHEN NOT r.entered THEN format('GRANT USAGE ON SCHEMA %I TO %s', r.nspname, me.role) END,
                                                 format('GRANT SELECT ON ALL TABLES IN SCHEMA %1$I TO %2$s; GRANT SELECT ON ALL SEQUENCES IN SCHEMA %1$I TO %2$s', r.nspname, me.role)), '; ') END, NULL
  FROM relations r, me
  WHERE NOT (r.entered AND CASE r.relkind WHEN 'S' THEN has_sequence_privilege(r.oid, 'SELECT') ELSE has_table_privilege(r.oid, 'SELECT') END)
  GROUP BY me.role, me.version HAVING count(*) > 0
  UNION ALL
  SELECT 'maintenance', 'maintain its tables',
         CASE WHEN me.version >= 170000 THEN format('GRANT pg_maintain TO %s', me.role)
              WHEN r.owner_is_superuser THEN format('Give %s to a role that is no superuser, with ALTER TABLE … OWNER TO ….', min(r.qualified))
              ELSE format('GRANT %I TO %s', r.owner, me.role) END, r.owner::text
  FROM relations r, me
  WHERE r.relkind <> 'S' AND NOT pg_has_role(r.relowner, 'USAGE')
    AND NOT pg_has_role((SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE')
    AND NOT CASE WHEN me.version >= 170000
                 THEN has_table_privilege(r.oid, CASE WHEN me.version >= 170000 THEN 'MAINTAIN' ELSE 'SELECT' END) ELSE false END
  GROUP BY r.owner, r.owner_is_superuser, me.role, me.version
  UNION ALL
  SELECT 'migration-record', 'write Prisma''s migration table',
         CASE WHEN r.owner_is_superuser
              THEN format('GRANT SELECT, INSERT, UPDATE ON %s TO %s', r.qualified, me.role) ELSE format('GRANT %I TO %s', r.owner, me.role) END, r.nspname::text
  FROM relations r, me
  WHERE r.relname = '_prisma_migrations' AND r.relkind IN ('r', 'p')
    AND NOT (r.entered AND has_table_privilege(r.oid, 'SELECT') AND has_table_privilege(r.oid, 'INSERT') AND has_table_privilege(r.oid, 'UPDATE'))
  UNION ALL
  SELECT 'row-deletion', 'delete rows of any table', 'Grant SELECT and DELETE on the tables that `purge` may work on, and on no other.', NULL
  FROM me
  WHERE EXISTS (SELECT FROM relations WHERE relkind IN ('r', 'p'))
    AND NOT EXISTS (SELECT FROM relations r
                    WHERE r.relkind IN ('r', 'p') AND r.entered AND has_table_privilege(r.oid, 'SELECT') AND has_table_privilege(r.oid, 'DELETE'))
)
SELECT s.need, s.problem, s.mend, s.subject
FROM (
  SELECT 'statements' AS need, 'doesn''t load pg_stat_statements' AS problem,
         'Add pg_stat_statements to shared_preload_libraries and restart the server.' AS mend, NULL::text AS subject, 0 AS rank
  WHERE NOT EXISTS (SELECT FROM pg_settings WHERE name = 'pg_stat_statements.max')
  UNION ALL
  SELECT 'statements', 'has no pg_stat_statements', 'CREATE EXTENSION pg_stat_statements WITH SCHEMA public;', NULL, 1
  WHERE NOT EXISTS (SELECT FROM extension)
  UNION ALL
  SELECT m.need, format('doesn''t let %s %s', me.role, m.problem),
         m.mend || CASE WHEN m.mend ~ '\.$' THEN '' ELSE ';' END, m.subject, 2
  FROM missing m, me
) s
WHERE s.need = ANY ($1::text[])
ORDER BY s.rank, s.need, s.subject, s.mend
