//! `schedule-resume`: the end of a pause. It is `schedule-pause` the other way round.

use super::schedule_pause::PauseChange;

/// The command `schedule-resume`.
pub const COMMAND: PauseChange = PauseChange::Resume;
