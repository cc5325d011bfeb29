//! The tests that speak chat: a real router, a real PostgreSQL, a pretend workspace as strict as Slack.

mod approval;
mod backup;
mod crash;
mod freeze;
mod hands;
mod once;
mod outage;
mod people;
mod process;
mod record_down;
mod reuse;
mod scene;
