//! The card of a run: a pure function of its record. Every copy that shows less than the record is rendered and sent again,
//! after a restart too; while work runs, its progress is edited in.

use super::Flow;
use super::act::{outcome_blocks, voters};
use super::request::Intent;
use crate::Share;
use crate::actions::{self, Code, interrupted};
use crate::message::{Block, Button, ButtonStyle, Heading, Person, Place, Reply, SendError, Text, Tone};
use crate::plan::Plan;
use crate::runs::{Happening, Told};
use crate::sql::moment;
use crate::store::{CardCopy, CopyKind, Meaning, Run, RunId, State, StoreResult, Token, Verdict};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Approvers that are called by name on a card: more would be noise at night.
pub(super) const MOST_CALLED: usize = 5;

/// What this process works at right now: copies that it sends, runs that it carries out.
#[derive(Default)]
pub struct Desk(Mutex<HashSet<i64>>);

impl Desk {
    pub(super) fn begin(&self, id: i64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id)
    }
    /// Whether it was begun.
    pub(super) fn end(&self, id: i64) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&id)
    }
    pub(super) fn all(&self) -> Vec<i64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }
}

pub(super) fn heading(flow: &Flow, run: &Run) -> Heading {
    Heading {
        who: Some(run.request.requester.clone()),
        asked: run.text("asked").unwrap_or(&run.request.command).to_owned(),
        environment: run.request.environment.as_deref().and_then(|name| flow.app.targets.tag(name)),
        run: Some(run.id),
    }
}

/// The card as the record has it, without buttons.
pub fn card(flow: &Flow, run: &Run) -> Reply {
    let mut reply = Reply::new(heading(flow, run));
    let plan = run.text("plan").and_then(Plan::read);
    match run.state {
        State::Pending => {
            reply.whole = true;
            reply.blocks.extend(waiting(flow, run));
            reply.blocks.extend(plan.iter().flat_map(Plan::blocks));
            reply.blocks.extend(plan.iter().map(|plan| sign_here(&reply.heading, plan)));
        }
        State::Approved | State::Running => {
            let share = flow.app.progress.get(run.id);
            let text = plan.as_ref().map_or(String::new(), |plan| plan.effect.clone());
            reply.blocks.push(Block::Verdict { tone: Tone::Plain, text: format!("Running: {text}").into() });
            if let Some(share) = share {
                reply.blocks.push(Block::Progress { percent: share.percent, label: share.label });
            }
        }
        _ => {
            reply.blocks.extend(ended(flow, run));
            if let Some(share) = watched(flow, run) {
                reply.blocks.push(Block::Progress { percent: share.percent, label: share.label });
            }
            if let Some(plan) = plan.filter(|_| run.event("requested").is_some()) {
                reply.blocks.push(Block::Note(Text::new().plain("Asked: ").plain(plan.effect)));
            }
        }
    }
    reply.blocks.extend(owed(flow, run));
    reply.blocks.extend(story(run));
    reply
}

/// What the card would look like, before there is a run: to see that it fits.
pub fn preview(flow: &Flow, intent: &Intent<'_>, plan: &Plan) -> Reply {
    let mut reply = Reply::new(Heading { run: Some(RunId::MAX), ..intent.heading(flow) });
    reply.whole = true;
    let called = flow.app.access.approvers(
        intent.command,
        intent.environment.as_deref(),
        (&intent.person, intent.incoming.place.platform),
    );
    reply.blocks.push(call(&called, (intent.policy.approvers, 0), None));
    reply.blocks.extend(plan.blocks());
    reply.blocks.extend(intent.reason.as_deref().map(reason));
    reply.blocks.push(sign_here(&reply.heading, plan));
    let button = |label: &str, style| Button { label: label.to_owned(), token: "0".repeat(32), style };
    reply.with(Block::Buttons(vec![
        button("Approve", ButtonStyle::Primary),
        button("Deny", ButtonStyle::Danger),
        button("Withdraw", ButtonStyle::Plain),
    ]))
}

/// Environment and plan once more, right above the buttons: on a phone the heading is out of sight by then.
fn sign_here(heading: &Heading, plan: &Plan) -> Block {
    let mut text = Text::new();
    if let Some(environment) = &heading.environment {
        let name =
            if environment.production { environment.name.to_uppercase() } else { environment.name.clone() };
        text = text.strong(name).plain(" · ");
    }
    Block::Text(text.code(heading.asked.clone()).plain(format!(" · plan {}", &plan.digest()[..12])))
}

fn reason(reason: &str) -> Block {
    Block::Text(Text::new().strong("Reason: ").plain(reason))
}

/// `needed` of them must agree, and `agreed` have.
fn call(called: &[Person], (needed, agreed): (usize, usize), deadline: Option<jiff::Timestamp>) -> Block {
    let mut text = Text::new().plain(match (needed, agreed) {
        (0 | 1, _) => "Waits for a second person: ".to_owned(),
        (needed, 0) => format!("Waits for {needed} different people: "),
        (needed, agreed) => format!("{agreed} of {needed} have approved. Waits for "),
    });
    for (at, person) in called.iter().take(MOST_CALLED).enumerate() {
        text = if at > 0 { text.plain(", ") } else { text };
        text = text.ping(person);
    }
    if called.len() > MOST_CALLED {
        text = text.plain(format!(" or {} more", called.len() - MOST_CALLED));
    }
    let until = deadline.map_or(String::new(), |until| format!(", until {}", moment(until)));
    Block::Verdict { tone: Tone::Watch, text: text.plain(until).plain(".") }
}

/// Who can still approve it: whoever has a role for it, but for the requester and those who have approved.
pub(super) fn still_called(flow: &Flow, run: &Run) -> Vec<Person> {
    let environment = run.request.environment.as_deref();
    let asker = (&run.request.requester, run.request.place.platform);
    let command = flow.app.catalog.find(&run.request.command);
    let could = command.map_or(Vec::new(), |command| flow.app.access.approvers(command, environment, asker));
    let voters = voters(run);
    could.into_iter().filter(|person| !voters.iter().any(|voter| voter.id == person.id)).collect()
}

pub(super) fn waits_for(flow: &Flow, run: &Run) -> Block {
    let command = flow.app.catalog.find(&run.request.command);
    let needed = command.map_or(1, |command| flow.policy_of(run, command).approvers);
    call(&still_called(flow, run), (needed, voters(run).len()), run.deadline)
}

fn waiting(flow: &Flow, run: &Run) -> Vec<Block> {
    let mut blocks = vec![waits_for(flow, run)];
    blocks.extend(run.text("reason").map(reason));
    blocks
}

/// Somebody acted alone: who, and who has to look at it.
fn owed(flow: &Flow, run: &Run) -> Option<Block> {
    let by = &run.request.requester.id;
    if !run.request.alone || run.event(Happening::Reviewed.word()).is_some() {
        return None;
    }
    let mut text = Text::new().strong("Alone: ").plain(format!("{by} did this without a second person. "));
    for (at, person) in still_called(flow, run).iter().take(MOST_CALLED).enumerate() {
        text = text.plain(if at > 0 { ", " } else { "" }).ping(person);
    }
    text = text
        .plain(": one of you has to look at it, then type ")
        .code(format!("review {}", run.id))
        .plain(".");
    Some(Block::Verdict { tone: Tone::Act, text })
}

fn ended(flow: &Flow, run: &Run) -> Vec<Block> {
    let outcome = outcome_blocks(run);
    if !outcome.is_empty() {
        return outcome;
    }
    let last = run.events.last();
    let by = last.and_then(|event| event.by.as_ref()).map_or("Countersign", |person| person.id.as_str());
    let fact = last.and_then(|event| event.facts.get("why")).and_then(|why| why.as_str());
    let why = fact.or(last.and_then(|event| event.texts.get("why")).map(String::as_str));
    let why = why.map_or(String::new(), |why| format!(": {why}"));
    let (tone, text) = match run.state {
        State::Denied => (Tone::Watch, format!("Denied by {by}{why}. Nothing was done.")),
        State::Withdrawn => (Tone::Plain, format!("Withdrawn by {by}. Nothing was done.")),
        State::Revoked => (Tone::Watch, format!("The approval no longer counted{why}. Nothing was done.")),
        State::Expired => (Tone::Watch, "Expired: nobody decided in time. Nothing was done. Ask again if it still matters.".to_owned()),
        State::Voided => (Tone::Watch, format!("Void{why}. Nothing was done.")),
        State::Unknown if goes_on(flow, run) => {
            (Tone::Watch, "Countersign was interrupted while it ran. It goes on from its last step as soon as it can; `stop` ends it for good.".to_owned())
        }
        State::Unknown if watched(flow, run).is_some() => {
            (Tone::Watch, format!("Countersign was interrupted while it ran. What it began may go on: that is watched, and nothing is repeated. `stop {}` ends it.", run.id))
        }
        State::Unknown => {
            (Tone::Act, "Countersign was interrupted while it ran: what became of it is unknown. It is not repeated; look before asking again.".to_owned())
        }
        other => (Tone::Plain, format!("{other:?}{why}")),
    };
    vec![Block::Verdict { tone, text: text.into() }]
}

/// Whether the keeper will take it up again.
fn goes_on(flow: &Flow, run: &Run) -> bool {
    let code = flow.app.catalog.find(&run.request.command).and_then(actions::find);
    matches!(code, Some(Code::Act(act)) if interrupted::goes_on(act, run))
}

/// What is seen of an interrupted run.
fn watched(flow: &Flow, run: &Run) -> Option<Share> {
    flow.app.progress.get(run.id).filter(|_| run.state == State::Unknown)
}

/// Who did what, in one small line each.
fn story(run: &Run) -> Vec<Block> {
    let kinds = ["agreed", "approved", "denied", "withdrawn", "stopping", "reviewed"];
    let told = run.events.iter().filter(|event| kinds.contains(&event.kind.as_str()));
    let mut lines: Vec<Block> = told
        .filter_map(|event| {
            let by = event.by.as_ref()?;
            let text = Text::new()
                .plain(match event.kind.as_str() {
                    "stopping" => "told to stop by ".to_owned(),
                    kind => format!("{kind} by "),
                })
                .person(by)
                .plain(format!(", {}", moment(event.at)));
            Some(Block::Note(text))
        })
        .collect();
    if !run.state.is_open() && run.state != State::Pending {
        lines.extend(run.text("reason").map(reason));
    }
    lines
}

/// Whether the run's newest events change what this copy says. Steps are progress, which the cards show anyway; a result waits
/// for the end, and nobody is told what they did themselves.
fn shows_more(copy: &CardCopy, run: &Run) -> bool {
    let shown = usize::try_from(copy.shown).unwrap_or_default();
    let news = run.events.get(shown..).unwrap_or_default();
    match copy.kind {
        CopyKind::Card | CopyKind::Direct if copy.message.is_none() => true,
        CopyKind::Card | CopyKind::Direct => news.iter().any(|event| event.kind != Happening::Step.word()),
        CopyKind::Result => !run.state.is_open() && run.state != State::Withdrawn,
    }
}

impl Flow {
    /// Adds a copy of the run's card in a place and sends it.
    ///
    /// # Errors
    /// When the copy can't be noted: then it is never sent.
    pub(super) async fn post_card(self: &Arc<Self>, run: &Run, place: &Place) -> StoreResult<()> {
        let copy = self.app.runs.store.add_copy(run.id, place.clone(), CopyKind::Card).await?;
        self.deliver(copy).await;
        Ok(())
    }

    /// Brings all copies of a run's card up to its record.
    pub(super) async fn refresh(self: &Arc<Self>, run: RunId) {
        match self.app.runs.store.copies_of(run).await {
            Ok(copies) => {
                let behind = copies.into_iter().filter(|copy| !copy.lost);
                futures::future::join_all(behind.map(|copy| self.deliver(copy.id))).await;
            }
            Err(why) => tracing::warn!(run, %why, "cards wait for the record"),
        }
    }

    pub(super) fn refresh_soon(self: &Arc<Self>, run: RunId) {
        let flow = Arc::clone(self);
        self.after.spawn(async move { flow.refresh(run).await });
    }

    /// Sends one copy as the record has it now. What fails is tried again by the keeper.
    pub(super) async fn deliver(self: &Arc<Self>, copy: i64) {
        if !self.cards.begin(copy) {
            return;
        }
        if let Err(why) = self.deliver_now((copy, false)).await {
            tracing::warn!(copy, %why, "a card waits");
        }
        self.cards.end(copy);
    }

    /// `anew`: though it shows all that the record has.
    pub(super) async fn deliver_now(self: &Arc<Self>, (copy, anew): (i64, bool)) -> anyhow::Result<()> {
        let store = &self.app.runs.store;
        if !store.claim_copy(copy, jiff::Timestamp::now() + Duration::from_secs(30)).await? {
            return Ok(());
        }
        let Some(mut copy) = store.copy(copy).await? else { return Ok(()) };
        let Some(run) = store.get(copy.run).await? else { return Ok(()) };
        if copy.lost || (copy.message.is_some() && copy.shown >= run.version && !anew) {
            return Ok(store.update_copy(copy).await?);
        }
        if !anew && !shows_more(&copy, &run) {
            copy.shown = run.version;
            return Ok(store.update_copy(copy).await?);
        }
        let mut reply = card(self, &run);
        if run.state == State::Pending {
            reply.blocks.push(Block::Buttons(self.verdict_buttons(&run, &copy).await?));
        }
        match self.send_copy(&copy, &run, &reply).await {
            Ok(posted) => {
                copy.place = posted.place;
                copy.message = Some(posted.message);
                copy.shown = run.version;
            }
            Err(SendError::Unavailable(why)) => {
                tracing::warn!(run = run.id, why, "a card waits for the chat platform");
            }
            Err(why) => {
                copy.lost = true;
                self.undeliverable(&run, (&copy, &why)).await;
            }
        }
        Ok(store.update_copy(copy).await?)
    }

    pub(super) async fn send_copy(
        &self,
        copy: &CardCopy,
        run: &Run,
        reply: &Reply,
    ) -> Result<crate::message::Posted, SendError> {
        let platform =
            self.platform(copy.place.platform).ok_or(SendError::Refused("no platform".to_owned()))?;
        if let Some(message) = &copy.message {
            let posted = crate::message::Posted { place: copy.place.clone(), message: message.clone() };
            return platform.edit(&posted, reply).await.map(|()| posted);
        }
        match (platform.post(&copy.place, reply).await, &run.request.sender) {
            // A plan is shown where it was asked for or not at all; a result may go to its asker.
            (Err(SendError::NotThere), Some(sender)) if run.event("requested").is_none() => {
                platform.tell(sender, reply).await
            }
            (result, _) => result,
        }
    }

    /// A plan that nobody can be shown can't be approved.
    async fn undeliverable(&self, run: &Run, (copy, why): (&CardCopy, &SendError)) {
        tracing::error!(run = run.id, %why, "a card could not be delivered");
        let others = self.app.runs.store.copies_of(run.id).await.unwrap_or_default();
        let mut others = others.iter().filter(|other| other.id != copy.id && other.kind == CopyKind::Card);
        if run.state == State::Pending && copy.kind == CopyKind::Card && !others.any(|other| !other.lost) {
            self.append_or_log(run, Happening::Voided, Told::why("its card could not be shown")).await;
        }
    }

    async fn verdict_buttons(&self, run: &Run, copy: &CardCopy) -> anyhow::Result<Vec<Button>> {
        let verdicts = [
            ("Approve", Verdict::Approve, ButtonStyle::Primary),
            ("Deny", Verdict::Deny, ButtonStyle::Danger),
            ("Withdraw", Verdict::Withdraw, ButtonStyle::Plain),
        ];
        let mut buttons = Vec::new();
        let mut tokens = Vec::new();
        for (label, verdict, style) in verdicts {
            let token =
                crate::plan::random_token().ok_or_else(|| anyhow::anyhow!("there is no randomness"))?;
            let meaning = Meaning::Verdict { run: run.id, verdict, copy: copy.id };
            tokens.push(Token { token: token.clone(), meaning, place: copy.place.clone() });
            buttons.push(Button { label: label.to_owned(), token, style });
        }
        self.app.runs.store.put_tokens(tokens).await?;
        Ok(buttons)
    }
}
