//! What the demo and the tests run against: throwaway PostgreSQL servers and the sample team on them.
//!
//! Nothing else in the program may import from here: the demo uses the bot, never the other way round.

pub mod postgres;
pub mod sample;
