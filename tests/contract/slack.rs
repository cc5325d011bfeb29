//! The contract's chat in the fake Slack.

use crate::bot_process::Bot;
use crate::chat_driver::{Chat, FieldChoices, FormField, Forms, Message, OpenForm, Seen, ShownForm};
use async_trait::async_trait;
use countersign::demo::fake_slack::{self, Account, Kind, Modal, Workspace};
use countersign::demo::harness::INCIDENT;
use serde_json::Value;

pub struct Slack<'a>(pub &'a Bot);

/// The account of a person of the sample.
pub fn account(name: &str) -> String {
    match name {
        "nora" => "U0NOBODY".to_owned(),
        name => format!("U0{}", name.to_uppercase()),
    }
}

impl Slack<'_> {
    fn workspace(&self) -> &Workspace {
        &self.0.stage.workspace
    }

    /// What somebody sees in any of its conversations.
    pub fn sees_in(&self, who: &str, channel: &str) -> Vec<Seen> {
        let bot = fake_slack::BOT_USER;
        let mut seen = self.workspace().visible_messages(&account(who), channel);
        seen.retain(|message| message.author == bot);
        let as_seen = |message: countersign::demo::fake_slack::Message| Seen {
            words: message.plain(),
            alone: message.ephemeral_to.is_some(),
            message: Message::Slack(message),
        };
        seen.into_iter().map(as_seen).collect()
    }
}

#[async_trait]
impl Chat for Slack<'_> {
    async fn say(&self, who: &str, line: &str) {
        let ack = self.workspace().say(&account(who), INCIDENT, &format!("/db {line}")).await;
        assert!(ack.ok(), "{line}: {ack:?}");
    }

    fn sees(&self, who: &str) -> Vec<Seen> {
        self.sees_in(who, INCIDENT)
    }

    async fn click_button(&self, who: &str, on: &Seen, button: &str) {
        let Message::Slack(shown) = &on.message else { panic!("no message of Slack's: {on:?}") };
        let ack = self.workspace().click_stale_button(&account(who), shown, button).await;
        assert!(ack.ok(), "{button}: {ack:?}");
    }

    fn transcript(&self) -> String {
        self.workspace().transcript() + &self.0.log()
    }

    fn admits_a_guest(&self, who: &str) {
        self.workspace().add_person(Account::new(&account(who), who, Kind::Guest));
    }
}

#[async_trait]
impl Forms for Slack<'_> {
    fn form(&self, who: &str) -> Option<OpenForm> {
        let modal = self.workspace().modal(&account(who))?;
        Some(OpenForm { fields: modal.inputs().map(field).collect(), shown: ShownForm::Slack(modal) })
    }

    async fn offers(&self, who: &str, form: &OpenForm, field: &str, text: &str) -> Vec<String> {
        let offered = self.workspace().suggest(&account(who), modal(form), field, text).await;
        let offered = offered.unwrap_or_else(|why| panic!("{field}: {why}"));
        offered.into_iter().map(|(value, _)| value).collect()
    }

    async fn submits(&self, who: &str, form: &OpenForm, values: &[(&str, &str)]) -> Option<OpenForm> {
        let ack = self.workspace().submit_modal(&account(who), modal(form), values).await;
        assert!(ack.ok() && ack.problem.is_none() && !ack.body.contains("errors"), "{values:?}: {ack:?}");
        self.form(who)
    }
}

fn modal(form: &OpenForm) -> &Modal {
    let ShownForm::Slack(modal) = &form.shown else { panic!("no form of Slack's: {form:?}") };
    modal
}

fn field(input: &Value) -> FormField {
    let element = &input["element"];
    let values = |options: &Value| -> Vec<String> {
        let values = options.as_array().into_iter().flatten().filter_map(|option| option["value"].as_str());
        values.map(str::to_owned).collect()
    };
    FormField {
        name: input["block_id"].as_str().expect("a block").to_owned(),
        is_required: input["optional"] != true,
        choices: match element["type"].as_str() {
            Some("external_select") => FieldChoices::Searched,
            Some("plain_text_input") => FieldChoices::Typed,
            _ => FieldChoices::Listed(values(&element["options"])),
        },
    }
}
