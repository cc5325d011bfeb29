//! From a typed line, or a button that offers a command, to an intent: parsed, and authorized for its person.

use super::authenticate::Authenticator;
use crate::access::Policy;
use crate::actions::Call;
use crate::app::App;
use crate::audit::EventDetails;
use crate::catalog::{Command, Scope};
use crate::command_line::{self, KnownNames, ParsedCommand, TypedLine, Values};
use crate::error::{Error, Result};
use crate::model::{
    CardKind, ChatAccount, ChatEvent, Conversation, Heading, Person, Plan, Risk, Run, RunRequest,
    TokenPurpose, TypedText,
};
use crate::platform::Freshness;
use crate::redact;
use crate::schedule::{self, PAUSE, RESUME, ScheduledStart, WINDOW};
use crate::sql::{duration, moment};
use crate::store::NewRun;

/// The command that shows the windows, and stands before what is done with one.
const SCHEDULE: &str = "schedule";

/// A command that is parsed, and that its person may run.
#[derive(Clone)]
pub(super) struct Intent<'a> {
    pub incoming: &'a ChatEvent,
    pub person: Person,
    pub command: &'a Command,
    pub values: Values,
    pub environment: Option<String>,
    /// Its requirements in that environment, by the configuration of now.
    pub policy: Policy,
    pub reason: Option<String>,
    pub private: bool,
    pub dry_run: bool,
    /// In an emergency, without approval.
    pub break_glass: bool,
    /// The start of a window, which no person requested.
    pub start: Option<ScheduledStart>,
}

/// The people who could approve a request when it was made, and the cards that are recorded with it.
#[derive(Debug, Clone, Default)]
pub(super) struct Recipients {
    pub approvers: Vec<Person>,
    pub cards: Vec<(Conversation, CardKind)>,
}

impl Intent<'_> {
    /// True if it changes something without an approval, before which the account and the groups are read again.
    fn acts_at_once(&self) -> bool {
        !self.dry_run && (self.break_glass || self.policy.risk == Risk::Write)
    }

    /// The command in canonical form: "kill 4711 --server main".
    pub fn request_text(&self) -> String {
        let typed =
            command_line::to_line(&self.command.name, &self.command.header.args, &self.recorded_values());
        if self.break_glass { format!("{} {typed}", command_line::BREAK_GLASS_PREFIX) } else { typed }
    }

    /// The values as they are shown and recorded: of a read without secrets, which are in what a person looks for. What is done, and
    /// what somebody approves, are exact.
    fn recorded_values(&self) -> Values {
        let redacted = |value: &String| {
            if self.policy.risk == Risk::Read { redact::name(value) } else { value.clone() }
        };
        self.values.iter().map(|(name, value)| (name.clone(), redacted(value))).collect()
    }

    pub fn heading(&self, app: &App) -> Heading {
        Heading {
            requester: Some(self.person.clone()),
            command: self.request_text(),
            environment: self.environment.as_deref().and_then(|name| app.environments.tag(name)),
            run: None,
        }
    }

    /// The `application_name` of its connections.
    pub fn asker(&self) -> String {
        format!("countersign {}", self.person.id)
    }

    pub fn call<'a>(&'a self, app: &'a App) -> Call<'a> {
        Call {
            app,
            command: self.command,
            person: &self.person,
            conversation: &self.incoming.conversation,
            environment: self.environment.as_deref(),
            values: &self.values,
            asker: self.asker(),
            run: None,
        }
    }

    pub fn needs_approval(&self) -> bool {
        self.policy.risk == Risk::Danger && !self.break_glass
    }

    pub fn new_run(&self, app: &App, plan: Option<Plan>, recipients: Recipients) -> NewRun {
        let mut details = EventDetails::by_person(&self.person).with_text("asked", self.request_text());
        if let Some(reason) = &self.reason {
            details = details.with_text("reason", redact::note(reason));
        }
        if let Some(plan) = &plan {
            details = details.with_plan(plan);
        }
        if self.needs_approval() || self.break_glass {
            details = details.with_policy(&self.policy, &recipients.approvers);
        }
        if let Some(start) = &self.start {
            details = details.with_fact(ScheduledStart::FACT, start);
        }
        NewRun {
            request: RunRequest {
                command: self.command.name.clone(),
                arguments: self.recorded_values(),
                risk: self.policy.risk,
                environment: self.environment.clone(),
                requester: self.person.clone(),
                sender: self.start.is_none().then(|| self.incoming.sender.clone()),
                conversation: self.incoming.conversation.clone(),
                command_hash: self.command.hash.clone(),
                config_hash: app.config.hash.clone(),
                break_glass: self.break_glass,
            },
            delivery_id: self.incoming.delivery.clone(),
            resource_locks: plan.map(|plan| plan.resource_locks).unwrap_or_default(),
            first_event: app.audit.first_event(self.needs_approval(), details),
            late_event: None,
            cards: recipients.cards,
            // Nobody else may have used it since. The store checks that: of two attempts at once one is allowed.
            unless_break_glass_within: app
                .access
                .break_glass()
                .filter(|_| self.break_glass)
                .map(|rules| rules.interval),
            unless_frozen: self.policy.risk != Risk::Read && !self.command.header.allowed_while_frozen,
        }
    }
}

impl Authenticator {
    /// Parses a typed line; `None` if it is empty. The heading is filled in as far as the line is understood.
    ///
    /// # Errors
    /// [`Error::User`] when it isn't understood, or not allowed.
    pub(super) async fn parse_line<'a>(
        &'a self,
        incoming: &'a ChatEvent,
        typed: &TypedText,
        heading: &mut Heading,
    ) -> Result<Option<Intent<'a>>> {
        let person = self.identify(incoming).await?;
        heading.requester = Some(person.clone());
        let typed = self.with_names(incoming, typed).await;
        heading.command = redact::name(&crate::suggest::shown(typed.words().trim()));
        let Some(parsed) = command_line::parse_command(&self.app.catalog, &typed, &self.known_names())?
        else {
            return Ok(None);
        };
        let intent = self.authorize(incoming, person, parsed, heading).await?;
        heading.command = intent.request_text();
        Ok(Some(intent))
    }

    /// Resolves a button that offers a command, with the same checks as for a typed line. `None` for any other button.
    ///
    /// # Errors
    /// As [`Authenticator::parse_line`].
    pub(super) async fn parse_offer<'a>(
        &'a self,
        incoming: &'a ChatEvent,
        purpose: TokenPurpose,
        heading: &mut Heading,
    ) -> Result<Option<Intent<'a>>> {
        let TokenPurpose::RunCommand { command, environment, arguments } = purpose else { return Ok(None) };
        heading.command.clone_from(&command);
        let person = self.identify(incoming).await?;
        heading.requester = Some(person.clone());
        let command = self.app.catalog.find(&command);
        let command = command.ok_or_else(|| Error::user("This command no longer exists."))?;
        let values = command_line::bind_button_values(&command.header.args, &arguments, &self.known_names())?;
        let line = TypedLine { environment, ..TypedLine::default() };
        let parsed = ParsedCommand { command, values, line };
        self.authorize(incoming, person, parsed, heading).await.map(Some)
    }

    pub(super) async fn authorize<'a>(
        &'a self,
        incoming: &'a ChatEvent,
        person: Person,
        parsed: ParsedCommand<'a>,
        heading: &mut Heading,
    ) -> Result<Intent<'a>> {
        let parsed = self.window_command(incoming, parsed).await?;
        let environment = self.environment_of(incoming, &parsed).await?;
        let ParsedCommand { command, values, line } = parsed;
        heading.environment = environment.as_deref().and_then(|name| self.app.environments.tag(name));
        let policy = self.app.access.policy(command, environment.as_deref());
        let intent = Intent {
            incoming,
            person,
            command,
            values,
            environment,
            policy,
            reason: line.reason.clone(),
            private: line.private,
            dry_run: line.dry_run,
            break_glass: line.break_glass,
            start: None,
        };
        self.require_role(&intent).await?;
        require_reason(&intent)?;
        if line.break_glass {
            self.authorize_break_glass(&intent, &line).await?;
        }
        Ok(intent)
    }

    /// The command behind `schedule pause|resume|run <window>`; any other as it is. To run a window is to type its command: the roles
    /// of whoever does it count, and the command's risk.
    async fn window_command<'a>(
        &'a self,
        incoming: &'a ChatEvent,
        parsed: ParsedCommand<'a>,
    ) -> Result<ParsedCommand<'a>> {
        let ParsedCommand { command, values, line } = parsed;
        let Some(action) = values.get("action").filter(|_| command.name == SCHEDULE).cloned() else {
            return Ok(ParsedCommand { command, values, line });
        };
        let window = values.get(WINDOW).cloned().ok_or_else(|| {
            let problem = format!("Which window? `schedule {action}` needs its name.");
            Error::instead(
                problem,
                format!("`schedule` shows the windows: type `schedule {action} <window>`."),
            )
        })?;
        let find = |name: &str| {
            let missing = || Error::Internal(anyhow::anyhow!("the command {name} is missing"));
            self.app.catalog.find(name).ok_or_else(missing)
        };
        let command = find(if action == "resume" { RESUME } else { PAUSE })?;
        let values = Values::from([(WINDOW.to_owned(), window)]);
        let change = ParsedCommand { command, values, line };
        if action != "run" {
            return Ok(change);
        }
        let environment = self.environment_of(incoming, &change).await?.unwrap_or_default();
        let window = schedule::find(&self.app.schedule, &environment, &change.values[WINDOW])?;
        let line = TypedLine { environment: Some(environment), ..change.line };
        Ok(ParsedCommand { command: find(&window.command)?, values: window.values.clone(), line })
    }

    /// Passes if every condition of break-glass holds: one person acts without approval in an emergency. It needs a role of its
    /// own, works for few commands, rarely, and with a reason and the environment's name typed out. Everyone who could have
    /// approved is notified at once, and one of them has to review it.
    async fn authorize_break_glass(&self, intent: &Intent<'_>, line: &TypedLine) -> Result<()> {
        let name = &intent.command.name;
        let access = &self.app.access;
        let break_glass = access.break_glass().ok_or_else(|| {
            Error::instead(
                "Break-glass is not set up: the configuration has no [break_glass].",
                format!("Request it as usual: `{name}` needs an approval."),
            )
        })?;
        if !break_glass.commands.contains(name) {
            let allowed = break_glass.commands.join("`, `");
            return Err(Error::instead(
                format!("`{name}` can't be run with break-glass."),
                format!(
                    "Break-glass works for `{allowed}` only. Request this as usual, without break-glass."
                ),
            ));
        }
        if !access.may_break_glass(&intent.person, intent.command) {
            return Err(Error::instead(
                format!("Break-glass needs the role {}, which you don't have.", break_glass.role),
                "Request it as usual, without break-glass: it needs an approval.",
            ));
        }
        let sender = &intent.incoming.sender;
        self.require_role_group(sender, &[&break_glass.role], Freshness::Current).await?;
        if intent.policy.risk != Risk::Danger {
            return Err(Error::instead(
                format!("`{name}` needs no approval here."),
                "Type it without break-glass.",
            ));
        }
        // A dry run acts on nothing that would need a reason.
        if line.environment.is_none() || line.reason.is_none() && !line.dry_run {
            return Err(Error::instead(
                "Break-glass needs the environment's name and a reason.",
                format!(
                    "Add `--env {}` and `--reason \"…\"`.",
                    intent.environment.as_deref().unwrap_or("<name>")
                ),
            ));
        }
        Ok(())
    }

    /// The text with the configured name for each mention of a listed person. Whoever isn't listed stays unknown, whatever name
    /// the chat shows.
    pub(super) async fn with_names(&self, incoming: &ChatEvent, typed: &TypedText) -> TypedText {
        let mut typed = typed.clone();
        let (sender, conversation) = (&incoming.sender, &incoming.conversation);
        for mention in &mut typed.mentions {
            let account = match self.platforms.get(sender.platform) {
                Some(platform) => platform.mentioned_account(mention, conversation).await,
                None => None,
            };
            let account =
                account.map(|account| ChatAccount::new(sender.platform, &sender.workspace, account, None));
            let is_id = mention.id.as_ref() == Some(&mention.name);
            mention.name = match account.map(|account| self.app.access.person(&account)) {
                Some(Some(person)) => person.id,
                Some(None) if !is_id => format!("@{} (not listed)", mention.name),
                _ => format!("@{}", mention.name),
            };
        }
        typed
    }

    fn known_names(&self) -> KnownNames {
        KnownNames::of(&self.app.config, &self.app.catalog)
    }

    /// The environment that was typed, or the conversation's. There is no default.
    async fn environment_of(
        &self,
        incoming: &ChatEvent,
        parsed: &ParsedCommand<'_>,
    ) -> Result<Option<String>> {
        if let Some(typed) = &parsed.line.environment {
            return Ok(Some(self.app.environments.environment(&typed.to_lowercase())?.name.clone()));
        }
        if parsed.command.header.scope == Scope::None {
            return Ok(None);
        }
        match self.app.audit.store.conversation_environment(incoming.conversation.clone()).await {
            Ok(Some(bound)) => Ok(Some(self.app.environments.environment(&bound)?.name.clone())),
            Ok(None) => Err(Error::instead(
                "Which environment? None is set for this conversation.",
                format!("{}, or set one with `use <environment>`.", self.environment_choices(parsed)),
            )),
            Err(_) => Err(Error::instead(
                "Which environment? The audit log can't be read, so the one set for this conversation isn't known.",
                format!("{}.", self.environment_choices(parsed)),
            )),
        }
    }

    /// "Type `kill 4711 --env production` or `kill 4711 --env staging`", without a line whose options would be lost.
    fn environment_choices(&self, parsed: &ParsedCommand<'_>) -> String {
        let ParsedCommand { command, values, line } = parsed;
        let names = self.app.environments.names();
        if line.has_options() {
            return format!("Add {}", crate::postgres::choices(names));
        }
        let line = command_line::to_line(&command.name, &command.header.args, values);
        let lines: Vec<String> = names.iter().map(|name| format!("`{line} --env {name}`")).collect();
        format!("Type {}", lines.join(" or "))
    }

    async fn require_role(&self, intent: &Intent<'_>) -> Result<()> {
        let environment = intent.environment.as_deref();
        let roles = self.app.access.roles_to_run(&intent.person, intent.command, environment);
        if !roles.is_empty() {
            let sender = &intent.incoming.sender;
            if !intent.acts_at_once() {
                return self.require_role_group(sender, &roles, Freshness::Recent).await;
            }
            self.identify_now(sender, &intent.incoming.conversation).await?;
            return self.require_role_group(sender, &roles, Freshness::Current).await;
        }
        let scope = environment.map_or(String::new(), |name| format!(" in {name}"));
        Err(Error::instead(
            format!("You may not run `{}`{scope}.", intent.command.name),
            "`help` shows what you may run. Roles are assigned in the configuration.",
        ))
    }
}

/// Passes with a reason, or where no rule asks for one.
fn require_reason(intent: &Intent<'_>) -> Result<()> {
    if !intent.policy.reason_required || intent.reason.is_some() || intent.dry_run || intent.break_glass {
        return Ok(());
    }
    let place = intent.environment.as_ref().map_or(String::new(), |name| format!(" in {name}"));
    let problem = format!("`{}` needs a reason{place}.", intent.command.name);
    Err(Error::instead(problem, "Add `--reason \"…\"`."))
}

pub(super) fn break_glass_rate_error(app: &App, last: &Run) -> Error {
    let every = app.access.break_glass().map_or(0.0, |break_glass| break_glass.interval.as_secs_f64());
    Error::instead(
        format!(
            "{} used break-glass at {} (#{}). One emergency action per {} is allowed without approval.",
            last.request.requester.id,
            moment(last.opened_at),
            last.id,
            duration(every)
        ),
        "Request it as usual, without break-glass: it needs an approval.",
    )
}
