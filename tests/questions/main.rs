//! Every question of the runbook, asked of a real PostgreSQL as the unprivileged reader: in peace, in an incident, without
//! the rights it needs, and with servers that are down, hang or lack an extension.

mod backups;
mod incident;
mod migrations;
mod psql;
mod quiet;
mod record;
mod replication;
mod roles;
mod storage;
mod trouble;
mod world;
