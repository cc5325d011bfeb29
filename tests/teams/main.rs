//! Microsoft Teams: the door, the whole line behind it, and the pretend Teams that plays the other side.

#[path = "../bot/mod.rs"]
mod bot;
mod data;
mod door;
mod once;
mod people;
#[path = "../pretend_teams/mod.rs"]
mod pretend_teams;
mod scene;
mod wire;
