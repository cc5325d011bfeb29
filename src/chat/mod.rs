//! The chat platforms, one module each: verify, parse, render, send; and the terminal, the door that works when chat is
//! down. Each knows its own wire format and the neutral values of [`crate::model`]; it decides nothing, and never imports
//! another. What two of them do alike stands beside them: [`render`].

use crate::model::Reply;
use crate::platform::{Platform, SendError};

mod render;
pub mod slack;
pub mod teams;
pub mod terminal;

/// Refuses a plan that would be cut. The workflow checks `fits` before it shows one; this is the second check.
fn refuse_cut_plan(platform: &impl Platform, reply: &Reply) -> Result<(), SendError> {
    if reply.indivisible && platform.fits(reply).is_err() {
        return Err(SendError::Refused("plan_too_large".to_owned()));
    }
    Ok(())
}
