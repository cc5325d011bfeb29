//! The terminal's door: the real program on a real PostgreSQL, as a person at a terminal uses it, and its answers as text.

mod asked;
mod check;
mod looks;
mod read;
mod render;
#[path = "../replies/mod.rs"]
mod replies;
mod world;
