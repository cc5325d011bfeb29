//! The plan of a destructive command, fixed before approval: identity, guards and context, and a digest over all three as shown.
//! Identity and guards are tested again in the statement that acts, never in one before it.

use super::{Block, Table, Text, WordKind, WordMap};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// An immutable plan.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Plan {
    /// One sentence: what will happen. "Ends session 4711 of asset_svc on production/main."
    pub effect: String,
    /// Identity of the target: pid, backend_start to the microsecond, server, database, role.
    pub identity: BTreeMap<String, String>,
    /// Identities of several targets, in the order of the table that shows them.
    #[serde(rename = "targets", default, skip_serializing_if = "Vec::is_empty")]
    pub target_identities: Vec<BTreeMap<String, String>>,
    /// Conditions of the execution, by name: the acting statement tests them.
    pub guards: BTreeMap<String, String>,
    /// Shown, and may drift: age, query, blocked sessions, size.
    pub context: Vec<(String, String)>,
    /// Rows of context: blocked sessions, databases to dump.
    pub tables: Vec<Table>,
    /// Title and text: a query (redacted) or the exact reviewed SQL.
    pub code: Option<(String, String)>,
    /// The impact on others.
    pub impact: String,
    /// The rollback, or that there is none.
    pub rollback: String,
    /// Resources of the environment that no other open run may hold.
    pub resource_locks: Vec<String>,
    /// Time when the identity was read (UTC).
    pub created_at: jiff::Timestamp,
    /// Plans for parts of the work, each carried out by itself, in order: a database each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Plan>,
}

impl Plan {
    /// A plan of an effect without a target that could change.
    pub fn of(effect: impl Into<String>) -> Plan {
        Plan {
            effect: effect.into(),
            impact: "none".to_owned(),
            created_at: jiff::Timestamp::now(),
            ..Plan::default()
        }
    }

    /// Reads a typed target from the identity; `None` when a field is missing or malformed.
    pub fn target<T: DeserializeOwned>(&self) -> Option<T> {
        from_identity(&self.identity)
    }

    /// Writes a typed target's fields into the identity.
    pub fn set_target(&mut self, target: &impl Serialize) {
        self.identity.extend(to_identity(target));
    }

    /// Adds a fact that is shown and may drift.
    pub fn add_context(&mut self, name: &str, value: impl Into<String>) {
        self.context.push((name.to_owned(), value.into()));
    }

    /// Adds a condition that the acting statement tests, as words that follow "Runs only if".
    pub fn add_guard(&mut self, name: &str, condition: impl Into<String>) {
        self.guards.insert(name.to_owned(), condition.into());
    }

    /// Replaces the words that tell about the target and its surroundings. The identity and the SQL stay exact: the acting statement
    /// compares the one, and the approver reads the other.
    pub fn map_words(&mut self, map: &WordMap<'_>) {
        let context = self.context.iter_mut().map(|(_, value)| value);
        let texts = [&mut self.effect, &mut self.impact, &mut self.rollback].into_iter();
        texts
            .chain(context)
            .chain(self.guards.values_mut())
            .for_each(|text| *text = map(WordKind::Prose, text));
        self.tables.iter_mut().for_each(|table| table.map_words(map));
        self.parts.iter_mut().for_each(|part| part.map_words(map));
    }

    /// SHA-256 over the plan as it is stored and shown, in hex.
    pub fn digest(&self) -> String {
        sha256_hex(&[self.to_json().as_bytes()])
    }

    /// The bytes that the audit log keeps: field order is the struct's, maps are sorted.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Reads what [`Plan::to_json`] wrote.
    pub fn from_json(stored: &str) -> Option<Plan> {
        serde_json::from_str(stored).ok()
    }

    /// The plan as its approver sees it, whole: effect, impact and rollback first, then the target and its facts.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = vec![Block::Text(Text::new().strong(self.effect.clone()))];
        let mut impact = Text::new().strong("Impact: ").plain(self.impact.clone());
        if !self.rollback.is_empty() {
            impact = impact.plain("\n").strong("Rollback: ").plain(self.rollback.clone());
        }
        blocks.push(Block::Text(impact));
        let facts = self.facts();
        if !facts.0.is_empty() {
            blocks.push(Block::Text(facts));
        }
        if let Some((title, text)) = &self.code {
            blocks.push(Block::Code { title: Some(title.clone()), text: text.clone() });
        }
        blocks.extend(self.tables.iter().cloned().map(Block::Table));
        if !self.guards.is_empty() {
            let guards: Vec<&str> = self.guards.values().map(String::as_str).collect();
            blocks.push(Block::Note(format!("Runs only if {}.", guards.join(", and ")).into()));
        }
        blocks
    }

    /// Identity on one line, then a line a fact: on a phone every line counts.
    fn facts(&self) -> Text {
        let mut text = Text::new();
        for (at, (name, value)) in self.identity.iter().enumerate() {
            text = text.plain(if at > 0 { " · " } else { "" }).plain(format!("{} ", name.replace('_', " ")));
            text = text.code(value.clone());
        }
        for (name, value) in &self.context {
            let line = if text.0.is_empty() { "" } else { "\n" };
            text = text.plain(line).strong(format!("{name} ")).plain(value.clone());
        }
        text
    }
}

/// Writes a typed target, all of whose fields are text, as an identity.
pub fn to_identity(target: &impl Serialize) -> BTreeMap<String, String> {
    serde_json::to_value(target).and_then(serde_json::from_value).unwrap_or_default()
}

/// Reads a typed target from an identity; other fields are ignored.
pub fn from_identity<T: DeserializeOwned>(identity: &BTreeMap<String, String>) -> Option<T> {
    serde_json::to_value(identity).and_then(serde_json::from_value).ok()
}

/// Numbers and moments of a typed target, as the identity's text: `#[serde(with = "as_text")]`.
pub mod as_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use std::fmt::Display;
    use std::str::FromStr;

    /// Writes the value as text.
    pub fn serialize<T: Display, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(value)
    }

    /// Reads the value from text.
    pub fn deserialize<'de, T: FromStr<Err: Display>, D: Deserializer<'de>>(text: D) -> Result<T, D::Error> {
        String::deserialize(text)?.parse().map_err(D::Error::custom)
    }
}

/// SHA-256 in hex, of parts in order.
pub fn sha256_hex(parts: &[&[u8]]) -> String {
    hex::encode(parts.iter().fold(Sha256::new(), |hasher, part| hasher.chain_update(part)).finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Target {
        #[serde(with = "as_text")]
        pid: i32,
        server: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        query_start: Option<String>,
    }

    #[test]
    fn a_typed_target_is_the_identity_in_text() {
        let target = Target { pid: 4711, server: "main".to_owned(), query_start: None };
        let mut plan = Plan::of("Ends it.");
        plan.set_target(&target);
        let identity = [("pid", "4711"), ("server", "main")];
        assert_eq!(plan.identity, identity.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
        plan.identity.insert("role".to_owned(), "asset_svc".to_owned());
        assert_eq!(plan.target(), Some(target));
        plan.identity.insert("pid".to_owned(), "4711; 4712".to_owned());
        assert_eq!(plan.target::<Target>(), None);
    }
}
