-- What a new Azure Database for PostgreSQL server has: the platform's superuser azuresu (who runs this), the group
-- azure_pg_admin, and the customer's admin, a member of it and no superuser.
CREATE ROLE azure_pg_admin NOLOGIN;
GRANT pg_monitor, pg_signal_backend TO azure_pg_admin WITH ADMIN OPTION;
DO $$
DECLARE
    predefined text;
BEGIN
    FOR predefined IN
        SELECT rolname FROM pg_roles
        WHERE rolname IN ('pg_read_all_data', 'pg_use_reserved_connections', 'pg_maintain')
    LOOP
        EXECUTE format('GRANT %I TO azure_pg_admin WITH ADMIN OPTION', predefined);
    END LOOP;
END
$$;
CREATE ROLE dbadmin LOGIN CREATEDB CREATEROLE REPLICATION IN ROLE azure_pg_admin;
