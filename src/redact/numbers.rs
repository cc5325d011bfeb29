//! Numbers that may be a person's: of cards in groups, and long ones in texts that applications raise.

use super::statement::MAX_SHOWN_DIGITS;

/// Bytes of a payment card's number in four groups with blanks between them, which the text begins with.
pub(super) fn card_length(text: &str) -> Option<usize> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ' ').unwrap_or(text.len());
    let groups: Vec<&str> = text[..end].trim_end().splitn(5, ' ').collect();
    let is_card = matches!(groups[..], [_, _, _, last, ..] if !last.is_empty())
        && groups[..3].iter().all(|group| group.len() == 4)
        && groups[3].len() <= 4;
    is_card.then(|| groups[..4].iter().map(|group| group.len() + 1).sum::<usize>() - 1)
}

/// The text with a mask for each number of more than [`MAX_SHOWN_DIGITS`] digits, separators between them included.
pub(super) fn without_long_numbers(text: &str) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let (before, number) = rest.split_at(start);
        let end = number.find(|c: char| !c.is_ascii_digit() && !".,'_".contains(c)).unwrap_or(number.len());
        let number = number[..end].trim_end_matches(|c: char| !c.is_ascii_digit());
        let digits = number.bytes().filter(u8::is_ascii_digit).count();
        shown.push_str(before);
        shown.push_str(if digits > MAX_SHOWN_DIGITS { "?" } else { number });
        rest = &rest[start + number.len()..];
    }
    shown + rest
}
