-- The reset function, in the version that resets one database, and whether this login may call it. The call names every argument's type
-- and leaves none to a default: others may have created functions of its name in that schema. $1 in it is the database's oid.
SELECT format('%I.%I(0::oid, $1::int8::oid, 0::int8%s)', n.nspname, p.proname, CASE p.pronargs WHEN 4 THEN ', false' ELSE '' END) AS call,
       format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)) AS signature,
       has_function_privilege(p.oid, 'EXECUTE') AS may, has_schema_privilege(n.oid, 'USAGE') AS may_use,
       quote_ident(n.nspname) AS schema, d.oid::int8 AS dbid, quote_ident(current_user) AS role
FROM pg_extension e
JOIN pg_depend x ON x.refclassid = 'pg_extension'::regclass AND x.refobjid = e.oid AND x.deptype = 'e' AND x.classid = 'pg_proc'::regclass
JOIN pg_proc p ON p.oid = x.objid AND p.proname = 'pg_stat_statements_reset' AND p.pronargs IN (3, 4)
JOIN pg_namespace n ON n.oid = p.pronamespace
JOIN pg_database d ON d.datname = current_database()
WHERE e.extname = 'pg_stat_statements'
