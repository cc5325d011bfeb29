//! The contract's chat in the fake Teams.

use crate::bot_process::{Bot, INCIDENT, PEOPLE};
use crate::chat_driver::{Chat, FieldChoices, FormField, Forms, Message, OpenForm, Seen, ShownForm};
use async_trait::async_trait;
use countersign::demo::fake_teams::{ConversationKind, TeamsMessage, TenantUser, UserRole, field_name};
use serde_json::Value;

pub struct Teams<'a>(pub &'a Bot);

impl Teams<'_> {
    /// What somebody sees in any of its conversations.
    pub fn sees_in(&self, who: &str, conversation: &str) -> Vec<Seen> {
        let mut seen = self.0.teams.visible_messages(who, conversation);
        seen.retain(|message| message.author.is_none());
        let as_seen = |message: TeamsMessage| Seen {
            words: message.plain(),
            alone: message.only_to.is_some(),
            message: Message::Teams(message),
        };
        seen.into_iter().map(as_seen).collect()
    }
}

#[async_trait]
impl Chat for Teams<'_> {
    async fn say(&self, who: &str, line: &str) {
        let ack = self.0.teams.say(who, INCIDENT, line).await;
        assert!(ack.ok(), "{line}: {ack:?}");
    }

    fn sees(&self, who: &str) -> Vec<Seen> {
        self.sees_in(who, INCIDENT)
    }

    async fn click_button(&self, who: &str, on: &Seen, button: &str) {
        let Message::Teams(shown) = &on.message else { panic!("no message of Teams': {on:?}") };
        let ack = self.0.teams.click_stale_button(who, shown, button).await;
        assert!(ack.ok(), "{button}: {ack:?}");
    }

    fn transcript(&self) -> String {
        self.0.teams.transcript() + &self.0.log()
    }

    fn admits_a_guest(&self, who: &str) {
        self.0.teams.add_person(TenantUser { role: UserRole::Guest, ..TenantUser::new(who) });
        let all: Vec<&str> = PEOPLE.into_iter().chain([who]).collect();
        self.0.teams.add_conversation(ConversationKind::Channel, INCIDENT, &all);
    }
}

#[async_trait]
impl Forms for Teams<'_> {
    fn form(&self, who: &str) -> Option<OpenForm> {
        let seen = self.0.teams.visible_messages(who, INCIDENT).into_iter().rev();
        seen.into_iter()
            .find(|message| message.only_to.is_some() && !message.inputs().is_empty())
            .map(as_form)
    }

    async fn offers(&self, who: &str, form: &OpenForm, field: &str, text: &str) -> Vec<String> {
        let offered = self.0.teams.search_choices(who, message(form), field, text).await;
        offered.unwrap_or_else(|why| panic!("{why}")).into_iter().map(|(value, _)| value).collect()
    }

    async fn submits(&self, who: &str, form: &OpenForm, values: &[(&str, &str)]) -> Option<OpenForm> {
        let message = message(form);
        let submission =
            message.submission(values).unwrap_or_else(|why| panic!("{why}: {}", message.plain()));
        let ack = self.0.teams.execute(who, message, &submission, "manual").await;
        let card = "application/vnd.microsoft.card.adaptive";
        assert!(ack.ok() && ack.body["type"] == card, "{values:?}: {ack:?}");
        let now = self.0.teams.visible_message(who, &message.at()).filter(|now| !now.inputs().is_empty());
        now.map(as_form)
    }
}

fn message(form: &OpenForm) -> &TeamsMessage {
    let ShownForm::Teams(message) = &form.shown else { panic!("no form of Teams': {form:?}") };
    message
}

fn as_form(message: TeamsMessage) -> OpenForm {
    OpenForm { fields: message.inputs().into_iter().map(field).collect(), shown: ShownForm::Teams(message) }
}

fn field(input: &Value) -> FormField {
    let values = input["choices"].as_array().into_iter().flatten();
    let values = values.filter_map(|choice| choice["value"].as_str()).map(str::to_owned).collect();
    let choices = match input["type"].as_str() {
        _ if !input["choices.data"].is_null() => FieldChoices::Searched,
        Some("Input.ChoiceSet") => FieldChoices::Listed(values),
        Some("Input.Toggle") => FieldChoices::Listed(vec!["true".to_owned()]),
        _ => FieldChoices::Typed,
    };
    FormField { name: field_name(input).to_owned(), is_required: input["isRequired"] == true, choices }
}
