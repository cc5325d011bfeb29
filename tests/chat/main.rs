//! The tests that speak chat: a real router, a real PostgreSQL, a pretend workspace as strict as Slack.

mod approval;
mod crash;
mod freeze;
mod once;
mod outage;
mod process;
mod record_down;
mod reuse;
mod scene;
