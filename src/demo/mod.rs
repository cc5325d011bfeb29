//! What the demo and the tests run against: a pretend Slack workspace, throwaway PostgreSQL servers, the sample team on
//! them, and a stage that joins all that with a bot. Nothing else in the program may import from here but the command line:
//! the demo uses the bot, never the other way round.

pub mod fake_slack;
pub mod files;
pub mod harness;
pub mod postgres;
pub mod run;
pub mod sample;
