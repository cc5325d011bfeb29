//! What a scene needs of a chat.

use async_trait::async_trait;

/// A message of the bot's as somebody sees it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Buttons among them, in square brackets.
    pub words: String,
    /// Whether nobody else sees it.
    pub alone: bool,
    pub message: Message,
}

/// The message as the platform has it, to click on.
#[derive(Debug, Clone)]
pub enum Message {
    Slack(countersign::demo::fake_slack::Message),
    Teams(countersign::demo::fake_teams::TeamsMessage),
    /// A card by its number, in the page before which somebody sits.
    Page {
        seat: String,
        at: usize,
    },
    /// A terminal's answer, which has nothing to click.
    Printed,
}

/// A conversation of the incident's people with the bot. People are called by their names in the configuration.
#[async_trait]
pub trait Chat: Sync {
    /// Somebody types a command.
    async fn say(&self, who: &str, line: &str);

    /// Everything that the bot has written there, as somebody sees it now.
    fn sees(&self, who: &str) -> Vec<Seen>;

    /// Somebody clicks a button on a message as it was shown, perhaps to somebody else.
    async fn click_button(&self, who: &str, on: &Seen, button: &str);

    /// What was said and sent, for messages of failed tests.
    fn transcript(&self) -> String;

    /// A listed person who is a guest comes in.
    fn admits_a_guest(&self, who: &str);
}

/// A form that somebody has open.
#[derive(Debug, Clone)]
pub struct OpenForm {
    pub fields: Vec<FormField>,
    pub shown: ShownForm,
}

/// The form as the platform has it.
#[derive(Debug, Clone)]
pub enum ShownForm {
    Slack(countersign::demo::fake_slack::Modal),
    Teams(countersign::demo::fake_teams::TeamsMessage),
    /// A card by its number.
    Page(usize),
}

#[derive(Debug, Clone)]
pub struct FormField {
    pub name: String,
    pub is_required: bool,
    pub choices: FieldChoices,
}

#[derive(Debug, Clone)]
pub enum FieldChoices {
    /// The values that the form has.
    Listed(Vec<String>),
    /// The values that the bot is asked for.
    Searched,
    /// Free text.
    Typed,
}

/// A chat that has forms.
#[async_trait]
pub trait Forms: Chat {
    /// The form that somebody has open.
    fn form(&self, who: &str) -> Option<OpenForm>;

    /// The values that a field offers for a text.
    async fn offers(&self, who: &str, form: &OpenForm, field: &str, text: &str) -> Vec<String>;

    /// Submits a form; the next one, if it has another step.
    async fn submits(&self, who: &str, form: &OpenForm, values: &[(&str, &str)]) -> Option<OpenForm>;
}
