//! The buttons beside rows of an answer. Each is bound to what its row showed; the workflow stores their purposes before anything is
//! sent, and drops those that the reader may not use.

use super::format::{Placeholder, fill_placeholders};
use super::present::{cell, has_action, look_up};
use super::{SectionResult, TargetRow, Value};
use crate::catalog::{Catalog, Command, Scope};
use crate::command_line::{KnownNames, Values, parse_command};
use crate::model::{Button, ButtonStyle, Risk, Table, TokenPurpose, line_label, random_token};

/// Buttons beside rows: more would not be read on a phone.
const MAX_ROW_BUTTONS: usize = 5;

/// The buttons beside rows of one answer.
pub(super) struct Offers<'a> {
    pub command: &'a Command,
    pub catalog: &'a Catalog,
    pub environment: &'a str,
    pub purposes: Vec<(String, TokenPurpose)>,
}

impl Offers<'_> {
    /// Adds the buttons of the first rows that have an action.
    pub fn add_buttons(&mut self, section: &SectionResult, table: &mut Table) {
        let Some(action) = &self.command.header.row_action else { return };
        let buttons_left = MAX_ROW_BUTTONS - self.purposes.len();
        let rows = section.rows.iter().zip(&mut table.rows);
        let with_action = rows.filter(|(row, _)| has_action(self.command, section, row));
        for (row, shown_row) in with_action.take(buttons_left) {
            if let Some((button, purpose)) = self.button(action, section, row) {
                self.purposes.push((button.token.clone(), purpose));
                shown_row.buttons.push(button);
            }
        }
    }

    /// The button beside a row: bound to what the row showed, hidden columns included.
    fn button(
        &self,
        action: &str,
        section: &SectionResult,
        row: &TargetRow,
    ) -> Option<(Button, TokenPurpose)> {
        let typed = |placeholder: Placeholder<'_>| {
            look_up(section, row)(Placeholder { in_code: true, ..placeholder })
        };
        let line = fill_placeholders(action, &typed).words();
        let mut words = line.split_whitespace();
        let command = self.catalog.find(words.next()?)?;
        let mut arguments = Values::new();
        for spec in &command.header.args {
            let hidden = format!("_{}", spec.name);
            let value = cell(section, row, &hidden).or_else(|| cell(section, row, &spec.name));
            let argument_text = |value: &Value| match value {
                Value::Text(text) => Some(text.clone()),
                Value::Int(number) => Some(number.to_string()),
                _ => None,
            };
            let value = match spec.name.as_str() {
                "server" => Some(row.target.server.clone()),
                "service" => row.target.service.clone(),
                _ => value.and_then(argument_text),
            };
            if let Some(value) = value {
                arguments.insert(spec.name.clone(), value);
            }
        }
        self.offer(&line, command, arguments)
    }

    /// The button for a whole command line. `None` for one that leaves something open, or once there are enough buttons.
    pub fn add_line(&mut self, line: &str, known: &KnownNames) -> Option<Button> {
        let parsed = parse_command(self.catalog, &line.into(), known).ok()??;
        if parsed.line.has_options() || self.purposes.len() >= MAX_ROW_BUTTONS {
            return None;
        }
        let (button, purpose) = self.offer(line, parsed.command, parsed.values)?;
        self.purposes.push((button.token.clone(), purpose));
        Some(button)
    }

    fn offer(&self, line: &str, command: &Command, arguments: Values) -> Option<(Button, TokenPurpose)> {
        let token = random_token()?;
        let risk = command.header.risk;
        let needs_environment = command.header.scope != Scope::None;
        let purpose = TokenPurpose::RunCommand {
            command: command.name.clone(),
            environment: needs_environment.then(|| self.environment.to_owned()),
            arguments,
        };
        let style = if risk == Risk::Danger { ButtonStyle::Danger } else { ButtonStyle::Plain };
        Some((Button::new(line_label(line, risk == Risk::Danger), token, style), purpose))
    }
}
