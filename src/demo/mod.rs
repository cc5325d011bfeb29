//! The demo, and the surroundings of the tests: a fake Slack workspace, throwaway PostgreSQL servers, the sample team on
//! them, and a stage that joins all that with a bot. Only the command line imports from here.

pub mod fake_slack;
pub mod harness;
pub mod postgres;
pub mod run;
pub mod sample;
