//! Countersign: a team's PostgreSQL runbook, run from chat, with a second person for everything that destroys.

pub mod demo;
