//! Limits of Teams.
