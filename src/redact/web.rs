//! Addresses of web pages that a person wrote: without users, queries, fragments, and what looks like a secret in the path.

use super::message::before;
use super::patterns;

/// The address of a web page, without what can hold a secret; `None` if it isn't certainly one.
pub(super) fn link(word: &str) -> Option<String> {
    let (scheme, rest) = word.split_once("://")?;
    if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
        return None;
    }
    let authority = before(rest, |c| matches!(c, '/' | '?' | '#' | '"' | '\''));
    let address = &rest[authority.len()..];
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (name, port) = host.split_once(':').unwrap_or((host, ""));
    let name_is_plain = name.chars().all(|c| c.is_alphanumeric() || "-._,;)".contains(c));
    // A slash in a password ends the authority too early.
    let is_certain = name_is_plain
        && !name.is_empty()
        && port.chars().all(|c| c.is_ascii_digit() || ",.;)".contains(c))
        && !(authority.contains(':') && address.contains('@'));
    if !is_certain {
        return None;
    }
    let path = before(address, |c| matches!(c, '?' | '#' | '"' | '\''));
    let more = if path.len() < address.len() { "?…" } else { "" };
    Some(format!(
        "{}://{}{}{more}",
        patterns::visible(scheme),
        patterns::visible(host),
        visible_path(name, path)
    ))
}

/// A path up to what looks like a secret. The paths of incoming webhooks are secrets.
fn visible_path(host: &str, path: &str) -> String {
    let is_webhook = |text: &str| text.to_ascii_lowercase().contains("hook");
    if is_webhook(host) || path.split('/').any(is_webhook) {
        return "/…".to_owned();
    }
    let is_open = |segment: &&str| !patterns::is_secret_segment(segment) && !patterns::is_sensitive(segment);
    let open: Vec<&str> = path.split('/').take_while(is_open).collect();
    let shown = patterns::visible(&open.join("/"));
    if open.len() < path.split('/').count() { format!("{shown}/…") } else { shown }
}

#[cfg(test)]
mod tests {
    use crate::redact::note;

    #[test]
    fn what_a_person_writes_keeps_its_links_and_no_secret() {
        for (written, shown) in [
            ("see https://jira.example/browse/OPS-12", "see https://jira.example/browse/OPS-12"),
            ("(https://jira.example:8443/browse/OPS-12)", "(https://jira.example:8443/browse/OPS-12)"),
            (
                "the ticket (https://jira.example/browse/OPS-12).",
                "the ticket (https://jira.example/browse/OPS-12).",
            ),
            ("HTTPS://jira.example", "HTTPS://jira.example"),
            ("https://jane:hunter2@jira.example/browse/OPS-12", "https://jira.example/browse/OPS-12"),
            ("https://jira.example/browse/OPS-12?token=hunter2#x", "https://jira.example/browse/OPS-12?…"),
            ("https://jira.example/browse/OPS-12#hunter2", "https://jira.example/browse/OPS-12?…"),
            (
                "https://app.slack.example/archives/C012AB3CD/p1700000000000100",
                "https://app.slack.example/archives/C012AB3CD/p1700000000000100",
            ),
            ("https://hooks.slack.com/services/T0/B0/S3cr3t", "https://hooks.slack.com/…"),
            ("https://x.example/webhook/S3cr3t", "https://x.example/…"),
            ("https://x.example/reset/password/S3cr3t", "https://x.example/reset/…"),
            ("https://x.example/u/ghp_abcdefghijklmnop/y", "https://x.example/u/…"),
            ("https://x.example/u/AbCdEfGhIjKlMnOpQrStUv", "https://x.example/u/…"),
            ("https://x.example/u/4111111111111111", "https://x.example/u/…"),
            ("https://jane:hun/ter2@x.example/y", "https://?@x.example/…"),
            ("postgres://jane:hunter2@db.example/accounts", "postgres://?@db.example/…"),
            ("password=hunter2 for jane@example.com", "password=? for ?"),
        ] {
            assert_eq!(note(written), shown);
        }
    }
}
