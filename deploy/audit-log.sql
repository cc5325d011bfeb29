-- The database and the role of an audit log on a PostgreSQL server, for [store.postgres]. Run it with psql, as a role that may make
-- databases and roles, on a server that Countersign doesn't work on:
--
--     psql --file=deploy/audit-log.sql
--
-- Then give the role a password with \password countersign. Its first start makes the tables.

CREATE ROLE countersign LOGIN;
CREATE DATABASE countersign OWNER countersign TEMPLATE template0 ENCODING 'UTF8';
REVOKE ALL ON DATABASE countersign FROM PUBLIC;
