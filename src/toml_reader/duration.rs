//! Durations as people write them in a file or a message: one whole number and one unit. No dates, no calendars: a day
//! has 24 hours.

use std::time::Duration;

/// Units and their length in milliseconds.
const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Reads "500ms", "30s", "15m", "12h" or "7d". The error says what would be right.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let right = "a duration is a whole number and a unit: 500ms, 30s, 15m, 12h or 7d";
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let Some((_, milliseconds)) = UNITS.iter().find(|(name, _)| *name == unit) else {
        return Err(right.into());
    };
    if number.is_empty() {
        return Err(right.into());
    }
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(*milliseconds))
        .map(Duration::from_millis)
        .ok_or_else(|| "that is longer than any duration can be".into())
}

/// The shortest way to write a duration: "90s" stays "90s", 120 s are "2m".
pub fn format_duration(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let whole = UNITS
        .iter()
        .rev()
        .find(|(_, unit)| milliseconds > 0 && milliseconds.is_multiple_of(u128::from(*unit)));
    match whole {
        Some((name, unit)) => format!("{}{name}", milliseconds / u128::from(*unit)),
        None => "0s".into(),
    }
}
