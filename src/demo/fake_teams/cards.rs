//! The rules by which Teams shows a card: its version, its elements and actions, mentions, and the views that are refreshed.
//! Sources: <https://adaptivecards.io/explorer/>,
//! <https://learn.microsoft.com/microsoftteams/platform/task-modules-and-cards/cards/universal-actions-for-adaptive-cards/overview>.

use serde_json::Value;
use std::collections::HashSet;

/// Most people for whom a card is refreshed.
const MOST_REFRESHED: usize = 60;

/// Actions shown beside each other; Teams leaves out what comes after them.
const MOST_ACTIONS: usize = 6;

/// The newest version that Teams' clients show.
const NEWEST: (u32, u32) = (1, 5);

/// Known elements, each with the field that it requires.
const ELEMENTS: [(&str, &str); 22] = [
    ("TextBlock", "text"),
    ("RichTextBlock", "inlines"),
    ("TextRun", "text"),
    ("Container", "items"),
    ("ColumnSet", "columns"),
    ("Column", "items"),
    ("FactSet", "facts"),
    ("Table", "rows"),
    ("TableRow", "cells"),
    ("TableCell", "items"),
    ("ActionSet", "actions"),
    ("Image", "url"),
    ("ImageSet", "images"),
    ("Input.Text", "id"),
    ("Input.Number", "id"),
    ("Input.Date", "id"),
    ("Input.Time", "id"),
    ("Input.Toggle", "id"),
    ("Input.ChoiceSet", "id"),
    ("Action.Execute", "verb"),
    ("Action.Submit", "title"),
    ("Action.OpenUrl", "url"),
];

/// Fields that must not be an empty list.
const HOLDERS: [&str; 7] = ["inlines", "columns", "facts", "rows", "cells", "actions", "images"];

/// The problems of a card; `members` are the ids of the conversation's members.
pub(super) fn check(card: &Value, members: &[String]) -> Vec<String> {
    let mut found = Found { problems: Vec::new(), ids: HashSet::new(), members };
    if card["type"] != "AdaptiveCard" {
        found.wrong("the card's type is not AdaptiveCard");
    }
    let version = card["version"].as_str().and_then(|version| version.split_once('.'));
    let version = version.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    if version.is_none_or(|version: (u32, u32)| version > NEWEST) {
        found.wrong(&format!("version {} is none that Teams shows", card["version"]));
    }
    if card["body"].as_array().is_none_or(Vec::is_empty) {
        found.wrong("the card has no body");
    }
    for part in ["body", "actions"] {
        found.all(&card[part], part);
    }
    found.actions(&card["actions"]);
    found.refresh(&card["refresh"]);
    found.mention_bot(&card["msteams"]["entities"], &words(card));
    found.problems
}

/// The problems found so far.
struct Found<'a> {
    problems: Vec<String>,
    ids: HashSet<String>,
    members: &'a [String],
}

impl Found<'_> {
    fn wrong(&mut self, why: &str) {
        self.problems.push(why.to_owned());
    }

    fn all(&mut self, elements: &Value, holder: &str) {
        for element in elements.as_array().into_iter().flatten() {
            // A run of text may be a mere string, and facts, the columns of a table have no type.
            if !(element.is_string() && holder == "inlines") {
                self.element(element, holder);
            }
        }
    }

    fn element(&mut self, element: &Value, holder: &str) {
        let implied = match holder {
            "columns" => Some("Column"),
            "rows" => Some("TableRow"),
            "cells" => Some("TableCell"),
            _ => None,
        };
        let Some(kind) = element["type"].as_str().or(implied) else {
            return self.wrong(&format!("an element of {holder} has no type: {element}"));
        };
        let Some((_, needs)) = ELEMENTS.iter().find(|(name, _)| *name == kind) else {
            return self.wrong(&format!("there is no element {kind}"));
        };
        let missing = match &element[*needs] {
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty() && HOLDERS.contains(needs),
            _ => true,
        };
        if missing {
            self.wrong(&format!("{kind} without {needs}: {element}"));
        }
        if let Some(id) = element["id"].as_str()
            && !self.ids.insert(id.to_owned())
        {
            self.wrong(&format!("the id {id} stands twice"));
        }
        if kind.starts_with("Action.") {
            self.action(element, kind);
        }
        self.problems.extend(super::inputs::check(element, kind));
        for fact in element["facts"].as_array().into_iter().flatten() {
            if ["title", "value"].iter().any(|part| fact[part].as_str().is_none_or(str::is_empty)) {
                self.wrong(&format!("a fact without its title or value: {fact}"));
            }
        }
        self.inside(element, kind);
    }

    fn inside(&mut self, element: &Value, kind: &str) {
        // A table's columns are no elements, but say how many cells a row has.
        let columns = element["columns"].as_array().map_or(0, Vec::len);
        for row in element["rows"].as_array().into_iter().flatten() {
            let cells = row["cells"].as_array().map_or(0, Vec::len);
            if kind == "Table" && cells != columns {
                self.wrong(&format!("a row has {cells} cells where the table has {columns} columns"));
            }
        }
        if kind == "ActionSet" {
            self.actions(&element["actions"]);
        }
        for part in ["items", "inlines", "rows", "cells", "actions", "images"] {
            self.all(&element[part], part);
        }
        if kind == "ColumnSet" {
            self.all(&element["columns"], "columns");
        }
        if element["selectAction"].is_object() {
            self.all(&Value::from(vec![element["selectAction"].clone()]), "selectAction");
        }
    }

    fn action(&mut self, action: &Value, kind: &str) {
        if action["title"].as_str().is_none_or(str::is_empty) {
            self.wrong(&format!("an action without a title: {action}"));
        }
        if !matches!(action["data"], Value::Null | Value::Object(_)) {
            self.wrong(&format!("data that is no object: {action}"));
        }
        if kind == "Action.Execute" && action["fallback"].is_object() {
            self.element(&action["fallback"], "fallback");
        }
    }

    fn actions(&mut self, actions: &Value) {
        let primary = actions.as_array().into_iter().flatten().filter(|action| action["mode"] != "secondary");
        let primary = primary.count();
        if primary > MOST_ACTIONS {
            self.wrong(&format!("{primary} actions beside each other: Teams shows {MOST_ACTIONS}"));
        }
    }

    fn refresh(&mut self, refresh: &Value) {
        if refresh.is_null() {
            return;
        }
        let action = &refresh["action"];
        if action["type"] != "Action.Execute" || action["verb"].as_str().is_none_or(str::is_empty) {
            self.wrong("refresh needs an Action.Execute with a verb");
        }
        let Some(users) = refresh["userIds"].as_array() else { return };
        if users.len() > MOST_REFRESHED {
            self.wrong(&format!("refresh for {} people: {MOST_REFRESHED} at most", users.len()));
        }
        for user in users {
            if !user.as_str().is_some_and(|user| self.members.iter().any(|member| member == user)) {
                self.wrong(&format!("refresh for {user}, who is no member's id here"));
            }
        }
    }

    fn mention_bot(&mut self, entities: &Value, words: &str) {
        for entity in entities.as_array().into_iter().flatten() {
            self.problems.extend(mention(entity, words));
        }
    }
}

/// The problem of a mention in that text, if any.
pub(super) fn mention(entity: &Value, words: &str) -> Option<String> {
    if entity["type"] != "mention" {
        return None;
    }
    let text = entity["text"].as_str().unwrap_or_default();
    let whole = text.starts_with("<at>") && text.ends_with("</at>") && words.contains(text);
    let known = entity["mentioned"]["id"].as_str().is_some_and(|id| !id.is_empty())
        && entity["mentioned"]["name"].is_string();
    (!whole || !known).then(|| format!("a mention whose text doesn't occur, or of nobody: {entity}"))
}

/// All texts that are shown, one after another.
fn words(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let own = ["text", "title", "value"].iter().filter_map(|key| fields.get(*key)?.as_str());
            let own: String = own.map(|text| text.to_owned() + "\n").collect();
            let parts = fields.iter().filter(|(key, _)| *key != "msteams" && *key != "data");
            own + &parts.map(|(_, part)| words(part)).collect::<String>()
        }
        Value::Array(items) => items.iter().map(words).collect(),
        _ => String::new(),
    }
}
