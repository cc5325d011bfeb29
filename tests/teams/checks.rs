//! Teams' limits and what a value could do to a card, checked without the renderer's own constants.

use countersign::chat::teams::render::{TeamsCard, View};
use countersign::model::Person;
use serde_json::Value;

/// Everyone's view of a reply that has no others.
pub const EVERYONE: View<'static> = View { viewer: None, user_ids: &[], token: None };

/// A person as Teams knows them.
pub fn known(id: &str) -> Person {
    Person { id: id.to_owned(), account: Some("3c0a7c52-1b55-4b0b-9f4c-0d6f3a5e7b11".to_owned()) }
}

/// A value and everything in it.
fn all(value: &Value) -> Vec<&Value> {
    let inside: Vec<&Value> = match value {
        Value::Object(fields) => fields.values().flat_map(all).collect(),
        Value::Array(values) => values.iter().flat_map(all).collect(),
        _ => Vec::new(),
    };
    std::iter::once(value).chain(inside).collect()
}

/// Everything of a card that is of this type.
pub fn of_type<'a>(card: &'a Value, kind: &str) -> Vec<&'a Value> {
    all(card).into_iter().filter(|value| value["type"] == kind).collect()
}

/// Every text of a card's body, in order.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(fields) => match fields.get("inlines") {
            Some(inlines) => inlines.as_array().into_iter().flatten().map(said).collect(),
            None => fields
                .iter()
                .flat_map(|(key, value)| match value {
                    Value::String(text) if key == "text" || key == "title" => vec![text.as_str()],
                    _ if key == "fallback" => Vec::new(),
                    nested => texts(nested),
                })
                .collect(),
        },
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        _ => Vec::new(),
    }
}

/// What a run says.
fn said(run: &Value) -> &str {
    run.as_str().or(run["text"].as_str()).unwrap_or_default()
}

/// A text in small letters without the times that the renderer writes, each a date and its time.
fn without_dates(text: &str) -> String {
    let mut text = text.to_owned();
    while let Some((date, time)) = text.split_once("{{date(").and_then(|(_, rest)| {
        let time = rest.get(..20)?;
        Some((format!("{{{{date({time}, short)}}}} {{{{time({time})}}}}"), time.to_owned()))
    }) {
        let shape = time.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect::<String>();
        if shape != "9999-99-99t99:99:99z" || !text.contains(&date) {
            break;
        }
        text = text.replacen(&date, "", 1);
    }
    text
}

pub fn words(rendered: &TeamsCard) -> String {
    texts(&rendered.card["body"]).join("|")
}

/// Teams' limits, written down a second time (platform rules, section 3).
pub fn check(rendered: &TeamsCard) -> Result<(), String> {
    let ensure = |good: bool, what: &str| if good { Ok(()) } else { Err(what.to_owned()) };
    let card = &rendered.card;
    ensure(card.to_string().len() <= 25_000, "size")?;
    ensure(card["type"] == "AdaptiveCard" && card["version"] == "1.5", "a card")?;
    ensure(card["body"].as_array().is_some_and(|body| !body.is_empty()), "a body")?;
    ensure((1..=1_000).contains(&rendered.summary.trim().len()), "summary")?;
    ensure(texts(&card["body"]).iter().all(|text| !text.is_empty()), "an empty text")?;
    ensure(
        !card.to_string().contains("\"color\":"),
        "a colour of text, which is not legible in every theme",
    )?;
    ensure(card["refresh"]["userIds"].as_array().is_none_or(|ids| (1..=60).contains(&ids.len())), "ids")?;
    for set in of_type(card, "ActionSet") {
        let visible = set["actions"].as_array().ok_or("actions")?.len();
        ensure((1..=6).contains(&visible), "visible actions")?;
    }
    for execute in of_type(card, "Action.Execute") {
        ensure(["cs", "view"].iter().any(|verb| execute["verb"] == *verb), "a verb")?;
        ensure(execute["data"].as_object().is_some_and(|data| data.len() == 1), "data")?;
        let fallback = &execute["fallback"];
        ensure(
            execute["title"].is_null()
                || fallback["type"] == "Action.Submit" && fallback["data"] == execute["data"],
            "a fallback that does the same",
        )?;
    }
    for submit in of_type(card, "Action.Submit") {
        ensure(submit["data"].as_object().is_some_and(|data| data.len() == 1), "data")?;
    }
    Ok(())
}

/// No value reached a place that is formatted, and nobody is pinged but by a mention that the card declares.
pub fn inert(card: &Value) -> Result<(), String> {
    for link in of_type(card, "Action.OpenUrl") {
        if link["url"] != "https://grafana.example/d/postgres?var-service=asset-service" {
            return Err(format!("a link that isn't the configuration's: {link}"));
        }
    }
    for kind in ["FactSet", "Image", "Media", "Input.Text"] {
        if !of_type(card, kind).is_empty() {
            return Err(format!("a live element: {kind}"));
        }
    }
    let declared = card["msteams"]["entities"].as_array().ok_or("entities")?;
    let mentions: Vec<&str> = declared.iter().filter_map(|entity| entity["text"].as_str()).collect();
    let mut mentioned = String::new();
    for block in of_type(card, "TextBlock") {
        let text = block["text"].as_str().unwrap_or_default();
        let bare = mentions.iter().fold(text.to_owned(), |text, mention| text.replace(mention, ""));
        if bare == text || bare.contains("<>[]()*_~`#@&\\/{}|\n\"=+".chars().collect::<Vec<_>>().as_slice()) {
            return Err(format!("live text: {text}"));
        }
        mentioned.push_str(text);
    }
    if let Some(nowhere) = mentions.iter().find(|mention| !mentioned.contains(*mention)) {
        return Err(format!("{nowhere} is declared and not there"));
    }
    for run in of_type(card, "RichTextBlock").iter().flat_map(|block| block["inlines"].as_array()).flatten() {
        let text = without_dates(&said(run).to_lowercase());
        if ["<at>", "</at>", "{{date(", "{{time("].iter().any(|live| text.contains(live)) {
            return Err(format!("a live run: {text}"));
        }
    }
    Ok(())
}
