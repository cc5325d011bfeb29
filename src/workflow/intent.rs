//! A typed line, or a button that offers a command → a checked intent → reading, dry run, act or request.

use super::recipients::Concerned;
use super::{Flow, Handled, Refused, replies};
use crate::access::Policy;
use crate::actions::{self, Act, Call, Code};
use crate::audit::Beginning;
use crate::catalog::{Command, Risk, Scope};
use crate::command_line::{self, Known, Line, Understood, Values};
use crate::error::{Error, Result};
use crate::message::{Block, Heading, Incoming, Person, Reply, Text, Tone};
use crate::plan::Plan;
use crate::store::{Meaning, Opened, Request, RunId, StoreError, Token};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A request that is understood and allowed.
#[derive(Clone)]
pub(super) struct Intent<'a> {
    pub incoming: &'a Incoming,
    pub person: Person,
    pub command: &'a Command,
    pub values: Values,
    pub environment: Option<String>,
    /// What it needs there, by the configuration of now.
    pub policy: Policy,
    pub reason: Option<String>,
    pub private: bool,
    pub dry_run: bool,
    /// Without a second person, in need.
    pub alone: bool,
}

impl Intent<'_> {
    /// "kill 4711 --server main": as it was understood.
    pub fn asked(&self) -> String {
        let typed = command_line::typed(&self.command.name, &self.command.header.args, &self.values);
        if self.alone { format!("{} {typed}", command_line::ALONE) } else { typed }
    }

    pub fn heading(&self, flow: &Flow) -> Heading {
        Heading {
            who: Some(self.person.clone()),
            asked: self.asked(),
            environment: self.environment.as_deref().and_then(|name| flow.app.targets.tag(name)),
            run: None,
        }
    }

    pub fn asker(&self) -> String {
        format!("countersign {}", self.person.id)
    }
}

impl Flow {
    /// A typed line.
    pub(super) async fn command(self: &Arc<Self>, incoming: &Incoming, typed: &str) -> Handled {
        let mut heading =
            Heading { who: None, asked: command_line::shown(typed.trim()), environment: None, run: None };
        let understood = self.understand(incoming, typed, &mut heading).await;
        match understood {
            Ok(Some(intent)) => self.fulfil(intent).await,
            Ok(None) => self.menu(incoming, heading).await,
            Err(error) => Err(Refused { heading, error }),
        }
    }

    async fn understand<'a>(
        &'a self,
        incoming: &'a Incoming,
        typed: &str,
        heading: &mut Heading,
    ) -> Result<Option<Intent<'a>>> {
        let person = self.identify(incoming).await?;
        heading.who = Some(person.clone());
        let (alone, typed) = command_line::alone(typed);
        let Some(understood) = command_line::understand(&self.app.catalog, typed, &self.known())? else {
            return Ok(None);
        };
        let intent = self.intended(incoming, (person, understood, alone), heading).await?;
        heading.asked = intent.asked();
        Ok(Some(intent))
    }

    /// What was understood, if this person is allowed it.
    async fn intended<'a>(
        &'a self,
        incoming: &'a Incoming,
        (person, understood, alone): (Person, Understood<'a>, bool),
        heading: &mut Heading,
    ) -> Result<Intent<'a>> {
        let Understood { command, values, line } = understood;
        let environment = self.environment_of(incoming, command, line.environment.as_deref()).await?;
        heading.environment = environment.as_deref().and_then(|name| self.app.targets.tag(name));
        let policy = self.app.access.policy(command, environment.as_deref());
        let (reason, private, dry_run) = (line.reason.clone(), line.private, line.dry_run);
        let intent = Intent {
            incoming,
            person,
            command,
            values,
            environment,
            policy,
            reason,
            private,
            dry_run,
            alone,
        };
        self.allow(&intent).await?;
        if alone {
            self.allow_alone(&intent, &line).await?;
        }
        Ok(intent)
    }

    /// A button that offers a command: the same checks as a typed line.
    pub(super) async fn offered(self: &Arc<Self>, incoming: &Incoming, meaning: Meaning) -> Handled {
        let Meaning::Offer { command, environment, arguments } = meaning else { return Ok(None) };
        let mut heading = Heading { who: None, asked: command.clone(), environment: None, run: None };
        let understood = async {
            let person = self.identify(incoming).await?;
            heading.who = Some(person.clone());
            let command = self.app.catalog.find(&command);
            let command = command.ok_or_else(|| Error::user("That command is no longer there."))?;
            let values = command_line::bind_offer(&command.header.args, &arguments, &self.known())?;
            let line = Line { environment, ..Line::default() };
            let understood = Understood { command, values, line };
            self.intended(incoming, (person, understood, false), &mut heading).await
        };
        match understood.await {
            Ok(intent) => self.fulfil(intent).await,
            Err(error) => Err(Refused { heading, error }),
        }
    }

    fn known(&self) -> Known {
        Known::of(&self.app.config, &self.app.catalog)
    }

    /// The environment that was named, or that the conversation is bound to. There is no default.
    async fn environment_of(
        &self,
        incoming: &Incoming,
        command: &Command,
        named: Option<&str>,
    ) -> Result<Option<String>> {
        if let Some(named) = named {
            return Ok(Some(self.app.targets.environment(&named.to_lowercase())?.name.clone()));
        }
        if command.header.scope == Scope::None {
            return Ok(None);
        }
        let which = || crate::postgres::choices(self.app.targets.names());
        match self.app.runs.store.binding(incoming.place.clone()).await {
            Ok(Some(bound)) => Ok(Some(self.app.targets.environment(&bound)?.name.clone())),
            Ok(None) => Err(Error::instead(
                "Which environment? This conversation isn't bound to one.",
                format!("Add {}, or bind it with `use`.", which()),
            )),
            Err(_) => Err(Error::instead(
                "Which environment? The record can't be read now, so this conversation's isn't known.",
                format!("Add {}.", which()),
            )),
        }
    }

    async fn allow(&self, intent: &Intent<'_>) -> Result<()> {
        let environment = intent.environment.as_deref();
        let roles = self.app.access.roles_to_run(&intent.person, intent.command, environment);
        if !roles.is_empty() {
            return self.narrowed(&intent.incoming.sender, &roles).await;
        }
        let place = environment.map_or(String::new(), |name| format!(" in {name}"));
        Err(Error::instead(
            format!("You may not run `{}`{place}.", intent.command.name),
            "`help` shows what you may run; a role that may run more is given in the configuration.",
        ))
    }

    /// From here on the intent is understood and allowed.
    async fn fulfil(self: &Arc<Self>, intent: Intent<'_>) -> Handled {
        let heading = intent.heading(self);
        let fulfilled = match actions::find(intent.command) {
            Some(Code::Act(act)) if intent.dry_run => self.dry_run(&intent, act).await.map(Some),
            Some(Code::Act(act)) => self.act_or_ask(&intent, act).await,
            _ if intent.dry_run => Err(Error::user(format!(
                "`{}` changes nothing: there is nothing to try dry.",
                intent.command.name
            ))),
            _ => self.read(&intent).await,
        };
        fulfilled.map_err(|error| Refused { heading, error })
    }

    pub(super) fn call<'a>(&'a self, intent: &'a Intent<'_>) -> Call<'a> {
        Call {
            app: &self.app,
            command: intent.command,
            person: &intent.person,
            place: &intent.incoming.place,
            environment: intent.environment.as_deref(),
            values: &intent.values,
            asker: intent.asker(),
        }
    }

    /// The plan, and nobody is asked.
    async fn dry_run(&self, intent: &Intent<'_>, act: &dyn Act) -> Result<Reply> {
        let plan = act.plan(&self.call(intent)).await?;
        let mut reply = Reply::new(intent.heading(self));
        let text = Text::new().plain("Dry run: nothing was done and nobody was asked.");
        reply = reply.with(Block::Verdict { tone: Tone::Plain, text });
        reply.blocks.extend(plan.blocks());
        Ok(if intent.private { reply.privately() } else { reply })
    }

    /// A write runs now; a danger asks a second person.
    async fn act_or_ask(
        self: &Arc<Self>,
        intent: &Intent<'_>,
        act: &'static dyn Act,
    ) -> Result<Option<Reply>> {
        let plan = act.plan(&self.call(intent)).await?;
        if let Some(run) = act.judges(&plan) {
            self.may_judge(intent, run).await?;
        }
        match intent.policy.risk {
            _ if intent.alone => self.act_now(intent, plan).await,
            Risk::Danger if !intent.incoming.place.platform.is_chat() => {
                self.ask_elsewhere(intent, plan).await
            }
            // The card is the answer.
            Risk::Danger => self.ask(intent, plan).await.map(|_| None),
            Risk::Read | Risk::Write => self.act_now(intent, plan).await,
        }
    }

    /// A typed verdict counts as a click does: by a role that approves that run, in the role's group if it has one.
    async fn may_judge(&self, intent: &Intent<'_>, run: RunId) -> Result<()> {
        let Ok(Some(run)) = self.app.runs.store.get(run).await else { return Ok(()) };
        let Some(command) = self.app.catalog.find(&run.request.command) else { return Ok(()) };
        let environment = run.request.environment.as_deref();
        let roles = self.app.access.roles_to_approve(&intent.person, command, environment);
        self.narrowed(&intent.incoming.sender, &roles).await
    }

    /// Opens the run of an acting intent, with the copies of its card.
    ///
    /// # Errors
    /// [`Error::User`] when it is frozen, held, or can't be recorded: then nothing was done.
    pub(super) async fn open(
        &self,
        intent: &Intent<'_>,
        (plan, concerned): (Plan, Concerned),
    ) -> Result<Option<crate::store::Run>> {
        let asks = intent.policy.risk == Risk::Danger && !intent.alone;
        let approvers = concerned.approvers.into_iter().map(|person| person.id).collect();
        let beginning = Beginning {
            asks,
            approvers,
            copies: concerned.copies,
            unless_alone_since: self.alone_since(intent),
            ..self.beginning(intent, Some(plan))
        };
        match self.app.runs.open(beginning).await {
            Ok(Opened::New(run)) => Ok(Some(*run)),
            Ok(Opened::Duplicate(run)) => {
                tracing::info!(run, "dropped a delivery that was recorded before");
                Ok(None)
            }
            Ok(Opened::Held { resource, by }) => Err(Error::instead(
                format!("Run #{by} is at it already ({resource})."),
                format!("Wait for it: `show {by}`."),
            )),
            Ok(Opened::Frozen(frozen)) => Err(frozen_error(&frozen)),
            Ok(Opened::TooSoon(last)) => Err(self.too_soon(&last)),
            Err(why) => Err(unrecorded(&why)),
        }
    }

    pub(super) fn beginning(&self, intent: &Intent<'_>, plan: Option<Plan>) -> Beginning {
        let mut texts = BTreeMap::new();
        if let Some(reason) = &intent.reason {
            texts.insert("reason".to_owned(), crate::redact::text(reason));
        }
        texts.insert("asked".to_owned(), intent.asked());
        Beginning {
            request: Request {
                command: intent.command.name.clone(),
                arguments: intent.values.clone(),
                risk: intent.policy.risk.word().to_owned(),
                environment: intent.environment.clone(),
                requester: intent.person.clone(),
                sender: Some(intent.incoming.sender.clone()),
                place: intent.incoming.place.clone(),
                command_hash: intent.command.hash.clone(),
                config_hash: self.app.config.hash.clone(),
                alone: intent.alone,
            },
            delivery: intent.incoming.delivery.clone(),
            texts,
            plan,
            policy: intent.policy,
            asks: false,
            copies: Vec::new(),
            approvers: Vec::new(),
            unless_alone_since: None,
            while_frozen: intent.command.header.while_frozen,
        }
    }

    async fn menu(self: &Arc<Self>, incoming: &Incoming, heading: Heading) -> Handled {
        let heading = Heading { asked: "help".to_owned(), ..heading };
        let may = |name: &&str| {
            let command = self.app.catalog.find(name);
            let who = heading.who.as_ref();
            command.zip(who).is_some_and(|(command, who)| self.app.access.may_run(who, command, None))
        };
        let commands: Vec<&str> = replies::FIRST.into_iter().filter(may).collect();
        let (mut reply, offers) = replies::menu(heading, &commands);
        if !self.keep_offers(incoming, offers).await {
            reply.blocks.retain(|block| !matches!(block, Block::Buttons(_)));
        }
        Ok(Some(reply))
    }

    /// Stores what an answer's buttons stand for. Buttons that can't be stored mean nothing, and are not shown.
    pub(super) async fn keep_offers(&self, incoming: &Incoming, offers: Vec<(String, Meaning)>) -> bool {
        if offers.is_empty() {
            return true;
        }
        let place = &incoming.place;
        let tokens =
            offers.into_iter().map(|(token, meaning)| Token { token, meaning, place: place.clone() });
        self.app.runs.store.put_tokens(tokens.collect()).await.is_ok()
    }
}

/// Acting is frozen: who did it, and how to lift it.
pub(super) fn frozen_error(frozen: &crate::store::Frozen) -> Error {
    let reason = frozen.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    Error::instead(
        format!(
            "{} froze all acting at {}{reason}. Nothing was done.",
            frozen.by.id,
            crate::sql::moment(frozen.at)
        ),
        "Reading goes on. `unfreeze` lifts it, with a second person.",
    )
}

/// The record can't be written, so nothing that acts may start.
pub(super) fn unrecorded(why: &StoreError) -> Error {
    Error::instead(
        format!("It can't be recorded now ({why}), so nothing was done."),
        "Reading still works. Tell Countersign's operators; try again when the record can be written.",
    )
}
