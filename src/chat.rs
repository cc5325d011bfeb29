//! The chat platforms, one module each: verify, parse, render, send. A platform knows its own wire format and the neutral
//! values of [`crate::message`]; it decides nothing, and never imports another platform.

pub mod slack;
