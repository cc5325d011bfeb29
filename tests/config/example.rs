//! The example configuration: it works as it stands.

use super::all_set;
use countersign::config::{Config, Tls};
use countersign::model::LoginKind;
use secrecy::ExposeSecret;
use std::path::Path;
use std::time::Duration;

#[test]
fn the_example_loads() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/countersign.example.toml");
    let config = Config::load(&path, &all_set).unwrap_or_else(|problems| panic!("{problems}"));

    let environments: Vec<_> = config.environments.iter().map(|e| (e.name.as_str(), e.production)).collect();
    assert_eq!(environments, [("production", true), ("staging", false)]);
    let production = &config.environments[0];
    assert_eq!(production.servers[0].host, "creatorbridge-db.postgres.database.azure.com");
    assert_eq!(production.servers[0].port, 5432);
    assert_eq!(production.tls, Tls::Verified { ca_file: None });
    assert_eq!(production.statement_timeout, Duration::from_secs(15));
    assert_eq!(config.environments[1].connections, 12);
    let password = production.logins[&LoginKind::Operator]
        .password
        .as_ref()
        .map(|secret| secret.expose_secret().to_owned());
    assert_eq!(password.as_deref(), Some("hush-production_operator_password"));

    let databases: Vec<_> =
        config.services.iter().map(|s| (s.name.replace('-', "_") + "_db", &s.database)).collect();
    assert_eq!(databases.len(), 10);
    assert!(databases.iter().all(|(expected, database)| expected == *database), "{databases:?}");
    assert_eq!(config.approval.wait, Duration::from_secs(1800));
    let slack = config.chat.slack.as_ref().expect("the example speaks to Slack");
    assert_eq!((slack.command.as_str(), slack.api_url.as_str()), ("/db", "https://slack.com/api"));
    assert_eq!(slack.signing_secrets.len(), 2);
    assert!(slack.app_token.is_none());
    let migrate: Vec<_> = config.services.iter().filter_map(|service| service.migrate.as_ref()).collect();
    assert_eq!(migrate.len(), 10);
    assert_eq!(migrate[0].deploy.join(" "), "npx --no-install prisma migrate deploy");
    assert_eq!(migrate[0].directory, Path::new("/srv/creatorbridge/services/{service}"));
    let inherited = |config: &Config| format!("{config:?}").replace("hush-path", "").replace("hush-home", "");
    assert!(!inherited(&config).contains("hush"));
}

#[test]
fn the_example_names_every_variable_that_is_missing() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/countersign.example.toml");
    let report = Config::load(&path, &|_| None).expect_err("no secrets").to_string();
    let variables: Vec<_> = report.lines().map(|line| line.rsplit(": ").next().unwrap_or_default()).collect();
    assert_eq!(
        variables,
        [
            "the variable `SLACK_BOT_TOKEN` is not set",
            "the variable `SLACK_SIGNING_SECRET` is not set",
            "the variable `PRODUCTION_READER_PASSWORD` is not set",
            "the variable `PRODUCTION_OPERATOR_PASSWORD` is not set",
            "the variable `STAGING_READER_PASSWORD` is not set",
            "the variable `STAGING_OPERATOR_PASSWORD` is not set",
        ]
    );
}

#[test]
fn in_the_example_danger_needs_somebody_else_and_strangers_have_nothing() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/countersign.example.toml");
    let config = Config::load(&path, &all_set).unwrap_or_else(|problems| panic!("{problems}"));
    for environment in ["production", "staging"] {
        let approvers = config.people.iter().filter(|person| {
            config.access.iter().any(|grant| {
                person.roles.contains(&grant.role)
                    && grant.environments.iter().any(|name| name == "*" || name == environment)
                    && grant.approve.iter().any(|word| word == "danger")
            })
        });
        assert!(approvers.count() >= 2, "a lone approver of {environment} could never ask for anything");
    }
    assert!(config.access.iter().all(|grant| grant.role != "*"));
}
