//! Values that every module shares. No I/O, and nothing here is async.

mod card;
mod finding;
mod form;
mod link;
mod person;
mod plan;
mod reply;
mod run;

pub use card::{
    Button, ButtonStyle, ButtonToken, Card, CardKind, Decision, PostedMessage, TokenPurpose, line_label,
    random_token,
};
pub use finding::AnswerFinding;
pub use form::{
    ENVIRONMENT_FIELD, Field, FieldError, FieldKind, Form, FormDraft, FormInput, FormOption, MAX_OPTIONS,
    REASON_FIELD,
};
pub use link::{Link, LinkUrl};
pub use person::{
    ChatAccount, ChatEvent, ChatEventKind, Conversation, Mention, Person, PlatformKind, ReplyHandle,
    TypedText,
};
pub use plan::{Plan, as_text, from_identity, sha256_hex, to_identity};
pub use reply::{
    Audience, Block, Cell, Column, ColumnKind, Coverage, EnvironmentTag, Heading, Reply, Row, Severity, Span,
    Table, Text, WordKind, WordMap, bar, severity_of,
};
pub use run::{
    ActiveFreeze, EventKind, LoginKind, Risk, Run, RunEvent, RunId, RunRequest, RunState, next_state,
};
