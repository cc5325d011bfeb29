//! The words that every module shares. No I/O, and nothing here waits.

mod button;
mod card;
mod event;
mod person;
mod plan;
mod reply;
mod risk;
mod run;
pub mod transitions;

pub use button::{Button, ButtonStyle, ButtonToken, Decision, TokenPurpose, random_token};
pub use card::{Card, CardKind, PostedMessage};
pub use event::{AnswerHandle, Event, IncomingEvent};
pub use person::{ChatAccount, Conversation, Person, PlatformKind};
pub use plan::{Plan, as_text, from_identity, sha256_hex, to_identity};
pub use reply::{
    Audience, Block, Cell, Column, EnvironmentTag, Heading, Reply, Row, Severity, Shape, Span, Table, Text,
    bar,
};
pub use risk::{Login, Risk};
pub use run::{ActiveFreeze, Run, RunEvent, RunId, RunRequest, RunState};
pub use transitions::EventKind;
