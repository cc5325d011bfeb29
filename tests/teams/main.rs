//! Teams' door, from the wire to the wire: what goes out.

mod checks;
mod render;
mod render_any;
#[path = "../replies/mod.rs"]
mod replies;
