-- What lets this login act, by itself or as a member of another role, and the statement that takes it away. MEMBER, since
-- SET ROLE needs no inheritance.
WITH reachable AS (
    SELECT oid, rolname, rolname = current_user AS itself, rolcreaterole, rolcreatedb, rolreplication, rolbypassrls
    FROM pg_roles
    WHERE pg_has_role(oid, 'MEMBER') AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)
)
SELECT 'is a superuser' AS privilege, format('ALTER ROLE %I NOSUPERUSER;', current_user) AS fix
FROM pg_roles WHERE rolname = current_user AND rolsuper
UNION ALL
SELECT CASE WHEN itself THEN 'has ' || attribute
            ELSE 'is a member of ' || quote_ident(rolname) || ', which has ' || attribute END,
       CASE WHEN itself THEN format('ALTER ROLE %I NO%s;', current_user, attribute)
            ELSE format('REVOKE %I FROM %I;', rolname, current_user) END
FROM reachable,
     LATERAL (VALUES ('CREATEROLE', rolcreaterole), ('CREATEDB', rolcreatedb), ('REPLICATION', rolreplication),
                     ('BYPASSRLS', rolbypassrls)) AS attributes (attribute, given)
WHERE given
UNION ALL
SELECT 'is a member of ' || quote_ident(rolname), format('REVOKE %I FROM %I;', rolname, current_user)
FROM reachable
WHERE rolname IN ('pg_signal_backend', 'pg_signal_autovacuum_worker', 'pg_write_all_data', 'pg_maintain', 'pg_checkpoint',
                  'pg_create_subscription', 'pg_write_server_files', 'pg_read_server_files', 'pg_execute_server_program')
UNION ALL
SELECT 'owns the database ' || quote_ident(datname), format('ALTER DATABASE %I OWNER TO another_role;', datname)
FROM pg_database, reachable WHERE datdba = reachable.oid
ORDER BY 1
