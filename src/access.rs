//! Who may run what where, and who may approve. Nothing is allowed that no grant allows; nobody approves their own request.
//! What the platform says of an account's standing is checked in `flow`, before any of this.

use crate::catalog::{Catalog, Command, Risk};
use crate::config::{Config, Grant, PersonEntry};
use crate::message::{Person, PlatformName, Sender};

/// The people and the grants of the configuration.
#[derive(Debug, Clone)]
pub struct Access {
    people: Vec<PersonEntry>,
    grants: Vec<Grant>,
    /// The words of grants that let nobody act: `read`, and the commands that only read.
    reads: Vec<String>,
}

impl Access {
    /// # Errors
    /// Words in grants that are neither a risk nor a command, all at once.
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
        if wrong.is_empty() {
            let reading = catalog.iter().filter(|command| command.header.risk == Risk::Read);
            let mut reads: Vec<String> = reading.map(|command| command.name.clone()).collect();
            reads.push(Risk::Read.word().to_owned());
            Ok(Access { people: config.people.clone(), grants: config.access.clone(), reads })
        } else {
            Err(wrong)
        }
    }

    /// The person behind an account, if the configuration lists it.
    pub fn person(&self, sender: &Sender) -> Option<Person> {
        let entry =
            self.people.iter().find(|person| accounts(person, sender.platform).contains(&sender.account))?;
        Some(Person { id: entry.name.clone(), account: Some(sender.account.clone()) })
    }

    /// Whether the person may run, or ask for, the command there. Without an environment: anywhere at all.
    pub fn may_run(&self, person: &Person, command: &Command, environment: Option<&str>) -> bool {
        let acts = command.header.for_all_who_act && self.may_act(person);
        acts || self.granted(person, environment, |grant| covers(&grant.run, command))
    }

    /// Whether the person may approve the command there. Being the requester is another matter.
    pub fn may_approve(&self, person: &Person, command: &Command, environment: Option<&str>) -> bool {
        self.granted(person, environment, |grant| covers(&grant.approve, command))
    }

    /// Whether the person may act or approve anywhere: enough to freeze.
    pub fn may_act(&self, person: &Person) -> bool {
        let acting = |word: &String| !self.reads.contains(word);
        self.granted(person, None, |grant| grant.run.iter().chain(&grant.approve).any(acting))
    }

    /// Everyone but the requester who may approve, with an account of that platform.
    pub fn approvers(
        &self,
        command: &Command,
        environment: Option<&str>,
        (requester, platform): (&Person, PlatformName),
    ) -> Vec<Person> {
        let others = self.people.iter().filter(|person| person.name != requester.id);
        let reachable = others.filter_map(|entry| {
            let account = accounts(entry, platform).first()?.clone();
            Some(Person { id: entry.name.clone(), account: Some(account) })
        });
        reachable.filter(|person| self.may_approve(person, command, environment)).collect()
    }

    fn granted(&self, person: &Person, environment: Option<&str>, allows: impl Fn(&Grant) -> bool) -> bool {
        let Some(entry) = self.people.iter().find(|entry| entry.name == person.id) else { return false };
        self.grants.iter().any(|grant| {
            let here = |name: &str| grant.environments.iter().any(|known| known == "*" || known == name);
            entry.roles.contains(&grant.role)
                && environment.map_or(!grant.environments.is_empty(), here)
                && allows(grant)
        })
    }
}

fn accounts(person: &PersonEntry, platform: PlatformName) -> &[String] {
    match platform {
        PlatformName::Slack => &person.slack,
        PlatformName::Teams => &person.teams,
        PlatformName::Terminal => &person.terminal,
    }
}

fn covers(words: &[String], command: &Command) -> bool {
    let risk = match command.header.risk {
        Risk::Read => "read",
        Risk::Write => "write",
        Risk::Danger => "danger",
    };
    words.iter().any(|word| word == "*" || word == risk || *word == command.name)
}
