//! Durations and times as people type and read them: one grammar for commands, command files and the configuration.

use jiff::{Span, SpanRelativeTo, Timestamp, fmt::friendly::SpanParser};
use std::time::Duration;

/// The longest duration in a command: ten years, in seconds.
const MAX_COMMAND_S: u64 = 315_360_000;

/// Reads "30s", "5 min", "1h30m", "2 days" or "500ms"; a day has 24 hours. The units that jiff knows, without fractions
/// and signs.
///
/// # Errors
/// A text to type instead, also for weeks, months and years.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim().to_ascii_lowercase();
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || c == ' ');
    let span = SpanParser::new().parse_span(&text).ok().filter(|span| is_plain && is_exact(span));
    let duration = span.and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()).ok());
    duration
        .and_then(|duration| Duration::try_from(duration).ok())
        .ok_or_else(|| "a duration is a whole number and a unit: 500ms, 30s, 15 min, 1h30m, 12h or 7d".into())
}

/// True without a unit whose length the calendar decides.
fn is_exact(span: &Span) -> bool {
    span.get_weeks() == 0 && span.get_months() == 0 && span.get_years() == 0
}

/// Whole seconds of a duration as [`parse_duration`] reads it; `None` for what it refuses, for fractions of a second and
/// beyond ten years.
pub fn duration_seconds(text: &str) -> Option<u64> {
    let duration = parse_duration(text).ok()?;
    (duration.subsec_nanos() == 0 && duration.as_secs() <= MAX_COMMAND_S).then_some(duration.as_secs())
}

/// The shortest way to type a duration: "90s" stays "90s", 120 s are "2m".
pub fn format_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    if milliseconds == 0 {
        return "0s".to_owned();
    }
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let unit = units.into_iter().find(|(length, _)| milliseconds.is_multiple_of(*length));
    let (length, unit) = unit.unwrap_or((1, "ms"));
    format!("{}{unit}", milliseconds / length)
}

/// Seconds in the two largest units: "3 min 12 s", "2 d 4 h".
pub fn duration(seconds: f64) -> String {
    let whole = seconds.max(0.0) as u64;
    let (d, h, m, s) = (whole / 86_400, whole / 3_600 % 24, whole / 60 % 60, whole % 60);
    match (d, h, m) {
        (0, 0, 0) if seconds < 10.0 => format!("{:.1} s", seconds.max(0.0)),
        (0, 0, 0) => format!("{s} s"),
        (0, 0, _) => format!("{m} min {s} s"),
        (0, _, _) => format!("{h} h {m} min"),
        _ => format!("{d} d {h} h"),
    }
}

/// A time to the second: "2026-11-22 18:57:03 UTC".
pub fn moment(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// A time to the minute: "2026-11-22 18:57 UTC".
pub fn minute(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}
