-- What this login is missing of the needs in $1, in the database that it is connected to: the need, the problem as it follows the
-- database's or the server's name, and the fix. `subject` is the owner of the tables, or the schema, that a row
-- is about. Rows of the table with the oid $2, else of any table, are to be deleted.
WITH me AS (
  SELECT quote_ident(rolname) AS role, rolinherit AS inherits, current_setting('server_version_num')::int AS version
  FROM pg_roles WHERE rolname = current_user
), roles AS (
  -- Each role with the statements that let this login use its privileges: since 16 inheritance belongs to the membership, and before to
  -- the member.
  SELECT r.oid, r.rolname AS name, r.rolsuper AS is_superuser, pg_has_role(r.oid, 'USAGE') AS has,
         concat_ws('; ', CASE WHEN me.inherits OR me.version >= 160000 OR NOT pg_has_role(r.oid, 'MEMBER')
                              THEN format('GRANT %I TO %s', r.rolname, me.role)
                                   || CASE WHEN me.version >= 160000 AND (pg_has_role(r.oid, 'MEMBER') OR NOT me.inherits) THEN ' WITH INHERIT TRUE' ELSE '' END END,
                   CASE WHEN me.version < 160000 AND NOT me.inherits THEN format('ALTER ROLE %s INHERIT', me.role) END) AS fix
  FROM pg_roles r, me
), monitoring AS (
  SELECT m.has, m.fix, s.has AS sees_stats, s.fix AS stats_fix, c.has AS sees_settings, c.fix AS settings_fix
  FROM roles m, roles s, roles c WHERE m.name = 'pg_monitor' AND s.name = 'pg_read_all_stats' AND c.name = 'pg_read_all_settings'
), relations AS (
  SELECT c.oid, c.relname, c.relkind, c.relowner, o.name AS owner, o.is_superuser AS owner_is_superuser, o.has AS has_owner, o.fix AS owner_fix,
         n.nspname, has_schema_privilege(n.oid, 'USAGE') AS entered, has_schema_privilege(o.oid, n.oid, 'USAGE') AS owner_enters,
         format('%I.%I', n.nspname, c.relname) AS qualified
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN roles o ON o.oid = c.relowner
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
), missing (need, problem, fix, subject) AS (
  SELECT 'sessions', 'see other roles'' sessions', CASE WHEN has THEN stats_fix ELSE fix END, NULL::text
  FROM monitoring WHERE NOT sees_stats
  UNION ALL
  SELECT 'settings', 'see every setting', CASE WHEN has THEN settings_fix ELSE fix END, NULL
  FROM monitoring WHERE NOT sees_settings
  UNION ALL
  SELECT 'disk-use', 'see the sizes of WAL and temporary files',
         concat_ws('; ', CASE WHEN m.has AND NOT m.sees_stats THEN m.stats_fix WHEN NOT m.has THEN m.fix END,
                   string_agg(CASE WHEN NOT f.may AND (m.has OR NOT f.monitors_may) THEN format('GRANT EXECUTE ON FUNCTION %s TO %s', f.function, me.role) END,
                              '; ' ORDER BY f.function)), NULL
  FROM (SELECT format('pg_catalog.%s', oid::regprocedure) AS function, has_function_privilege(oid, 'EXECUTE') AS may,
               has_function_privilege('pg_monitor', oid, 'EXECUTE') AS monitors_may
        FROM pg_proc WHERE oid IN ('pg_ls_waldir()'::regprocedure, 'pg_ls_tmpdir(oid)'::regprocedure)) f, monitoring m, me
  GROUP BY me.role, m.has, m.fix, m.sees_stats, m.stats_fix HAVING NOT (m.sees_stats AND bool_and(f.may))
  UNION ALL
  SELECT 'signal', 'end other roles'' sessions', fix, NULL
  FROM roles WHERE name = 'pg_signal_backend' AND NOT has
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
         CASE WHEN me.version >= 140000 THEN (SELECT fix FROM roles WHERE name = 'pg_read_all_data')
              ELSE string_agg(DISTINCT concat_ws('; ', CASE WHEN NOT r.entered THEN format('GRANT USAGE ON SCHEMA %I TO %s', r.nspname, me.role) END,
                                                 format('GRANT SELECT ON ALL TABLES IN SCHEMA %1$I TO %2$s; GRANT SELECT ON ALL SEQUENCES IN SCHEMA %1$I TO %2$s', r.nspname, me.role)), '; ') END, NULL
  FROM relations r, me
  WHERE NOT (r.entered AND CASE r.relkind WHEN 'S' THEN has_sequence_privilege(r.oid, 'SELECT') ELSE has_table_privilege(r.oid, 'SELECT') END)
  GROUP BY me.role, me.version HAVING count(*) > 0
  UNION ALL
  SELECT 'maintenance', 'maintain its tables',
         CASE WHEN me.version < 170000 AND t.owner_is_superuser AND bool_or(NOT t.may)
              THEN format('Give %s to a role that is no superuser, with ALTER TABLE … OWNER TO ….', min(t.qualified) FILTER (WHERE NOT t.may))
              ELSE concat_ws('; ', CASE WHEN bool_or(NOT t.may)
                                        THEN CASE WHEN me.version >= 170000 THEN (SELECT fix FROM roles WHERE name = 'pg_maintain') ELSE t.owner_fix END END,
                             string_agg(DISTINCT CASE WHEN NOT (t.entered OR NOT t.may AND me.version < 170000 AND t.owner_enters)
                                                      THEN format('GRANT USAGE ON SCHEMA %I TO %s', t.nspname, me.role) END, '; ')) END, t.owner::text
  FROM (SELECT r.*, r.has_owner OR pg_has_role((SELECT datdba FROM pg_database WHERE datname = current_database()), 'USAGE')
                    OR CASE WHEN me.version >= 170000
                            THEN has_table_privilege(r.oid, CASE WHEN me.version >= 170000 THEN 'MAINTAIN' ELSE 'SELECT' END) ELSE false END AS may
        FROM relations r, me WHERE r.relkind <> 'S') t, me
  WHERE NOT (t.may AND t.entered)
  GROUP BY t.owner, t.owner_is_superuser, t.owner_fix, me.role, me.version
  UNION ALL
  SELECT 'migration-record', 'write Prisma''s migration table',
         -- The owner's role brings what the owner may do; where that isn't enough, or the owner is a superuser, each privilege is granted.
         CASE WHEN r.has_owner OR r.owner_is_superuser OR NOT (r.owner_enters AND r.owner_writes)
              THEN concat_ws('; ', CASE WHEN NOT r.entered THEN format('GRANT USAGE ON SCHEMA %I TO %s', r.nspname, me.role) END,
                             CASE WHEN NOT r.may THEN format('GRANT SELECT, INSERT, UPDATE ON %s TO %s', r.qualified, me.role) END)
              ELSE r.owner_fix END, r.nspname::text
  FROM (SELECT r.*, has_table_privilege(r.oid, 'SELECT') AND has_table_privilege(r.oid, 'INSERT') AND has_table_privilege(r.oid, 'UPDATE') AS may,
               has_table_privilege(r.relowner, r.oid, 'SELECT') AND has_table_privilege(r.relowner, r.oid, 'INSERT')
               AND has_table_privilege(r.relowner, r.oid, 'UPDATE') AS owner_writes
        FROM relations r WHERE r.relname = '_prisma_migrations' AND r.relkind IN ('r', 'p')) r, me
  WHERE NOT (r.entered AND r.may)
  UNION ALL
  SELECT 'row-deletion', format('delete rows of %s', r.qualified),
         concat_ws('; ', CASE WHEN NOT r.entered THEN format('GRANT USAGE ON SCHEMA %I TO %s', r.nspname, me.role) END,
                   'GRANT ' || NULLIF(concat_ws(', ', CASE WHEN NOT r.reads THEN 'SELECT' END, CASE WHEN NOT r.deletes THEN 'DELETE' END), '')
                   || format(' ON %s TO %s', r.qualified, me.role)), NULL
  FROM (SELECT n.nspname, format('%I.%I', n.nspname, c.relname) AS qualified, has_schema_privilege(n.oid, 'USAGE') AS entered,
               has_table_privilege(c.oid, 'SELECT') AS reads, has_table_privilege(c.oid, 'DELETE') AS deletes
        FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $2::int8::oid) r, me
  WHERE NOT (r.entered AND r.reads AND r.deletes)
  UNION ALL
  SELECT 'row-deletion', 'delete rows of any table',
         COALESCE((SELECT string_agg(DISTINCT format('GRANT USAGE ON SCHEMA %I TO %s', r.nspname, me.role), '; ')
                   FROM relations r
                   WHERE r.relkind IN ('r', 'p') AND NOT r.entered AND has_table_privilege(r.oid, 'SELECT') AND has_table_privilege(r.oid, 'DELETE')),
                  'Grant SELECT and DELETE on the tables that `purge` may work on, and on no other.'), NULL
  FROM me
  WHERE $2::int8 IS NULL AND EXISTS (SELECT FROM relations WHERE relkind IN ('r', 'p'))
    AND NOT EXISTS (SELECT FROM relations r
                    WHERE r.relkind IN ('r', 'p') AND r.entered AND has_table_privilege(r.oid, 'SELECT') AND has_table_privilege(r.oid, 'DELETE'))
)
SELECT s.need, s.problem, s.fix, s.subject
FROM (
  SELECT 'statements' AS need, 'doesn''t load pg_stat_statements' AS problem,
         'Add pg_stat_statements to shared_preload_libraries and restart the server.' AS fix, NULL::text AS subject, 0 AS rank
  WHERE NOT EXISTS (SELECT FROM pg_settings WHERE name = 'pg_stat_statements.max')
  UNION ALL
  SELECT 'statements', 'has no pg_stat_statements', 'CREATE EXTENSION pg_stat_statements WITH SCHEMA public;', NULL, 1
  WHERE NOT EXISTS (SELECT FROM extension)
  UNION ALL
  SELECT m.need, format('doesn''t let %s %s', me.role, m.problem),
         m.fix || CASE WHEN m.fix ~ '\.$' THEN '' ELSE ';' END, m.subject, 2
  FROM missing m, me
) s
WHERE s.need = ANY ($1::text[])
ORDER BY s.rank, s.need, s.subject, s.fix
