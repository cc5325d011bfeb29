//! The chat platforms, one module each: verify, parse, render, send; and the terminal, the door that works when chat is
//! down. Each knows its own wire format and the neutral values of [`crate::message`]; it decides nothing, and never imports
//! another. What two of them do alike stands beside them: [`render`].

mod render;
pub mod slack;
pub mod teams;
pub mod terminal;
