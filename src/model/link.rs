//! Links: addresses that come from the configuration's templates or from a platform. Text of a person or a database never becomes one.

use serde::{Deserialize, Serialize};
use url::Url;

/// Bytes of an address: Slack takes 3,000 on a button (<https://docs.slack.dev/reference/block-kit/block-elements/button-element>), and a
/// card of Teams has room for several.
const MAX_URL: usize = 2_000;

/// A link below an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    pub label: String,
    pub url: LinkUrl,
}

/// An https address without a user name, percent-encoded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LinkUrl(String);

impl LinkUrl {
    /// The address in a text; `None` for any other address, and for one of more than 2,000 bytes.
    pub fn parse(text: &str) -> Option<LinkUrl> {
        let url = Url::parse(text).ok()?;
        let is_plain = url.scheme() == "https" && url.username().is_empty() && url.password().is_none();
        let text = String::from(url);
        (is_plain && text.len() <= MAX_URL).then_some(LinkUrl(text))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LinkUrl {
    type Error = &'static str;

    fn try_from(text: String) -> Result<LinkUrl, &'static str> {
        LinkUrl::parse(&text).ok_or("not an https address")
    }
}

impl From<LinkUrl> for String {
    fn from(url: LinkUrl) -> String {
        url.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_addresses_are_links() {
        for text in
            ["http://a.example/", "javascript:alert(1)", "https://u:p@a.example/", "https://", "a", ""]
        {
            assert_eq!(LinkUrl::parse(text), None, "{text}");
            assert!(LinkUrl::try_from(text.to_owned()).is_err(), "{text}");
        }
        assert_eq!(LinkUrl::parse(&format!("https://a.example/{}", "x".repeat(2_000))), None);
        let url = LinkUrl::parse("https://a.example/ä|<x>").map(String::from);
        assert_eq!(url.as_deref(), Some("https://a.example/%C3%A4|%3Cx%3E"));
    }
}
