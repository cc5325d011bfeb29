//! Authorization: the commands that a person may run and approve in an environment. Nothing is allowed that no grant allows;
//! nobody approves their own request. The workflow checks an account's standing before any of this.

use crate::catalog::{Catalog, Command};
use crate::config::{ApprovalSettings, BreakGlassSettings, Config, Grant, PersonConfig};
use crate::model::{ChatAccount, Person, PlatformKind, Risk};

mod policy;

pub use policy::{Policy, could_approve_then};

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
    /// Words in grants and rules that are neither a risk nor a command, and rules that can't hold, all at once.
    pub fn new(config: &Config, catalog: &Catalog) -> Result<Access, Vec<String>> {
        let known =
            |word: &str| ["*", "read", "write", "danger"].contains(&word) || catalog.find(word).is_some();
        let mut wrong = Vec::new();
        for grant in &config.access {
            for word in grant.run.iter().chain(&grant.approve).filter(|word| !known(word)) {
                wrong.push(format!(
                    "the grant of role `{}` names `{word}`, which is neither a risk nor a command",
                    grant.role
                ));
            }
        }
        for rule in &config.approval.rules {
            for word in rule.commands.iter().filter(|word| !known(word)) {
                wrong.push(format!(
                    "the approval rule at line {} names `{word}`, which is neither a risk nor a command",
                    rule.at
                ));
            }
        }
        wrong.extend(policy::mistakes(&config.approval, catalog));
        wrong.extend(break_glass_errors(config, catalog));
        if wrong.is_empty() {
            let read_commands = catalog.iter().filter(|command| command.header.risk == Risk::Read);
            let mut reads: Vec<String> = read_commands.map(|command| command.name.clone()).collect();
            reads.push(Risk::Read.word().to_owned());
            Ok(Access {
                people: config.people.clone(),
                grants: config.access.clone(),
                approval: config.approval.clone(),
                break_glass: config.break_glass.clone(),
                reads,
            })
        } else {
            Err(wrong)
        }
    }

    /// The person behind an account, if the configuration lists it.
    pub fn person(&self, sender: &ChatAccount) -> Option<Person> {
        let entry =
            self.people.iter().find(|person| accounts(person, sender.platform).contains(&sender.account))?;
        Some(Person { id: entry.name.clone(), account: Some(sender.account.clone()) })
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
        let entry = self.people.iter().find(|entry| entry.name == person.id);
        self.break_glass.as_ref().zip(entry).is_some_and(|(break_glass, entry)| {
            entry.roles.contains(&break_glass.role) && break_glass.commands.contains(&command.name)
        })
    }

    /// True if the person may act or approve there at all: enough to stop a run, and anywhere, to freeze.
    pub fn may_act(&self, person: &Person, environment: Option<&str>) -> bool {
        !self.roles(person, environment, |grant| self.acts(grant)).is_empty()
    }

    /// Everyone but the requester who may approve. How they are reached is another matter: [`Access::known_on`].
    pub fn approvers(&self, command: &Command, environment: Option<&str>, requester: &Person) -> Vec<Person> {
        let others = self.people.iter().filter(|person| person.name != requester.id);
        let others = others.map(|entry| Person { id: entry.name.clone(), account: None });
        others.filter(|person| self.may_approve(person, command, environment)).collect()
    }

    /// A person as a platform knows them: with their first account there, if they have one.
    pub fn known_on(&self, person: &Person, platform: PlatformKind) -> Person {
        let entry = self.people.iter().find(|entry| entry.name == person.id);
        let account = entry.and_then(|entry| accounts(entry, platform).first().cloned());
        Person { id: person.id.clone(), account }
    }

    /// The roles by which the person may run the command there.
    pub fn roles_to_run(&self, person: &Person, command: &Command, environment: Option<&str>) -> Vec<&str> {
        let mut roles = self.roles(person, environment, |grant| covers(&grant.run, command));
        if command.header.allow_any_operator {
            roles.extend(self.roles(person, None, |grant| self.acts(grant)));
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
        let raised = self.policy(command, environment).risk;
        self.roles(person, environment, |grant| {
            covers(&grant.approve, command) || grant.approve.iter().any(|word| word == raised.word())
        })
    }

    fn acts(&self, grant: &Grant) -> bool {
        grant.run.iter().chain(&grant.approve).any(|word| !self.reads.contains(word))
    }

    fn roles(
        &self,
        person: &Person,
        environment: Option<&str>,
        allows: impl Fn(&Grant) -> bool,
    ) -> Vec<&str> {
        let Some(entry) = self.people.iter().find(|entry| entry.name == person.id) else { return Vec::new() };
        let here =
            |grant: &Grant, name: &str| grant.environments.iter().any(|known| known == "*" || known == name);
        let counts = |grant: &&Grant| {
            entry.roles.contains(&grant.role)
                && environment.map_or(!grant.environments.is_empty(), |name| here(grant, name))
                && allows(grant)
        };
        self.grants.iter().filter(counts).map(|grant| grant.role.as_str()).collect()
    }
}

fn accounts(person: &PersonConfig, platform: PlatformKind) -> &[String] {
    match platform {
        PlatformKind::Slack => &person.slack,
        PlatformKind::Teams => &person.teams,
        PlatformKind::Terminal => &person.terminal,
    }
}

/// Commands of the configuration that break-glass can't run.
fn break_glass_errors(config: &Config, catalog: &Catalog) -> Vec<String> {
    let Some(break_glass) = config.break_glass.as_ref().filter(|break_glass| break_glass.named_by_file)
    else {
        return Vec::new();
    };
    let acts = |name: &String| catalog.find(name).is_some_and(|command| command.header.risk != Risk::Read);
    let wrong = break_glass.commands.iter().filter(|name| !acts(name));
    wrong.map(|name| format!("[break_glass] names `{name}`, which is no command that acts")).collect()
}

fn covers(words: &[String], command: &Command) -> bool {
    let risk = command.header.risk.word();
    words.iter().any(|word| word == "*" || word == risk || *word == command.name)
}
