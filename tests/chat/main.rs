//! The tests that speak chat: a real router, a real PostgreSQL, a pretend workspace as strict as Slack.

mod approval;
mod backup;
mod badinput;
mod copies;
mod crash;
mod door;
mod freeze;
mod guards;
mod hands;
mod inert;
mod once;
mod outage;
mod people;
mod place;
mod pool;
mod process;
mod reader;
mod record_down;
mod reuse;
mod rights;
mod rules;
mod scene;
mod schedule;
mod slots;
mod team;
mod where_to;
