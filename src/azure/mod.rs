//! Azure: the only user of its crates.

pub mod identity;
