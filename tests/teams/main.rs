//! Microsoft Teams, from the wire to the wire: the door, the scenes played behind it, what goes out, and the app that brings it in.

#[path = "../bot/mod.rs"]
mod bot;
mod checks;
mod data;
mod door;
mod manifest;
mod once;
mod people;
mod playground;
#[path = "../pretend_teams/mod.rs"]
mod pretend_teams;
mod render;
mod render_any;
#[path = "../replies/mod.rs"]
mod replies;
mod scene;
mod wire;
