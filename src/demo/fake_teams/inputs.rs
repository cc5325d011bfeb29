//! The rules by which Teams shows an input of a card.
//! Sources: <https://adaptivecards.microsoft.com/?topic=Input.ChoiceSet>,
//! <https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/dynamic-search>.

use serde_json::Value;
use std::collections::HashSet;

/// The problems of an input; none for other elements.
pub(super) fn check(input: &Value, kind: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let mut must = |holds: bool, why: &str| {
        if !holds {
            problems.push(format!("{why}: {input}"));
        }
    };
    let is_text = |value: &Value| value.as_str().is_some_and(|text| !text.trim().is_empty());
    if !kind.starts_with("Input.") {
        return problems;
    }
    must(is_text(&input["label"]), "an input without a label");
    must(input["value"].is_null() || input["value"].is_string(), "a value that is no text");
    must(
        input["isRequired"] != true || is_text(&input["errorMessage"]),
        "a required input without its error message",
    );
    match kind {
        "Input.Text" => {
            let most = input["maxLength"].as_u64().unwrap_or(u64::MAX);
            let value = input["value"].as_str().unwrap_or_default();
            must(most > 0 && value.chars().count() as u64 <= most, "a value longer than its input");
        }
        "Input.Toggle" => {
            must(is_text(&input["title"]), "a toggle without a title");
            let value = input["value"].as_str().unwrap_or("false");
            must([on(input), off(input)].contains(&value), "a toggle that is neither on nor off");
        }
        "Input.ChoiceSet" => {
            let choices = input["choices"].as_array().map_or(&[][..], Vec::as_slice);
            let data = &input["choices.data"];
            let is_search = data["type"] == "Data.Query" && is_text(&data["dataset"]);
            must(is_search || data.is_null(), "a search without its dataset");
            must(is_search || !choices.is_empty(), "nothing to choose");
            must(!is_search || input["style"] == "filtered", "a search that isn't filtered");
            must(
                choices.iter().all(|choice| is_text(&choice["title"]) && is_text(&choice["value"])),
                "a choice without words",
            );
            let values: HashSet<&str> =
                choices.iter().filter_map(|choice| choice["value"].as_str()).collect();
            must(values.len() == choices.len(), "a choice stands twice");
            let chosen = input["value"].as_str();
            must(chosen.is_none_or(|chosen| values.contains(chosen)), "a chosen value that is no choice");
        }
        _ => {}
    }
    problems
}

fn on(toggle: &Value) -> &str {
    toggle["valueOn"].as_str().unwrap_or("true")
}

fn off(toggle: &Value) -> &str {
    toggle["valueOff"].as_str().unwrap_or("false")
}
