//! A typed line, or a button that offers a command → a checked intent → reading, dry run, act or request.

use super::recipients::Recipients;
use super::{HandlerResult, Rejection, Workflow, replies};
use crate::access::Policy;
use crate::actions::{self, Action, Call, Implementation};
use crate::audit::Beginning;
use crate::catalog::{Command, Scope};
use crate::command_line::{self, KnownNames, ParsedCommand, TypedLine, Values};
use crate::error::{Error, Result};
use crate::model::{
    Block, ButtonToken, Heading, IncomingEvent, Person, Plan, Reply, Risk, RunId, RunRequest, Severity, Text,
    TokenPurpose,
};
use crate::store::{OpenOutcome, StoreError};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A request that is understood and allowed.
#[derive(Clone)]
pub(super) struct Intent<'a> {
    pub incoming: &'a IncomingEvent,
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
    pub break_glass: bool,
}

impl Intent<'_> {
    /// "kill 4711 --server main": as it was understood.
    pub fn asked(&self) -> String {
        let typed = command_line::typed(&self.command.name, &self.command.header.args, &self.values);
        if self.break_glass { format!("{} {typed}", command_line::BREAK_GLASS_PREFIX) } else { typed }
    }

    pub fn heading(&self, flow: &Workflow) -> Heading {
        Heading {
            who: Some(self.person.clone()),
            asked: self.asked(),
            environment: self.environment.as_deref().and_then(|name| flow.app.environments.tag(name)),
            run: None,
        }
    }

    pub fn asker(&self) -> String {
        format!("countersign {}", self.person.id)
    }
}

impl Workflow {
    /// A typed line.
    pub(super) async fn command(self: &Arc<Self>, incoming: &IncomingEvent, typed: &str) -> HandlerResult {
        let mut heading =
            Heading { who: None, asked: crate::suggest::shown(typed.trim()), environment: None, run: None };
        let understood = self.understand(incoming, typed, &mut heading).await;
        match understood {
            Ok(Some(intent)) => self.fulfil(intent).await,
            Ok(None) => self.menu(incoming, heading).await,
            Err(error) => Err(Rejection { heading, error }),
        }
    }

    async fn understand<'a>(
        &'a self,
        incoming: &'a IncomingEvent,
        typed: &str,
        heading: &mut Heading,
    ) -> Result<Option<Intent<'a>>> {
        let person = self.identify(incoming).await?;
        heading.who = Some(person.clone());
        let (break_glass, typed) = command_line::strip_break_glass_prefix(typed);
        let Some(understood) = command_line::understand(&self.app.catalog, typed, &self.known())? else {
            return Ok(None);
        };
        let intent = self.intended(incoming, (person, understood, break_glass), heading).await?;
        heading.asked = intent.asked();
        Ok(Some(intent))
    }

    /// What was understood, if this person is allowed it.
    async fn intended<'a>(
        &'a self,
        incoming: &'a IncomingEvent,
        (person, understood, break_glass): (Person, ParsedCommand<'a>, bool),
        heading: &mut Heading,
    ) -> Result<Intent<'a>> {
        let ParsedCommand { command, values, line } = understood;
        let environment = self.environment_of(incoming, command, line.environment.as_deref()).await?;
        heading.environment = environment.as_deref().and_then(|name| self.app.environments.tag(name));
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
            break_glass,
        };
        self.allow(&intent).await?;
        if break_glass {
            self.allow_break_glass(&intent, &line).await?;
        }
        Ok(intent)
    }

    /// A button that offers a command: the same checks as a typed line.
    pub(super) async fn offered(
        self: &Arc<Self>,
        incoming: &IncomingEvent,
        purpose: TokenPurpose,
    ) -> HandlerResult {
        let TokenPurpose::RunCommand { command, environment, arguments } = purpose else { return Ok(None) };
        let mut heading = Heading { who: None, asked: command.clone(), environment: None, run: None };
        let understood = async {
            let person = self.identify(incoming).await?;
            heading.who = Some(person.clone());
            let command = self.app.catalog.find(&command);
            let command = command.ok_or_else(|| Error::user("This command no longer exists."))?;
            let values = command_line::bind_offer(&command.header.args, &arguments, &self.known())?;
            let line = TypedLine { environment, ..TypedLine::default() };
            let understood = ParsedCommand { command, values, line };
            self.intended(incoming, (person, understood, false), &mut heading).await
        };
        match understood.await {
            Ok(intent) => self.fulfil(intent).await,
            Err(error) => Err(Rejection { heading, error }),
        }
    }

    fn known(&self) -> KnownNames {
        KnownNames::of(&self.app.config, &self.app.catalog)
    }

    /// The environment that was named, or that the conversation is bound to. There is no default.
    async fn environment_of(
        &self,
        incoming: &IncomingEvent,
        command: &Command,
        named: Option<&str>,
    ) -> Result<Option<String>> {
        if let Some(named) = named {
            return Ok(Some(self.app.environments.environment(&named.to_lowercase())?.name.clone()));
        }
        if command.header.scope == Scope::None {
            return Ok(None);
        }
        let which = || crate::postgres::choices(self.app.environments.names());
        match self.app.audit.store.binding(incoming.place.clone()).await {
            Ok(Some(bound)) => Ok(Some(self.app.environments.environment(&bound)?.name.clone())),
            Ok(None) => Err(Error::instead(
                "Which environment? None is set for this conversation.",
                format!("Add {}, or set one with `use`.", which()),
            )),
            Err(_) => Err(Error::instead(
                "Which environment? The audit log can't be read, so the one set for this conversation isn't known.",
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
            "`help` shows what you may run. Roles are assigned in the configuration.",
        ))
    }

    /// From here on the intent is understood and allowed.
    async fn fulfil(self: &Arc<Self>, intent: Intent<'_>) -> HandlerResult {
        let heading = intent.heading(self);
        let fulfilled = match actions::find(intent.command) {
            Some(Implementation::Action(act)) if intent.dry_run => self.dry_run(&intent, act).await.map(Some),
            Some(Implementation::Action(act)) => self.act_or_ask(&intent, act).await,
            _ if intent.dry_run => {
                Err(Error::user(format!("`{}` only reads: it has no dry run.", intent.command.name)))
            }
            _ => self.read(&intent).await,
        };
        fulfilled.map_err(|error| Rejection { heading, error })
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
    async fn dry_run(&self, intent: &Intent<'_>, act: &dyn Action) -> Result<Reply> {
        let plan = act.plan(&self.call(intent)).await?;
        let mut reply = Reply::new(intent.heading(self));
        let text = Text::new().plain("Dry run: nothing was executed and no approval was requested.");
        reply = reply.with(Block::Verdict { tone: Severity::Neutral, text });
        reply.blocks.extend(plan.blocks());
        Ok(if intent.private { reply.privately() } else { reply })
    }

    /// A write runs now; a danger asks a second person.
    async fn act_or_ask(
        self: &Arc<Self>,
        intent: &Intent<'_>,
        act: &'static dyn Action,
    ) -> Result<Option<Reply>> {
        let plan = act.plan(&self.call(intent)).await?;
        if let Some(run) = act.judges(&plan) {
            self.may_judge(intent, run).await?;
        }
        match intent.policy.risk {
            _ if intent.break_glass => self.act_now(intent, plan).await,
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
        let Ok(Some(run)) = self.app.audit.store.get(run).await else { return Ok(()) };
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
        (plan, concerned): (Plan, Recipients),
    ) -> Result<Option<crate::model::Run>> {
        let asks = intent.policy.risk == Risk::Danger && !intent.break_glass;
        let approvers = concerned.approvers.into_iter().map(|person| person.id).collect();
        let beginning = Beginning {
            asks,
            approvers,
            cards: concerned.cards,
            unless_break_glass_since: self.break_glass_since(intent),
            ..self.beginning(intent, Some(plan))
        };
        match self.app.audit.open(beginning).await {
            Ok(OpenOutcome::New(run)) => Ok(Some(*run)),
            Ok(OpenOutcome::Duplicate(run)) => {
                tracing::info!(run, "dropped duplicate delivery: already recorded");
                Ok(None)
            }
            Ok(OpenOutcome::ResourceBusy { resource, by }) => Err(Error::instead(
                format!("Run #{by} already holds the lock on {resource}."),
                format!("Wait until it has ended: `show {by}`."),
            )),
            Ok(OpenOutcome::Frozen(frozen)) => Err(frozen_error(&frozen)),
            Ok(OpenOutcome::RateLimited(last)) => Err(self.too_soon(&last)),
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
            request: RunRequest {
                command: intent.command.name.clone(),
                arguments: intent.values.clone(),
                risk: intent.policy.risk,
                environment: intent.environment.clone(),
                requester: intent.person.clone(),
                sender: Some(intent.incoming.sender.clone()),
                place: intent.incoming.place.clone(),
                command_hash: intent.command.hash.clone(),
                config_hash: self.app.config.hash.clone(),
                break_glass: intent.break_glass,
            },
            delivery_id: intent.incoming.delivery.clone(),
            texts,
            plan,
            policy: intent.policy,
            asks: false,
            cards: Vec::new(),
            approvers: Vec::new(),
            unless_break_glass_since: None,
            while_frozen: intent.command.header.while_frozen,
        }
    }

    async fn menu(self: &Arc<Self>, incoming: &IncomingEvent, heading: Heading) -> HandlerResult {
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
    pub(super) async fn keep_offers(
        &self,
        incoming: &IncomingEvent,
        offers: Vec<(String, TokenPurpose)>,
    ) -> bool {
        if offers.is_empty() {
            return true;
        }
        let place = &incoming.place;
        let tokens =
            offers.into_iter().map(|(token, purpose)| ButtonToken { token, purpose, place: place.clone() });
        self.app.audit.store.put_tokens(tokens.collect()).await.is_ok()
    }
}

/// Acting is frozen: who did it, and how to lift it.
pub(super) fn frozen_error(frozen: &crate::model::ActiveFreeze) -> Error {
    let reason = frozen.reason.as_ref().map_or(String::new(), |reason| format!(" ({reason})"));
    Error::instead(
        format!(
            "{} froze all changes at {}{reason}. Nothing was done.",
            frozen.by.id,
            crate::sql::moment(frozen.at)
        ),
        "Read commands still work. `unfreeze` lifts the freeze, with a second person's approval.",
    )
}

/// The record can't be written, so nothing that acts may start.
pub(super) fn unrecorded(why: &StoreError) -> Error {
    Error::instead(
        format!("The audit log can't be written ({why}), so nothing was executed."),
        "Read commands still work. Tell Countersign's operators, and try again when the audit log can be written.",
    )
}
