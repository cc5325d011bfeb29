//! Microsoft Teams, from the wire to the wire: the door, the scenes played behind it, what goes out, and the app that brings it in.

#[path = "../bot_process/mod.rs"]
mod bot_process;
mod checks;
mod data;
mod exactly_once;
mod fake_teams;
mod forms;
mod ingress;
mod keyboards;
mod manifest;
mod mentions;
mod pace;
#[path = "../payload_leaves/mod.rs"]
mod payload_leaves;
mod payloads;
mod people;
mod refusals;
mod render;
mod render_any;
#[path = "../sample_lines/mod.rs"]
mod sample_lines;
#[path = "../sample_replies/mod.rs"]
mod sample_replies;
mod scenario;
#[path = "../slack_payloads/mod.rs"]
mod slack_payloads;
#[path = "../teams_payloads/mod.rs"]
mod teams_payloads;
mod wire;
