//! Teams' door, from the wire to the wire: what goes out, and the app that brings it in.

mod checks;
mod manifest;
mod render;
mod render_any;
#[path = "../replies/mod.rs"]
mod replies;
