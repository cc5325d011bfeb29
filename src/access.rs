//! Authorization: the commands that a person may run and approve in an environment. Nothing is allowed that no grant allows;
//! nobody approves their own request. The workflow checks an account's kind before any of this.

use crate::catalog::{Catalog, Command, Scope};
use crate::config::{
    ApprovalRule, ApprovalSettings, BreakGlassSettings, Config, Grant, NotificationPlace, PersonConfig,
};
use crate::model::{ChatAccount, Person, PlatformKind, Risk, Run};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

/// The requirements of a command in an environment. A request stores the policy in force when it was made; a decision uses the
/// stricter of the stored and the current policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The command's own risk, or danger where a rule asks for a second person.
    pub risk: Risk,
    /// Number of different people, none of them the requester.
    pub approvers: usize,
    /// A request waits this long for its approvers.
    pub wait: Duration,
    /// From the last approval to the start.
    pub start_within: Duration,
    /// A request needs a reason.
    pub reason_required: bool,
}

impl Policy {
    /// The stricter of two policies, value by value.
    pub fn stricter(self, other: Policy) -> Policy {
        Policy {
            risk: self.risk.max(other.risk),
            approvers: self.approvers.max(other.approvers),
            wait: self.wait.min(other.wait),
            start_within: self.start_within.min(other.start_within),
            reason_required: self.reason_required || other.reason_required,
        }
    }

    /// For the record, with the names of those who could approve.
    pub fn facts(&self, approvers: &[Person]) -> Value {
        let who: Vec<&str> = approvers.iter().map(|person| person.id.as_str()).collect();
        json!({
            "who": who,
            "approvers": self.approvers,
            "wait_s": self.wait.as_secs_f64(),
            "start_within_s": self.start_within.as_secs_f64(),
        })
    }

    /// The stricter of this policy and the recorded one. Runs recorded before policies existed needed one approver.
    pub fn with_recorded(self, facts: Option<&Value>) -> Policy {
        let number = |name: &str| facts.and_then(|facts| facts.get(name));
        let seconds = |name: &str| number(name).and_then(Value::as_f64).map(Duration::from_secs_f64);
        let approvers =
            number("approvers").and_then(Value::as_u64).and_then(|count| usize::try_from(count).ok());
        self.stricter(Policy {
            risk: self.risk,
            approvers: approvers.unwrap_or(1),
            wait: seconds("wait_s").unwrap_or(self.wait),
            start_within: seconds("start_within_s").unwrap_or(self.start_within),
            reason_required: self.reason_required,
        })
    }
}

/// True if the person could approve the run when it was requested: a later role doesn't count. Records of before the names were
/// kept don't tell, and then the current roles count.
pub fn could_approve_at_request(run: &Run, person: &Person) -> bool {
    let policy = run.events.first().and_then(|event| event.facts.get("policy"));
    let names = policy.and_then(|policy| policy.get("who")).and_then(Value::as_array);
    names.is_none_or(|names| names.iter().any(|name| name.as_str() == Some(&person.id)))
}

/// The people and the grants of the configuration.
#[derive(Debug, Clone)]
pub struct Access {
    people: Vec<PersonConfig>,
    grants: Vec<Grant>,
    approval: ApprovalSettings,
    break_glass: Option<BreakGlassSettings>,
    /// The words of grants that allow no change: `read`, and the commands that only read.
    reads: Vec<String>,
}

impl Access {
    /// # Errors
    /// Words in grants and rules that are neither a risk nor a command, and rules that can't apply, all at once.
    pub fn new(config: &Config, catalog: &Catalog) -> Result<Access, Vec<String>> {
        let known =
            |word: &str| ["*", "read", "write", "danger"].contains(&word) || catalog.find(word).is_some();
        let mut errors = Vec::new();
        let mut check = |place: String, word: &str| {
            if !known(word) {
                errors.push(format!("{place} names `{word}`, which is neither a risk nor a command"));
            }
        };
        for grant in &config.access {
            for word in grant.run.iter().chain(&grant.approve) {
                check(format!("the grant of role `{}`", grant.role), word);
            }
        }
        for rule in &config.approval.rules {
            for word in &rule.commands {
                check(format!("the approval rule at line {}", rule.line), word);
            }
        }
        errors.extend(rule_errors(&config.approval, catalog));
        errors.extend(break_glass_errors(config, catalog));
        if !errors.is_empty() {
            return Err(errors);
        }
        let read_commands = catalog.iter().filter(|command| command.header.risk == Risk::Read);
        let mut reads: Vec<String> = read_commands.map(|command| command.name.clone()).collect();
        reads.push(Risk::Read.word().to_owned());
        Ok(Access {
            people: config.people.clone(),
            grants: config.access.clone(),
            approval: config.approval.clone(),
            break_glass: config.break_glass.clone().map(|break_glass| without_unknown(break_glass, catalog)),
            reads,
        })
    }

    /// The person behind an account, if the configuration lists it.
    pub fn person(&self, sender: &ChatAccount) -> Option<Person> {
        let config =
            self.people.iter().find(|person| person.accounts(sender.platform).contains(&sender.account))?;
        Some(Person { id: config.name.clone(), account: Some(sender.account.clone()) })
    }

    /// True if the person may run, or request, the command there. Without an environment: anywhere at all.
    pub fn may_run(&self, person: &Person, command: &Command, environment: Option<&str>) -> bool {
        !self.roles_to_run(person, command, environment).is_empty()
    }

    /// True if the person may approve the command there, unless they are the requester.
    pub fn may_approve(&self, person: &Person, command: &Command, environment: Option<&str>) -> bool {
        !self.roles_to_approve(person, command, environment).is_empty()
    }

    /// The role, the commands and the interval of break-glass.
    pub fn break_glass(&self) -> Option<&BreakGlassSettings> {
        self.break_glass.as_ref()
    }

    /// True if the person may use break-glass for this command, where they may request it anyway.
    pub fn may_break_glass(&self, person: &Person, command: &Command) -> bool {
        self.break_glass.as_ref().zip(self.person_config(person)).is_some_and(|(break_glass, config)| {
            config.roles.contains(&break_glass.role) && break_glass.commands.contains(&command.name)
        })
    }

    /// True if the person may act or approve there at all: enough to stop a run, and anywhere, to freeze.
    pub fn may_act(&self, person: &Person, environment: Option<&str>) -> bool {
        !self.roles(person, environment, |grant| self.allows_changes(grant)).is_empty()
    }

    /// Everyone but the requester who may approve. How they are reached is another matter: [`Access::known_on`].
    pub fn approvers(&self, command: &Command, environment: Option<&str>, requester: &Person) -> Vec<Person> {
        let others = self.people.iter().filter(|person| person.name != requester.id);
        let others = others.map(|config| Person { id: config.name.clone(), account: None });
        others.filter(|person| self.may_approve(person, command, environment)).collect()
    }

    /// A person as a platform knows them: with their first account there, if they have one.
    pub fn known_on(&self, person: &Person, platform: PlatformKind) -> Person {
        let account =
            self.person_config(person).and_then(|config| config.accounts(platform).first().cloned());
        Person { id: person.id.clone(), account }
    }

    /// All accounts of a person on a platform.
    pub fn accounts(&self, person: &Person, platform: PlatformKind) -> &[String] {
        self.person_config(person).map_or(&[], |config| config.accounts(platform))
    }

    /// The roles by which the person may run the command there.
    pub fn roles_to_run(&self, person: &Person, command: &Command, environment: Option<&str>) -> Vec<&str> {
        let mut roles = self.roles(person, environment, |grant| covers(&grant.run, command));
        if command.header.allow_any_operator {
            roles.extend(self.roles(person, None, |grant| self.allows_changes(grant)));
        }
        roles
    }

    /// The roles by which the person may approve the command there.
    pub fn roles_to_approve(
        &self,
        person: &Person,
        command: &Command,
        environment: Option<&str>,
    ) -> Vec<&str> {
        // A rule may raise the risk: a role that approves the raised risk may approve too.
        let effective_risk = self.policy(command, environment).risk;
        self.roles(person, environment, |grant| {
            covers(&grant.approve, command) || grant.approve.iter().any(|word| word == effective_risk.word())
        })
    }

    /// The current policy of the configuration.
    pub fn policy(&self, command: &Command, environment: Option<&str>) -> Policy {
        let ApprovalSettings { wait, start_within, approvers, rules, .. } = &self.approval;
        let own = command.header.risk;
        let (approvers, wait, start_within) = (*approvers, *wait, *start_within);
        let usual = Policy { risk: own, approvers, wait, start_within, reason_required: false };
        let in_environment = |name: &String| name == "*" || environment == Some(name.as_str());
        let applies = |rule: &&ApprovalRule| {
            rule.environments.iter().any(in_environment) && covers(&rule.commands, command)
        };
        rules.iter().filter(applies).fold(usual, |policy, rule| {
            policy.stricter(Policy {
                risk: if rule.second_person && may_wait(command) { Risk::Danger } else { own },
                approvers: rule.approvers.unwrap_or(1),
                wait: rule.wait.unwrap_or(policy.wait),
                start_within: rule.start_within.unwrap_or(policy.start_within),
                reason_required: rule.reason_required && touches_target(command),
            })
        })
    }

    /// The place in which the person chose to be told.
    pub fn notification_place(&self, person: &Person) -> Option<NotificationPlace> {
        self.person_config(person)?.notify
    }

    /// True in the person's quiet hours, which production's requests don't know.
    pub fn is_quiet(&self, person: &Person, is_production: bool, at: Timestamp) -> bool {
        let hours = self.person_config(person).and_then(|config| config.quiet);
        !is_production && hours.is_some_and(|hours| hours.contains(at))
    }

    fn person_config(&self, person: &Person) -> Option<&PersonConfig> {
        self.people.iter().find(|config| config.name == person.id)
    }

    fn allows_changes(&self, grant: &Grant) -> bool {
        grant.run.iter().chain(&grant.approve).any(|word| !self.reads.contains(word))
    }

    fn roles(
        &self,
        person: &Person,
        environment: Option<&str>,
        allows: impl Fn(&Grant) -> bool,
    ) -> Vec<&str> {
        let Some(config) = self.person_config(person) else { return Vec::new() };
        let in_environment = |known: &String| environment.is_none_or(|name| known == "*" || known == name);
        let applies = |grant: &&Grant| {
            config.roles.contains(&grant.role)
                && grant.environments.iter().any(in_environment)
                && allows(grant)
        };
        self.grants.iter().filter(applies).map(|grant| grant.role.as_str()).collect()
    }
}

/// The settings without those of the default's commands that the catalog doesn't have.
fn without_unknown(mut break_glass: BreakGlassSettings, catalog: &Catalog) -> BreakGlassSettings {
    break_glass.commands.retain(|name| catalog.find(name).is_some());
    break_glass
}

/// Commands of the configuration that break-glass can't run.
fn break_glass_errors(config: &Config, catalog: &Catalog) -> Vec<String> {
    let Some(break_glass) = config.break_glass.as_ref().filter(|break_glass| break_glass.commands_configured)
    else {
        return Vec::new();
    };
    let is_change =
        |name: &String| catalog.find(name).is_some_and(|command| command.header.risk != Risk::Read);
    let refused = break_glass.commands.iter().filter(|name| !is_change(name));
    refused.map(|name| format!("[break_glass] names `{name}`, which is no command that acts")).collect()
}

fn covers(words: &[String], command: &Command) -> bool {
    let risk = command.header.risk.word();
    words.iter().any(|word| word == "*" || word == risk || *word == command.name)
}

/// Only what touches a target can be made to wait, or need a reason: `freeze`, `stop` and `withdraw` never do.
fn touches_target(command: &Command) -> bool {
    command.header.risk != Risk::Read && command.header.scope != Scope::None
}

fn may_wait(command: &Command) -> bool {
    command.header.risk == Risk::Write && touches_target(command)
}

/// Rules that name what can't wait for anybody.
fn rule_errors(approval: &ApprovalSettings, catalog: &Catalog) -> Vec<String> {
    let mut errors = Vec::new();
    for rule in approval.rules.iter().filter(|rule| rule.second_person) {
        for name in &rule.commands {
            if let Some(command) = catalog.find(name).filter(|command| !may_wait(command)) {
                let why = match command.header.risk {
                    Risk::Read => "it only looks",
                    Risk::Danger => "it does anyway",
                    Risk::Write => "it touches no server",
                };
                let rule = format!("the approval rule at line {}", rule.line);
                errors.push(format!("{rule} lets `{name}` wait for a second person, and {why}"));
            }
        }
    }
    errors
}
