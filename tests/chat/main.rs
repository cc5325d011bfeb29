//! The tests that speak chat: a real router, a real PostgreSQL, a pretend workspace as strict as Slack.

mod approval;
mod backup;
mod hands;
mod people;
mod scene;
