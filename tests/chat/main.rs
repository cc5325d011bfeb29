//! The tests that speak chat: a real router, a real PostgreSQL, a pretend workspace as strict as Slack.

mod approval;
mod backup;
mod badinput;
mod door;
mod guards;
mod hands;
mod inert;
mod people;
mod place;
mod reader;
mod rules;
mod scene;
mod where_to;
