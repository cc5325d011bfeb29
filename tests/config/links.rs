//! The templates of links: what they may hold, and what is filled in.

use super::{MINIMAL, all_set, problems};
use countersign::config::{Config, LinkSubject, LinkTemplate};

fn section(label: &str, about: &str, url: &str) -> String {
    format!("{MINIMAL}[[links]]\nlabel = \"{label}\"\nabout = \"{about}\"\nurl = \"{url}\"\n")
}

fn template(about: &str, url: &str) -> LinkTemplate {
    let config = Config::parse("x.toml", &section("Logs", about, url), &all_set);
    config.unwrap_or_else(|problems| panic!("{problems}")).links.remove(0)
}

#[test]
fn what_is_filled_in_stays_a_value() {
    let link = template("session", "https://logs.example/{environment}?q={server}:{pid}#{pid}");
    assert_eq!((link.label.as_str(), link.subject), ("Logs", LinkSubject::Session));
    let value = |name: &str| match name {
        "environment" => Some("../a b".to_owned()),
        "server" => Some("x&y=1#z?/%2F\"<ü>{pid}".to_owned()),
        "pid" => Some("4711".to_owned()),
        _ => None,
    };
    let filled = link.fill(&value).expect("a link");
    let expected =
        "https://logs.example/..%2Fa%20b?q=x%26y%3D1%23z%3F%2F%252F%22%3C%C3%BC%3E%7Bpid%7D:4711#4711";
    assert_eq!(filled.url.as_str(), expected);
    assert_eq!(link.fill(&|name| value(name).filter(|_| name != "pid")), None, "a value is unknown");
    let long = |_: &str| Some("x".repeat(700));
    assert_eq!(link.fill(&long), None, "too long for a platform");
}

#[test]
fn a_template_that_could_lead_elsewhere_is_refused_with_its_line() {
    for (label, about, url, expected) in [
        (
            "Logs",
            "run",
            "http://logs.example/{run}",
            "36:7: `url` must be an https address, such as https://grafana.example/d/postgres?var-service={service}",
        ),
        (
            "Logs",
            "run",
            "javascript:alert({run})",
            "36:7: `url` must be an https address, such as https://grafana.example/d/postgres?var-service={service}",
        ),
        (
            "Logs",
            "run",
            "https://{environment}.example/",
            "36:7: the host of `url` can't have a name in braces",
        ),
        (
            "Logs",
            "service",
            "https://logs.example/{servce}",
            "36:7: `url` can't fill in `servce`; did you mean `service`?",
        ),
        (
            "Logs",
            "session",
            "https://logs.example/${pid}/{PID}",
            "36:7: `url` can have {environment}, {server}, {pid} only; any other brace is %7B or %7D",
        ),
        (
            "Logs",
            "session",
            "",
            "36:7: `url` must be an https address, such as https://grafana.example/d/postgres?var-service={service}, not empty",
        ),
        (
            "a label of a good many words",
            "run",
            "https://logs.example/",
            "34:9: `label` must be 1 to 24 characters, no control characters, no space at its ends, not `a label of a good many words`",
        ),
        (
            "Logs",
            "sesion",
            "https://logs.example/",
            "35:9: `about` can't be `sesion`; did you mean `session`?",
        ),
    ] {
        assert_eq!(problems(&section(label, about, url)), [format!("deploy/x.toml:{expected}")], "{url}");
    }
    let elsewhere = section("Logs", "run", "https://logs.example/") + "environments = [\"prod\"]\n";
    let told = problems(&elsewhere);
    assert!(
        told.len() == 1 && told[0].contains("x.toml:37:") && told[0].contains("no environment `prod`"),
        "{told:?}"
    );
}
