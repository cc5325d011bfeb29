//! Every question of the runbook, asked of a real PostgreSQL as the unprivileged reader: in peace, in an incident, without
//! the rights it needs, and with servers that are down, hang or lack an extension.

mod incident;
mod lock_tree;
mod psql;
mod quiet;
mod record;
mod trouble;
mod world;
