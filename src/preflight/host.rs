//! Checks of the host: the audit log's file, the backups' directory, and the access of other accounts to them. By permissions
//! only: nothing is written.

use super::{CheckContext, CheckStatus, Finding, unreachable};
use crate::actions::{backup, migrate, run_sql};
use crate::config::{PostgresStoreSettings, process_account};
use crate::error::{Error, Result};
use crate::files::{self, Exposure, shell_word};
use crate::prisma;
use crate::store;
use crate::store::postgres::{PostgresCheck, PostgresCheckError};
use std::io;
use std::path::Path;

/// Findings about the audit log and the backup storage, as the account that runs the check.
pub(super) async fn check(context: &CheckContext<'_>) -> Vec<Finding> {
    let config = context.config;
    let mut findings = Vec::new();
    if let Some(path) = config.store.file() {
        findings.push(audit_log(path));
        if path.is_file() {
            findings.extend(exposed(AUDIT_LOG, path, "600"));
        }
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        findings.extend(exposed_directory_of_audit_log(directory.unwrap_or(Path::new("."))));
    }
    let backups = &config.backups.directory;
    findings.push(finding(BACKUP_STORAGE, backup::check_storage(&config.backups), backup::STORAGE_FIX));
    if backups.is_dir() {
        findings.extend(exposed(BACKUP_STORAGE, backups, "700"));
    }
    findings.extend(programs(context));
    findings.extend(migrations(context).await);
    let sql = run_sql::directory(config);
    findings.extend(refused("`run-sql`", sql.map(drop), config.sql.is_none()));
    findings
}

/// The programs and directories of `migrate` and `migrate-resolve` that can't be used; without any, the services that they are for.
fn programs(context: &CheckContext<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut ready = 0;
    for service in context.environments.services() {
        let Some(settings) = &service.migrate else { continue };
        for environment in context.environments.names() {
            for (command, check) in
                migrate::check_programs(context.environments, environment, service, settings)
            {
                match refused(&format!("`{command}`"), check, false) {
                    Some(finding) if !findings.contains(&finding) => findings.push(finding),
                    Some(_) => {}
                    None => ready += 1,
                }
            }
        }
    }
    if ready > 0 && findings.is_empty() {
        findings.push(Finding::works("`migrate`", "its program and its directories are there"));
    }
    findings
}

/// The services' migrations directories that can't be read.
async fn migrations(context: &CheckContext<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for service in context.environments.services() {
        let Some(directory) = &service.migrations else { continue };
        let Err(problem) = prisma::read(directory.clone()).await else { continue };
        let fix = format!(
            "Correct `migrations` of {} in the configuration, or let the account that Countersign runs as read {}.",
            service.name,
            directory.display()
        );
        findings.push(Finding::missing(
            format!("`migrations` of {}", service.name),
            format!("the migrations directory {problem}: pending migrations are unknown"),
            fix,
        ));
    }
    findings
}

/// A command's own refusal as a finding.
fn refused(subject: &str, result: Result<()>, is_optional: bool) -> Option<Finding> {
    let Err(Error::User(refusal)) = result else { return None };
    let finding = Finding::missing(subject, refusal.problem, refusal.instead.unwrap_or_default());
    Some(if is_optional { Finding { status: CheckStatus::Optional, ..finding } } else { finding })
}

const AUDIT_LOG: &str = "audit log";
const BACKUP_STORAGE: &str = "backup storage";

/// Checks the audit log's store: without it only read commands work.
fn audit_log(path: &Path) -> Finding {
    let fix = "Let the account that Countersign runs as write to `path` of `[store]` and its directory, or set another path.";
    finding(AUDIT_LOG, store::check_writable(path), fix)
}

/// The audit log on a PostgreSQL server, as `check` found it.
pub(super) struct CheckedAuditLog {
    pub findings: Vec<Finding>,
    /// By which it is told from the targets; `None` if it can't be reached.
    pub system_identifier: Option<String>,
}

/// Checks the audit log's store on a PostgreSQL server: without it only read commands work.
pub(super) async fn audit_log_server(settings: &PostgresStoreSettings) -> CheckedAuditLog {
    let PostgresStoreSettings { server, database, login, .. } = settings;
    let checked = store::postgres::check(settings.clone()).await;
    let finding = match &checked {
        Ok(check) => {
            return CheckedAuditLog {
                findings: postgres_findings(check),
                system_identifier: Some(check.system_identifier.clone()),
            };
        }
        Err(PostgresCheckError::Unreachable(reason)) => {
            let fix = unreachable::fix(reason, "[store.postgres]", server, login, database);
            Finding::missing(AUDIT_LOG, format!("its server {reason}"), fix)
        }
        Err(PostgresCheckError::Unusable(error)) => {
            let fix = "Correct it, or name another database in `[store.postgres]`: docs/operations.md has what the audit log needs.";
            Finding::missing(AUDIT_LOG, error.to_string(), fix)
        }
    };
    CheckedAuditLog { findings: vec![finding], system_identifier: None }
}

fn postgres_findings(check: &PostgresCheck) -> Vec<Finding> {
    let PostgresCheck { server_version, has_schema, missing_grants, warnings, .. } = check;
    let missing = missing_grants.iter().map(|grant| {
        let privilege = grant.trim_start_matches("GRANT ").split(" TO ").next().unwrap_or_default();
        Finding::missing(AUDIT_LOG, format!("its user misses a privilege: {privilege}"), grant)
    });
    let mut findings: Vec<Finding> = missing.collect();
    if findings.is_empty() {
        let details = if *has_schema {
            format!("PostgreSQL {server_version}; can be written by its user")
        } else {
            format!(
                "PostgreSQL {server_version}; its tables can be created by its user, as `serve` does at its first start"
            )
        };
        findings.push(Finding::works(AUDIT_LOG, details));
    }
    findings.extend(warnings.iter().map(|warning| Finding {
        status: CheckStatus::Optional,
        ..Finding::missing(AUDIT_LOG, warning.problem, warning.fix)
    }));
    findings
}

/// The finding that a thing can be written (true) or created (false), or the obstacle.
fn finding(subject: &str, exists: anyhow::Result<bool>, fix: &str) -> Finding {
    let account = process_account();
    match exists {
        Ok(true) => Finding::works(subject, format!("can be written by {account}")),
        Ok(false) => Finding::works(
            subject,
            format!("can be created by {account}, as `serve` does at its first start"),
        ),
        Err(error) => Finding::missing(subject, format!("can't be written: {error:#}"), fix),
    }
}

/// The finding that other accounts have access, or that it can't be found out.
fn exposed(subject: &str, path: &Path, mode: &str) -> Option<Finding> {
    let (verb, current) = match files::exposure(path) {
        Ok(Exposure::None) => return None,
        Ok(Exposure::Readable { mode }) => ("read", mode),
        Ok(Exposure::Writable { mode }) => ("write", mode),
        Err(error) => return Some(unknown(subject, path, &error)),
    };
    let details = format!("other accounts may {verb} {} (mode {current:04o})", path.display());
    Some(Finding::missing(subject, details, format!("Run `chmod {mode} {}`.", shell_word(path))))
}

/// The same for the directory of the audit log: whoever only lists it can't read the file, and whoever writes it can replace it.
fn exposed_directory_of_audit_log(directory: &Path) -> Option<Finding> {
    let finding = exposed(AUDIT_LOG, directory, "700")?;
    let only_lists = matches!(files::exposure(directory), Ok(Exposure::Readable { .. }));
    Some(if only_lists { Finding { status: CheckStatus::Optional, ..finding } } else { finding })
}

fn unknown(subject: &str, path: &Path, error: &io::Error) -> Finding {
    let details = format!("the mode of {} can't be read: {error}", path.display());
    Finding::missing(subject, details, "Let the account that Countersign runs as enter its directory.")
}
