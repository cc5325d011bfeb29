//! The templates of links: `[[links]]`. The values of names in braces are percent-encoded, and no part of a host.

use super::Environment;
use super::validate::{is_title, reject, unknown_braces, unknown_environment};
use crate::model::{Link, LinkUrl};
use crate::toml_reader::Reader;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Characters of a label: three fit side by side on a phone.
const LONGEST_LABEL: usize = 24;

/// The characters of a value that are encoded: all but the unreserved ones of RFC 3986.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The subject of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkSubject {
    /// A session that a command names.
    Session,
    /// A service that a command names.
    Service,
    /// A run of a command that changes something.
    Run,
}

pub(super) const SUBJECTS: [(&str, LinkSubject); 3] =
    [("session", LinkSubject::Session), ("service", LinkSubject::Service), ("run", LinkSubject::Run)];

impl LinkSubject {
    /// Names that a template may have in braces.
    fn names(self) -> &'static [&'static str] {
        match self {
            LinkSubject::Session => &["environment", "server", "pid"],
            LinkSubject::Service => &["environment", "server", "service", "database"],
            LinkSubject::Run => &["environment", "command", "run"],
        }
    }
}

/// A link to another system.
#[derive(Debug, Clone)]
pub struct LinkTemplate {
    pub label: String,
    pub subject: LinkSubject,
    /// Environments in which it is shown; empty for all.
    environments: Vec<String>,
    /// With names in braces.
    url: String,
}

impl LinkTemplate {
    /// True if it is shown in that environment; `None` is none.
    pub fn is_shown_in(&self, environment: Option<&str>) -> bool {
        let shown = &self.environments;
        shown.is_empty() || shown.iter().any(|name| Some(name.as_str()) == environment)
    }

    /// The link, with the value of each name; `None` if one is unknown, or the address would be too long.
    pub fn fill(&self, value: &dyn Fn(&str) -> Option<String>) -> Option<Link> {
        let mut url = String::new();
        let mut rest = self.url.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (name, after) = after.split_once('}')?;
            url.push_str(before);
            url.extend(utf8_percent_encode(&value(name)?, ENCODED));
            rest = after;
        }
        url.push_str(rest);
        Some(Link { label: self.label.clone(), url: LinkUrl::parse(&url)? })
    }
}

pub(super) fn links(root: &mut Reader<'_>, environments: &[Environment]) -> Vec<LinkTemplate> {
    let templates = root.tables("links", |table| {
        let label = label(table);
        let subject = table.choice("about", &SUBJECTS);
        let environments =
            table.checked_strings("environments", |name| unknown_environment(name, environments));
        let url = table.string("url");
        let subject = subject?;
        if url.is_empty() {
            reject(table, "url", &url, ADDRESS);
        }
        for problem in url_problems(&url, subject) {
            table.problem("url", problem);
        }
        Some(LinkTemplate { label, subject, environments, url })
    });
    templates.into_iter().flatten().collect()
}

const ADDRESS: &str = "an https address, such as https://grafana.example/d/postgres?var-service={service}";

fn label(table: &mut Reader<'_>) -> String {
    let label = table.string("label");
    if !is_title(&label) || label.chars().count() > LONGEST_LABEL {
        reject(table, "label", &label, "1 to 24 characters, no control characters, no space at its ends");
    }
    label
}

fn url_problems(url: &str, subject: LinkSubject) -> Vec<String> {
    let names = subject.names();
    let unknown = unknown_braces("`url`", url, names);
    if !unknown.is_empty() || url.is_empty() {
        return unknown;
    }
    let filled = names.iter().fold(url.to_owned(), |url, name| url.replace(&format!("{{{name}}}"), "x"));
    let host = url.split_once("://").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(""));
    if host.contains('{') {
        return vec!["the host of `url` can't have a name in braces".to_owned()];
    }
    if filled.contains(['{', '}']) {
        let names: Vec<String> = names.iter().map(|name| format!("{{{name}}}")).collect();
        return vec![format!("`url` can have {} only; any other brace is %7B or %7D", names.join(", "))];
    }
    match LinkUrl::parse(&filled) {
        Some(_) => Vec::new(),
        None => vec![format!("`url` must be {ADDRESS}")],
    }
}
