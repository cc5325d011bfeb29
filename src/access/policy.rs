//! Requirements of a command in an environment: approvals, and time limits. A request keeps the policy that it was made under;
//! when it is decided, the stricter of that one and the current one counts.

use super::{Access, covers};
use crate::catalog::{Catalog, Command, Scope};
use crate::config::{ApprovalRule, ApprovalSettings};
use crate::model::{Person, Risk, Run};
use serde_json::{Value, json};
use std::time::Duration;

/// The requirements of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// The command's own risk, or danger where a rule asks for a second person.
    pub risk: Risk,
    /// Number of different people, none of them the requester.
    pub approvers: usize,
    /// For the approvers.
    pub wait: Duration,
    /// From the last approval to the start.
    pub start_within: Duration,
}

impl Policy {
    /// The stricter of two policies, value by value.
    pub fn stricter(self, other: Policy) -> Policy {
        Policy {
            risk: self.risk.max(other.risk),
            approvers: self.approvers.max(other.approvers),
            wait: self.wait.min(other.wait),
            start_within: self.start_within.min(other.start_within),
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

    /// With what [`Policy::facts`] wrote: the stricter of both. A record of before there were policies asked for one person.
    pub fn with_recorded(self, facts: Option<&Value>) -> Policy {
        let number = |name: &str| facts.and_then(|facts| facts.get(name));
        let seconds = |name: &str| number(name).and_then(Value::as_f64).map(Duration::from_secs_f64);
        let approvers =
            number("approvers").and_then(Value::as_u64).and_then(|some| usize::try_from(some).ok());
        self.stricter(Policy {
            risk: self.risk,
            approvers: approvers.unwrap_or(1),
            wait: seconds("wait_s").unwrap_or(self.wait),
            start_within: seconds("start_within_s").unwrap_or(self.start_within),
        })
    }
}

/// True if the person could approve the run when it was requested: a later role doesn't count. Records of before the names were
/// kept don't tell, and then the current roles count.
pub fn could_approve_then(run: &Run, person: &Person) -> bool {
    let policy = run.events.first().and_then(|event| event.facts.get("policy"));
    let names = policy.and_then(|policy| policy.get("who")).and_then(Value::as_array);
    names.is_none_or(|names| names.iter().any(|name| name.as_str() == Some(&person.id)))
}

impl Access {
    /// The current policy of the configuration.
    pub fn policy(&self, command: &Command, environment: Option<&str>) -> Policy {
        let ApprovalSettings { wait, start_within, approvers, rules, .. } = &self.approval;
        let own = command.header.risk;
        let usual = Policy { risk: own, approvers: *approvers, wait: *wait, start_within: *start_within };
        rules.iter().filter(|rule| applies(rule, command, environment)).fold(usual, |policy, rule| {
            policy.stricter(Policy {
                risk: if rule.second_person && may_wait(command) { Risk::Danger } else { own },
                approvers: rule.approvers.unwrap_or(1),
                wait: rule.wait.unwrap_or(policy.wait),
                start_within: rule.start_within.unwrap_or(policy.start_within),
            })
        })
    }
}

fn applies(rule: &ApprovalRule, command: &Command, environment: Option<&str>) -> bool {
    let here = |name: &String| name == "*" || environment == Some(name.as_str());
    rule.environments.iter().any(here) && covers(&rule.commands, command)
}

/// Only what touches a target can be made to wait: `freeze`, `stop` and `withdraw` never are.
fn may_wait(command: &Command) -> bool {
    command.header.risk == Risk::Write && command.header.scope != Scope::None
}

/// Rules that name what can't wait for anybody.
pub(super) fn mistakes(approval: &ApprovalSettings, catalog: &Catalog) -> Vec<String> {
    let mut wrong = Vec::new();
    for rule in approval.rules.iter().filter(|rule| rule.second_person) {
        for name in &rule.commands {
            if let Some(command) = catalog.find(name).filter(|command| !may_wait(command)) {
                wrong.push(format!(
                    "the approval rule at line {} lets `{name}` wait for a second person, and {}",
                    rule.at,
                    match command.header.risk {
                        Risk::Read => "it only looks",
                        Risk::Danger => "it does anyway",
                        Risk::Write => "it touches no server",
                    }
                ));
            }
        }
    }
    wrong
}
