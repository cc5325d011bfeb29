//! Slack's door, from the wire to the wire: what comes in, what goes out, and what is made of the answers.

mod checks;
mod forms;
mod keyboards;
mod parse;
#[path = "../payload_leaves/mod.rs"]
mod payload_leaves;
mod render;
mod render_any;
#[path = "../sample_lines/mod.rs"]
mod sample_lines;
#[path = "../sample_replies/mod.rs"]
mod sample_replies;
mod send;
mod socket;
mod verify;
mod wire;
