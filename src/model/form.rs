//! Forms: what a command still needs, asked of one person. A form carries an opaque token; the store knows the draft behind it.

use super::{EnvironmentTag, Severity};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A form for the rest of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Single use, and bound to the person and the conversation that it was opened for.
    pub token: String,
    /// The command's name: "kill".
    pub command: String,
    /// The command with what no longer changes: "purge asset-service".
    pub line: String,
    /// One line on what the command does, without a full stop.
    pub summary: String,
    pub environment: Option<EnvironmentTag>,
    pub fields: Vec<Field>,
    /// Label of the button that submits it, 24 characters at most.
    pub submit: String,
    /// Emphasis of that button: [`Severity::Critical`] where it requests an approval.
    pub severity: Severity,
}

/// A field of a form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    /// Name of the argument, [`ENVIRONMENT_FIELD`] or [`REASON_FIELD`]; unique in its form.
    pub name: String,
    pub label: String,
    pub hint: String,
    pub kind: FieldKind,
    /// The value that it is filled with; "true" for a toggle that is on.
    pub value: Option<FormOption>,
    pub required: bool,
}

/// The kind of a field's input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldKind {
    Text {
        multiline: bool,
    },
    /// One of these, [`MAX_OPTIONS`] at most.
    Choice(Vec<FormOption>),
    /// One of those that the live system has, asked for while the person types.
    Search,
    /// On or off.
    Toggle,
}

/// A value to choose, and its words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormOption {
    pub value: String,
    /// 75 characters at most, without secrets.
    pub label: String,
}

/// Name of the field that asks for the environment.
pub const ENVIRONMENT_FIELD: &str = "env";

/// Name of the field that asks for the reason.
pub const REASON_FIELD: &str = "reason";

/// The longest list of options. Source: Slack's limit for a select menu.
pub const MAX_OPTIONS: usize = 100;

/// The longest label of an option, in characters. Source: as [`MAX_OPTIONS`].
const MAX_LABEL: usize = 75;

/// The longest value of an option, in characters. Source: as [`MAX_OPTIONS`].
const MAX_VALUE: usize = 150;

impl FormOption {
    /// An option whose label is cut to what platforms show; `None` for a value that they don't take.
    pub fn new(value: impl Into<String>, label: &str) -> Option<FormOption> {
        let (value, label) = (value.into(), short_label(label));
        let fits = !value.is_empty() && value.chars().count() <= MAX_VALUE && !label.is_empty();
        fits.then_some(FormOption { value, label })
    }

    /// A value that is filled in as text, of any length; `None` if its label is empty.
    pub fn text(value: &str) -> Option<FormOption> {
        let label = short_label(value);
        (!label.is_empty()).then(|| FormOption { value: value.to_owned(), label })
    }

    /// An option that is shown as it is.
    pub fn plain(value: &str) -> Option<FormOption> {
        FormOption::new(value, value)
    }
}

/// A label on one line, cut to [`MAX_LABEL`].
fn short_label(text: &str) -> String {
    let blank = |c: char| if c.is_whitespace() || c.is_control() { ' ' } else { c };
    let line: String = text.chars().map(blank).collect();
    let line = line.trim();
    let mut label: String = line.chars().take(MAX_LABEL).collect();
    if line.chars().count() > MAX_LABEL {
        label.pop();
        label.push('…');
    }
    label
}

/// A command that isn't complete, as the store keeps it behind a form's token.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FormDraft {
    pub command: String,
    pub environment: Option<String>,
    /// Arguments that the form doesn't ask for: those of a row's button, and those that its choices depend on.
    pub fixed: BTreeMap<String, String>,
    /// Arguments that the form is filled with.
    pub typed: BTreeMap<String, String>,
    pub reason: Option<String>,
    pub private: bool,
    pub dry_run: bool,
}

/// What a client sends of a form: its token and the values of its fields, each as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FormInput {
    pub token: String,
    /// By the field's name; that of an empty field is empty or absent.
    pub values: BTreeMap<String, String>,
}

/// A mistake in a form: the field that it belongs to, and what to do instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    pub field: String,
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_fits_into_what_platforms_take() {
        let long = FormOption::new("4711", &"ü".repeat(80)).unwrap();
        assert_eq!((long.label.chars().count(), long.label.ends_with('…')), (75, true));
        assert_eq!(FormOption::new("x", " a\n\tb\u{0} ").unwrap().label, "a  b");
        assert_eq!(FormOption::plain(&"x".repeat(150)).map(|option| option.value.len()), Some(150));
        for unfit in ["", &"x".repeat(151)] {
            assert_eq!(FormOption::plain(unfit), None);
        }
    }
}
