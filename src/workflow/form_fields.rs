//! The fields of a form: what a draft lacks, by its command's header and the policy. Nothing here is about one command.

use crate::app::App;
use crate::catalog::{Command, Scope};
use crate::command_line::{ArgSpec, ArgType, ChoiceSource, Values, to_line};
use crate::model::{
    ENVIRONMENT_FIELD, Field, FieldKind, Form, FormDraft, FormOption, MAX_OPTIONS, Person, REASON_FIELD,
    Risk, Severity,
};
use crate::redact;

/// What is asked of one person for one draft. Where the choices of one field depend on another, that one is asked first, by itself: a
/// client that asks for choices doesn't tell what is in the other fields.
#[derive(Clone, Copy)]
pub(super) struct Questions<'a> {
    pub app: &'a App,
    pub command: &'a Command,
    pub person: &'a Person,
    pub draft: &'a FormDraft,
}

impl<'a> Questions<'a> {
    /// The form that asks them.
    pub fn form(&self, token: String) -> Form {
        let Questions { app, command, draft, .. } = *self;
        let is_first = self.is_first_step();
        let risk = app.access.policy(command, draft.environment.as_deref()).risk;
        let submit = match risk {
            _ if is_first => "Next",
            _ if draft.dry_run => "Dry run",
            Risk::Read => "Show",
            Risk::Write => "Run",
            Risk::Danger => "Request approval",
        };
        let is_request = risk == Risk::Danger && !is_first && !draft.dry_run;
        Form {
            token,
            command: command.name.clone(),
            line: redact::name(&to_line(&command.name, &command.header.args, &draft.fixed)),
            summary: command.header.summary.clone(),
            environment: draft.environment.as_deref().and_then(|name| app.environments.tag(name)),
            fields: self.fields(),
            submit: submit.to_owned(),
            severity: if is_request { Severity::Critical } else { Severity::Neutral },
        }
    }

    /// The fields, in the order of the command's arguments; the environment first, the reason last.
    pub fn fields(&self) -> Vec<Field> {
        let Questions { command, .. } = *self;
        let is_first = self.is_first_step();
        let mut fields: Vec<Field> = self.environment().into_iter().collect();
        let specs = self.asked().filter(|spec| !is_first || is_service(command, &spec.name));
        fields.extend(specs.map(|spec| self.field(spec)));
        if !is_first && command.header.risk != Risk::Read {
            fields.push(self.reason());
        }
        fields
    }

    /// The arguments that are asked for.
    pub fn asked(&self) -> impl Iterator<Item = &'a ArgSpec> {
        let questions = *self;
        let is_asked = move |spec: &&ArgSpec| {
            !spec.hidden && !questions.draft.fixed.contains_key(&spec.name) && !questions.is_only_server(spec)
        };
        self.command.header.args.iter().filter(is_asked)
    }

    /// True for an optional server in an environment that has one.
    fn is_only_server(&self, spec: &ArgSpec) -> bool {
        let Questions { app, draft, .. } = *self;
        let environment =
            draft.environment.as_deref().and_then(|name| app.environments.environment(name).ok());
        spec.choice_source() == Some(ChoiceSource::Servers)
            && !spec.required
            && !draft.typed.contains_key(&spec.name)
            && environment.is_some_and(|environment| environment.servers.len() == 1)
    }

    /// True while the environment or the service is missing on which the choices of another field depend.
    pub fn is_first_step(&self) -> bool {
        let lacks_environment = self.lacks_environment();
        let lacks_service = self.asked().any(|spec| spec.kind == ArgType::Service);
        let mut sources = self.asked().filter_map(ArgSpec::choice_source);
        sources.any(|source| {
            source.needs_environment() && lacks_environment || source.needs_service() && lacks_service
        })
    }

    fn lacks_environment(&self) -> bool {
        self.command.header.scope != Scope::None && self.draft.environment.is_none()
    }

    fn environment(&self) -> Option<Field> {
        let Questions { app, command, person, .. } = *self;
        let names = app.environments.names().iter();
        let names = names.filter(|name| app.access.may_run(person, command, Some(name)));
        self.lacks_environment().then(|| Field {
            name: ENVIRONMENT_FIELD.to_owned(),
            label: "Environment".to_owned(),
            hint: String::new(),
            kind: FieldKind::Choice(names.filter_map(|name| FormOption::plain(name)).collect()),
            value: None,
            required: true,
        })
    }

    fn reason(&self) -> Field {
        let Questions { app, command, draft, .. } = *self;
        let policy = app.access.policy(command, draft.environment.as_deref());
        Field {
            name: REASON_FIELD.to_owned(),
            label: "Reason".to_owned(),
            hint: "Shown on the card and in the history.".to_owned(),
            kind: FieldKind::Text { multiline: true },
            value: draft.reason.as_deref().and_then(FormOption::text),
            required: policy.reason_required && !draft.dry_run,
        }
    }

    fn field(&self, spec: &ArgSpec) -> Field {
        let Questions { app, command, draft, .. } = *self;
        let options: Vec<FormOption> = match spec.kind {
            ArgType::Service => {
                let services = app.config.services.iter().map(|service| &service.name);
                options(spec.choices.iter().chain(services))
            }
            ArgType::Environment => options(app.environments.names().iter()),
            ArgType::Command => options(app.catalog.iter().map(|command| &command.name)),
            _ => options(spec.choices.iter()),
        };
        let kind = match options.len() {
            _ if spec.switch => FieldKind::Toggle,
            _ if spec.choice_source().is_some() => FieldKind::Search,
            1..=MAX_OPTIONS => FieldKind::Choice(options),
            0 => FieldKind::Text { multiline: false },
            _ => FieldKind::Search,
        };
        let value = draft.typed.get(&spec.name).or(spec.default.as_ref());
        let value = value.map(|value| match spec.kind {
            ArgType::Duration => spec.as_typed(value),
            _ => value.clone(),
        });
        Field {
            name: spec.name.clone(),
            label: label_of(&spec.name),
            hint: spec.help.replace('`', ""),
            kind,
            value: value.as_deref().and_then(FormOption::text),
            required: spec.required || self.is_first_step() && needs_service(command),
        }
    }
}

/// The arguments that a draft has.
pub(super) fn draft_values(draft: &FormDraft) -> Values {
    let mut values = draft.typed.clone();
    values.extend(draft.fixed.clone());
    values
}

pub(super) fn is_service(command: &Command, name: &str) -> bool {
    command.header.args.iter().any(|spec| spec.name == name && spec.kind == ArgType::Service)
}

/// True if the choices of an argument are those of a service's database.
pub(super) fn needs_service(command: &Command) -> bool {
    command.header.args.iter().filter_map(ArgSpec::choice_source).any(|source| source.needs_service())
}

fn options<'a>(names: impl Iterator<Item = &'a String>) -> Vec<FormOption> {
    names.filter_map(|name| FormOption::plain(name)).collect()
}

/// "Older than".
fn label_of(name: &str) -> String {
    let mut letters = name.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}", letters.as_str().replace(['-', '_'], " "))
}
