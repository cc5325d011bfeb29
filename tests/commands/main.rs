//! Every question of the runbook, asked of a real PostgreSQL as the unprivileged reader: in peace, in an incident, without
//! the rights it needs, with servers that are down, hang or lack an extension, and on each major version of PostgreSQL.

mod backups;
mod catalog_objects;
#[path = "../slack/checks.rs"]
mod checks;
mod connections;
mod coverage;
mod custom_sql;
mod degraded;
mod encodings;
mod estimates;
mod functions;
mod golden;
mod harness;
mod health;
mod healthy;
mod idle;
mod incident;
mod index_age;
#[path = "../servers/installed.rs"]
mod installed;
mod lock_tree;
mod maintenance;
mod majors;
mod migrations;
mod next_steps;
mod privileges;
mod psql;
mod record;
mod replication;
mod roles;
mod sequences;
mod sessions;
mod settings;
#[path = "../servers/shifted.rs"]
mod shifted;
mod statistics;
mod storage;
