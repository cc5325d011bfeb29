//! Forms: a line or a button without a value that it needs becomes a form, and a submitted form becomes the command, as if it had been
//! typed. A form is one person's, in one conversation, for one submission within half an hour.

use super::authenticate::Authenticator;
use super::form_fields::{Questions, draft_values, is_service, needs_service};
use super::platforms::Platforms;
use super::replies::{Rejection, store_error};
use crate::actions::Call;
use crate::actions::support::choices;
use crate::app::App;
use crate::catalog::{Command, Scope};
use crate::command_line::{
    ArgSpec, KnownNames, ParsedCommand, TypedLine, Values, bind_fields, on_one_line, parse_incomplete,
};
use crate::error::{Error, Result};
use crate::model::{
    Button, ButtonStyle, ButtonToken, ChatEvent, ChatEventKind, ENVIRONMENT_FIELD, FieldError, Form,
    FormDraft, FormInput, FormOption, MAX_OPTIONS, Person, REASON_FIELD, Risk, TokenPurpose, TypedText,
    random_token,
};
use crate::platform::SendError;
use jiff::{SignedDuration, Timestamp};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Time in which a form can be submitted.
const LIFETIME: SignedDuration = SignedDuration::from_mins(30);

/// A platform waits three seconds for choices.
const CHOICES_TIMEOUT: Duration = Duration::from_millis(2_500);

const SUBMITTED: &str = "This form was submitted already, or it is no longer known. Type the command again.";
const EXPIRED: &str = "This form is older than 30 min. Type the command again.";
const FOREIGN: &str = "This form is somebody else's. Type the command yourself.";

/// The way in which a form is offered instead of a refusal.
pub(super) enum Offer {
    Opened,
    /// A button that opens it, where nothing could be opened at once.
    Button(Button),
    Nothing,
}

/// A checked submission.
pub(super) enum Submission<'a> {
    /// Its choices depend on what was submitted: the next form.
    Next(FormDraft),
    Complete(ParsedCommand<'a>),
}

/// The answer to a submission whose client waits for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FormAnswer {
    /// The command may be handed over.
    Accepted,
    /// A mistake without a field is about the whole form.
    Invalid(Vec<FieldError>),
    Next(Box<Form>),
}

#[derive(Clone)]
pub(super) struct Forms {
    pub app: Arc<App>,
    pub authenticator: Authenticator,
    pub platforms: Arc<Platforms>,
}

/// The open form behind a token.
struct OpenForm {
    token: ButtonToken,
    draft: FormDraft,
    person: String,
}

impl Forms {
    /// Offers a form for what is missing in the refused event.
    pub async fn offer(&self, incoming: &ChatEvent, rejection: &Rejection) -> Offer {
        let (Error::User(_), Some(person)) = (&rejection.error, &rejection.heading.requester) else {
            return Offer::Nothing;
        };
        let platform = self.platforms.get(incoming.conversation.platform);
        if !platform.is_some_and(|platform| platform.has_forms()) {
            return Offer::Nothing;
        }
        let draft = match &incoming.event {
            ChatEventKind::Command(typed) => self.draft_of_line(incoming, typed).await,
            ChatEventKind::Button { token, .. } => self.draft_of_button(token).await,
            _ => None,
        };
        let Some(draft) = draft.filter(|draft| self.may_fill_in(person, draft)) else {
            return Offer::Nothing;
        };
        match self.open(incoming, person, &draft).await {
            Ok(()) => Offer::Opened,
            Err(error) => {
                tracing::info!(%error, "opening form failed; offering a button");
                self.button(incoming, draft).await.map_or(Offer::Nothing, Offer::Button)
            }
        }
    }

    /// Opens a form for the sender of an event.
    pub async fn open(&self, incoming: &ChatEvent, person: &Person, draft: &FormDraft) -> Result<()> {
        let form = self.new_form(incoming, person, draft).await?;
        let platform = self.platforms.get(incoming.conversation.platform);
        let sent = match platform {
            Some(platform) => platform.open_form(incoming, &form).await,
            None => Err(SendError::NoRoute),
        };
        sent.map_err(|error| {
            Error::instead(format!("The form can't be opened: {error}."), "Type the command instead.")
        })
    }

    /// A form with a new token for a draft.
    async fn new_form(&self, incoming: &ChatEvent, person: &Person, draft: &FormDraft) -> Result<Form> {
        let unknown = || Error::user("This command no longer exists.");
        let command = self.app.catalog.find(&draft.command).ok_or_else(unknown)?;
        let token = random_token().ok_or_else(|| Error::user("The form can't be opened now."))?;
        let opened = TokenPurpose::Form {
            draft: draft.clone(),
            person: person.id.clone(),
            opened_at: Timestamp::now(),
        };
        let conversation = incoming.conversation.clone();
        let stored = ButtonToken { token: token.clone(), purpose: opened, conversation };
        self.app.audit.store.put_tokens(vec![stored]).await.map_err(|error| store_error(&error))?;
        Ok(Questions { app: &self.app, command, person, draft }.form(token))
    }

    async fn button(&self, incoming: &ChatEvent, draft: FormDraft) -> Option<Button> {
        let token = random_token()?;
        let (purpose, conversation) = (TokenPurpose::OpenForm { draft }, incoming.conversation.clone());
        let stored = ButtonToken { token: token.clone(), purpose, conversation };
        self.app.audit.store.put_tokens(vec![stored]).await.ok()?;
        Some(Button::new("Fill in…", token, ButtonStyle::Primary))
    }

    /// The draft of a line that is right as far as it goes; `None` for a line that is complete, or wrong.
    async fn draft_of_line(&self, incoming: &ChatEvent, typed: &TypedText) -> Option<FormDraft> {
        let typed = self.authenticator.with_names(incoming, typed).await;
        let parsed = parse_incomplete(&self.app.catalog, &typed, &self.known_names()).ok()??;
        let ParsedCommand { command, values, line } = parsed;
        let environment = match line.environment {
            Some(typed) => Some(self.app.environments.environment(&typed.to_lowercase()).ok()?.name.clone()),
            None => self.bound_environment(incoming, command).await,
        };
        let (fixed, typed) =
            values.into_iter().partition(|(name, _)| needs_service(command) && is_service(command, name));
        let draft = FormDraft {
            command: command.name.clone(),
            environment,
            fixed,
            typed,
            reason: line.reason,
            private: line.private,
            dry_run: line.dry_run,
        };
        (!line.break_glass && self.is_incomplete(command, &draft)).then_some(draft)
    }

    async fn bound_environment(&self, incoming: &ChatEvent, command: &Command) -> Option<String> {
        if command.header.scope == Scope::None {
            return None;
        }
        let bound = self.app.audit.store.conversation_environment(incoming.conversation.clone());
        let bound = bound.await.ok()??;
        Some(self.app.environments.environment(&bound).ok()?.name.clone())
    }

    /// The draft of an offered command without a value or a reason that it needs.
    async fn draft_of_button(&self, token: &str) -> Option<FormDraft> {
        let token = self.app.audit.store.token(token).await.ok()??;
        let TokenPurpose::RunCommand { command, environment, arguments } = token.purpose else { return None };
        let command = self.app.catalog.find(&command)?;
        let name = command.name.clone();
        let draft = FormDraft { command: name, environment, fixed: arguments, ..FormDraft::default() };
        self.is_incomplete(command, &draft).then_some(draft)
    }

    /// True if the command can't be requested since a value is missing: not for the environment alone, which has buttons, unless an
    /// acting command was typed without anything.
    fn is_incomplete(&self, command: &Command, draft: &FormDraft) -> bool {
        let values = draft_values(draft);
        let lacks_value = command.header.args.iter().any(|spec| spec.is_missing(&values));
        let policy = self.app.access.policy(command, draft.environment.as_deref());
        let lacks_reason = policy.reason_required && draft.reason.is_none() && !draft.dry_run;
        let is_bare = values.is_empty() && draft.reason.is_none() && draft.environment.is_none();
        let has_choices = is_bare && policy.risk != Risk::Read && command.header.scope != Scope::None;
        let has_choices = has_choices && command.header.args.iter().any(|spec| !spec.hidden);
        lacks_value || lacks_reason && draft.environment.is_some() || has_choices
    }

    fn may_fill_in(&self, person: &Person, draft: &FormDraft) -> bool {
        let command = self.app.catalog.find(&draft.command);
        command.is_some_and(|command| self.app.access.may_run(person, command, draft.environment.as_deref()))
    }

    fn known_names(&self) -> KnownNames {
        KnownNames::of(&self.app.config, &self.app.catalog)
    }

    /// The open form behind the input's token.
    async fn open_form(&self, incoming: &ChatEvent, input: &FormInput) -> Result<OpenForm> {
        let token = self.app.audit.store.token(&input.token).await.map_err(|error| store_error(&error))?;
        let token = token.ok_or_else(|| Error::user(SUBMITTED))?;
        let TokenPurpose::Form { draft, person, opened_at } = token.purpose.clone() else {
            return Err(Error::user(SUBMITTED));
        };
        // Where a client doesn't tell the conversation, it is the one that the form was opened in.
        let is_other_conversation = incoming.conversation.account().is_none()
            && !token.conversation.same_conversation(&incoming.conversation);
        let sender = self.app.access.person(&incoming.sender);
        if is_other_conversation || sender.is_none_or(|sender| sender.id != person) {
            tracing::warn!(account = incoming.sender.account, "form used by another account or elsewhere");
            return Err(Error::user(FOREIGN));
        }
        if Timestamp::now().duration_since(opened_at) > LIFETIME {
            return Err(Error::user(EXPIRED));
        }
        Ok(OpenForm { token, draft, person })
    }

    /// The event as if it came from the conversation that its form was opened in. Its delivery is the form's: whatever is submitted of
    /// one form opens one run at most.
    pub async fn at_origin(&self, incoming: ChatEvent) -> ChatEvent {
        let ChatEventKind::FormSubmission(input) = &incoming.event else { return incoming };
        let delivery = format!("form:{}", input.token);
        match self.open_form(&incoming, input).await {
            Ok(open) => ChatEvent { conversation: open.token.conversation, delivery, ..incoming },
            Err(_) => incoming,
        }
    }

    /// Checks a submission, and takes nothing of it.
    pub async fn check(
        &self,
        incoming: &ChatEvent,
        input: &FormInput,
    ) -> Result<Submission<'_>, Vec<FieldError>> {
        let whole = |error: Error| vec![FieldError { field: String::new(), message: error.to_string() }];
        let OpenForm { draft, person, .. } = self.open_form(incoming, input).await.map_err(whole)?;
        let command = self.app.catalog.find(&draft.command);
        let command = command.ok_or_else(|| whole(Error::user("This command no longer exists.")))?;
        let person = Person { id: person, account: None };
        let questions = Questions { app: &self.app, command, person: &person, draft: &draft };
        let (is_first, fields) = (questions.is_first_step(), questions.fields());
        let submitted = |name: &str| {
            let is_asked = fields.iter().any(|field| field.name == name);
            let value = input.values.get(name).filter(|_| is_asked);
            value.map(|value| value.trim()).filter(|value| !value.is_empty()).map(str::to_owned)
        };
        let environment = match submitted(ENVIRONMENT_FIELD).or(draft.environment.clone()) {
            Some(name) => Some(self.offered_environment(&name)?),
            None if command.header.scope == Scope::None => None,
            None => return Err(mistake(ENVIRONMENT_FIELD, "Choose an environment.")),
        };
        let reason = submitted(REASON_FIELD).map(|reason| on_one_line(REASON_FIELD, &reason));
        let reason = reason.transpose().map_err(|error| mistake(REASON_FIELD, &error.to_string()))?;
        let asked = fields.iter().map(|field| field.name.as_str());
        let asked = asked.filter(|name| command.header.args.iter().any(|spec| spec.name == *name));
        let values: Values = asked.filter_map(|name| Some((name.to_owned(), submitted(name)?))).collect();
        if is_first {
            let mut fixed = draft.fixed.clone();
            fixed.extend(self.first_values(command, &values)?);
            return Ok(Submission::Next(FormDraft { environment, fixed, ..draft }));
        }
        let requires_reason = fields.iter().any(|field| field.name == REASON_FIELD && field.required);
        if requires_reason && reason.is_none() {
            return Err(mistake(REASON_FIELD, "A reason is required."));
        }
        let values = self.values(command, &draft.fixed, &values)?;
        let line = TypedLine {
            command: command.name.clone(),
            environment,
            reason,
            private: draft.private,
            dry_run: draft.dry_run,
            ..TypedLine::default()
        };
        Ok(Submission::Complete(ParsedCommand { command, values, line }))
    }

    fn offered_environment(&self, name: &str) -> Result<String, Vec<FieldError>> {
        let environment = self.app.environments.environment(name);
        environment
            .map(|environment| environment.name.clone())
            .map_err(|error| mistake(ENVIRONMENT_FIELD, &error.to_string()))
    }

    /// The values of the first step, checked by themselves.
    fn first_values(&self, command: &Command, values: &Values) -> Result<Values, Vec<FieldError>> {
        let specs: Vec<ArgSpec> =
            command.header.args.iter().filter(|spec| is_service(command, &spec.name)).cloned().collect();
        if let Some(spec) =
            specs.iter().find(|spec| needs_service(command) && !values.contains_key(&spec.name))
        {
            return Err(mistake(&spec.name, "Choose a service."));
        }
        bind_fields(&specs, values, &self.known_names()).map_err(field_errors)
    }

    /// The submitted values and those that the form didn't ask for.
    fn values(
        &self,
        command: &Command,
        fixed: &Values,
        submitted: &Values,
    ) -> Result<Values, Vec<FieldError>> {
        let specs = &command.header.args;
        let known = self.known_names();
        let mut all = fixed.clone();
        all.extend(submitted.clone());
        bind_fields(specs, &all, &known).map_err(field_errors)
    }

    /// Answers a submission whose client waits. A complete one is left to be handed over; then its form can be submitted once.
    pub async fn answer(&self, incoming: &ChatEvent, input: &FormInput) -> FormAnswer {
        match self.check(incoming, input).await {
            Err(mistakes) => FormAnswer::Invalid(mistakes),
            Ok(Submission::Complete(_)) => FormAnswer::Accepted,
            Ok(Submission::Next(draft)) => match self.next(incoming, input, &draft).await {
                Ok(form) => FormAnswer::Next(Box::new(form)),
                Err(error) => FormAnswer::Invalid(mistake("", &error.to_string())),
            },
        }
    }

    /// The next form in place of a submitted one.
    pub async fn next(&self, incoming: &ChatEvent, input: &FormInput, draft: &FormDraft) -> Result<Form> {
        let OpenForm { token, person, .. } = self.open_form(incoming, input).await?;
        self.take(input).await?;
        let person = Person { id: person, account: Some(incoming.sender.account.clone()) };
        let origin = ChatEvent { conversation: token.conversation, ..incoming.clone() };
        self.new_form(&origin, &person, draft).await
    }

    /// Takes the only submission of a form.
    pub async fn take(&self, input: &FormInput) -> Result<()> {
        match self.app.audit.store.take_token(&input.token).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::user(SUBMITTED)),
            Err(error) => Err(store_error(&error)),
        }
    }

    /// The choices of a form's field. Whatever fails, there are none, and the value can be typed.
    pub async fn choices(&self, incoming: &ChatEvent) -> Vec<FormOption> {
        let ChatEventKind::FormQuery { input, field, query } = &incoming.event else { return Vec::new() };
        let found = Box::pin(self.find_choices(incoming, input, field, query));
        let mut options = match tokio::time::timeout(CHOICES_TIMEOUT, found).await {
            Ok(Ok(Some(options))) => options,
            Ok(Ok(None)) => return Vec::new(),
            Ok(Err(error)) => {
                tracing::info!(%error, field, "looking up a form's choices failed");
                Vec::new()
            }
            Err(_) => Vec::new(),
        };
        let query = query.trim();
        let typed = FormOption::new(query, &crate::redact::name(query));
        let is_offered = options.iter().any(|option| option.value == query);
        options.truncate(MAX_OPTIONS - 1);
        options.extend(typed.filter(|_| !is_offered));
        options
    }

    /// `None` for a form or a field that isn't the sender's.
    async fn find_choices(
        &self,
        incoming: &ChatEvent,
        input: &FormInput,
        field: &str,
        query: &str,
    ) -> Result<Option<Vec<FormOption>>> {
        let Ok(OpenForm { token, draft, .. }) = self.open_form(incoming, input).await else {
            return Ok(None);
        };
        let person = self.authenticator.identify(incoming).await?;
        let Some(command) = self.app.catalog.find(&draft.command) else { return Ok(None) };
        let questions = Questions { app: &self.app, command, person: &person, draft: &draft };
        let spec = questions.asked().find(|spec| spec.name == field);
        let Some(spec) = spec.filter(|_| self.may_fill_in(&person, &draft)) else { return Ok(None) };
        let values = draft_values(&draft);
        let call = Call {
            app: &self.app,
            command,
            person: &person,
            conversation: &token.conversation,
            environment: draft.environment.as_deref(),
            values: &values,
            asker: format!("countersign {}", person.id),
            run: None,
        };
        choices::find(&call, spec, query.trim()).await.map(Some)
    }
}

fn mistake(field: &str, message: &str) -> Vec<FieldError> {
    vec![FieldError { field: field.to_owned(), message: message.to_owned() }]
}

fn field_errors(mistakes: BTreeMap<String, String>) -> Vec<FieldError> {
    let errors = mistakes.into_iter().map(|(field, message)| FieldError { field, message });
    errors.collect()
}
