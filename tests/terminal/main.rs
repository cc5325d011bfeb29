//! The terminal's door: the real program on a real PostgreSQL, as a person at a terminal uses it, and its answers as text.

mod check;
mod every_command;
mod files;
mod generate;
mod harness;
mod init;
mod install;
mod needs;
mod new_command;
mod pooler;
mod queries;
mod recovery;
mod render;
mod requests;
mod rights;
#[path = "../sample_replies/mod.rs"]
mod sample_replies;
mod store_copy;
mod store_server;
mod verify;
