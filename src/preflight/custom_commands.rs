//! Checks of the team's own commands: what each would execute in the databases that it may be asked of.

use super::{APPLICATION_NAME, Finding, ServerCheck};
use crate::catalog::{Catalog, Command, Scope};
use crate::model::{LoginKind, Risk};
use crate::postgres::Address;
use crate::sql::analysis::{self, AnalysisError};
use std::collections::BTreeMap;

impl ServerCheck<'_> {
    /// The findings of every custom command on this server.
    pub(super) async fn custom_commands(&self, catalog: &Catalog) -> Vec<Finding> {
        let mut findings = Vec::new();
        // One finding for each database, however many commands need it.
        let mut grants = BTreeMap::new();
        for command in catalog.iter().filter(|command| command.is_limited) {
            findings.extend(self.custom_command(command, &mut grants).await);
        }
        let details =
            "doesn't let the reader create temporary tables, without which custom commands don't run";
        findings.extend(grants.into_iter().map(|(place, grant)| Finding::missing(place, details, grant)));
        findings
    }

    /// The reasons that a command is not run there; without any, what it shows of other sessions.
    async fn custom_command(&self, command: &Command, grants: &mut BTreeMap<String, String>) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut sessions = None;
        for (scope, database) in self.places(command) {
            let place = match &database {
                Some(database) => format!("{}/{database}", self.server.name),
                None => self.server.name.clone(),
            };
            let subject = format!("`{}` on {place}", command.name);
            let address = Address::new(&self.environment.name, &self.server.name, LoginKind::Reader);
            let address = address.in_database(database);
            let sections =
                |major| command.sections(major).iter().filter(|section| section.scope == scope).collect();
            match analysis::check(self.environments, &address, APPLICATION_NAME, sections).await {
                Err(AnalysisError::NoTemporaryTables(grant)) => {
                    grants.insert(place, format!("{grant};"));
                }
                Err(AnalysisError::Triggers(reason)) => {
                    let fix =
                        "Run its statements with `run-sql`, as a reviewed file in the directory of `[sql]`.";
                    findings.push(Finding::missing(subject, reason, fix));
                }
                Err(AnalysisError::Refused(reason)) => {
                    let fix = "Correct the command's file, or what it refers to in the database.";
                    findings.push(Finding::missing(subject, reason, fix));
                }
                // A table that isn't there, for example, of which the command's own answer tells.
                Err(AnalysisError::Query(_)) => {}
                Ok(found) => {
                    let read = found.iter().filter(|_| command.header.risk == Risk::Read);
                    let refusal = read.clone().find_map(|found| found.sessions_refusal(command));
                    let fix = "Set `needs_pg_read_all_stats = true` in the command's header.";
                    findings.extend(refusal.map(|reason| Finding::missing(subject, reason, fix)));
                    sessions = sessions.or_else(|| read.clone().find_map(|found| found.sessions.clone()));
                }
            }
        }
        if let Some(sessions) = sessions.filter(|_| findings.is_empty()) {
            let subject = format!("`{}` on {}", command.name, self.server.name);
            let details = format!("shows other roles' sessions, as its header says: it reads {sessions}");
            findings.push(Finding::works(subject, details));
        }
        findings
    }

    /// The scopes of a command's sections, each with the databases of this server that they are asked of.
    fn places(&self, command: &Command) -> Vec<(Scope, Option<String>)> {
        let has = |scope| {
            let mut sections = [0, u32::MAX].into_iter().flat_map(|major| command.sections(major));
            sections.any(|section| section.scope == scope)
        };
        let databases = self.databases_of_services();
        let services = databases.iter().filter(|_| has(Scope::Database));
        let services = services.map(|name| (Scope::Database, Some((*name).to_owned())));
        has(Scope::Server).then_some((Scope::Server, None)).into_iter().chain(services).collect()
    }
}
