//! A bot with everything around it: the fake workspace, the sample servers, a configuration that joins them. The demo
//! shows it, the tests drive it; both go through the bot's real endpoints.

use super::fake_slack::{self, Account, Channel, Kind, Settings, Workspace};
use super::fake_teams::{self, Tenant, TenantSettings};
use super::postgres::Cluster;
use super::sample::{LoginAccount, SampleService, Team};
use crate::config::Config;
use crate::http::{HttpServer, OpenConnections};
use anyhow::Context;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;

/// The people of the sample: id in the workspace, name, label on the page, roles.
pub const PEOPLE: [(&str, &str, &str, &[&str]); 4] = [
    ("U0ANA", "ana", "on call", &["on-call"]),
    ("U0BEN", "ben", "approver", &["approver"]),
    ("U0CARA", "cara", "on call and approver", &["on-call", "approver"]),
    ("U0DAN", "dan", "read only", &["observer"]),
];

/// The channel of the incident; the bot is in it.
pub const INCIDENT: &str = "C0INCIDENT";

/// A sample server and the logins to it.
#[derive(Clone, Copy)]
pub struct Site<'a> {
    pub name: &'a str,
    pub production: bool,
    pub cluster: &'a Cluster,
    pub team: &'a Team,
}

/// The parts of a stage.
pub struct Setup<'a> {
    pub sites: Vec<Site<'a>>,
    pub workspace: Settings,
    /// The configuration has Slack.
    pub slack: bool,
    /// The tenant of the configuration's Teams, if it has Teams; its users have the names of the configuration's people.
    pub teams: Option<Tenant>,
    /// The bot's address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// For the audit log and the backups.
    pub directory: &'a Path,
    /// Appended to the configuration: more people, other access.
    pub extra_config: &'a str,
    /// Old and new text in the configuration, in order: `wait = "30m"` by a second, say.
    pub replacements: Vec<(String, String)>,
    pub socket_mode: bool,
}

/// The workspace, and the configuration of a bot for it.
pub struct Stage {
    pub workspace: Workspace,
    /// TOML, as a team would write it.
    pub config: String,
    /// The environment variables that it names.
    pub secrets: BTreeMap<String, String>,
    pub directory: PathBuf,
}

impl Stage {
    /// Opens the workspace with its people and channels, and writes the configuration.
    ///
    /// # Errors
    /// When an address can't be bound.
    pub async fn set(setup: Setup<'_>) -> anyhow::Result<Stage> {
        let workspace = Workspace::start(setup.workspace).await.context("opening the workspace")?;
        let account = |id, name, label: &str| Account {
            role_label: label.to_owned(),
            ..Account::new(id, name, Kind::Member)
        };
        for (id, name, label, _) in PEOPLE {
            workspace.add_person(account(id, name, label));
        }
        workspace.add_person(account("U0NOBODY", "nora", "not in the configuration"));
        for (id, name) in [(INCIDENT, "incident-42"), ("C0DATABASE", "database")] {
            let (id, name) = (id.to_owned(), name.to_owned());
            workspace.add_channel(Channel { id, name, is_bot_member: true, ..Channel::default() });
        }
        let mut secrets = BTreeMap::new();
        let mut config = format!("listen = \"{}\"\n\n{}", setup.listen, include_str!("files/storage.toml"));
        if setup.slack {
            config += &slack_section(&workspace.api_url(), setup.socket_mode, &mut secrets);
        }
        if let Some(tenant) = &setup.teams {
            config += &teams_section(tenant, &mut secrets);
        }
        for site in &setup.sites {
            config += &environment(site, &mut secrets);
        }
        for (service, _) in setup.sites.iter().take(1).flat_map(|site| &site.team.services) {
            let SampleService { name, database, .. } = service;
            config += &format!("[[services]]\nname = \"{name}\"\ndatabase = \"{database}\"\n\n");
        }
        for (id, name, _, roles) in PEOPLE {
            config += &format!("[[people]]\nname = \"{name}\"\n");
            if setup.slack {
                config += &format!("slack = [\"{id}\"]\n");
            }
            if setup.teams.is_some() {
                config += &format!("teams = [\"{}\"]\n", fake_teams::object_id(name));
            }
            // Outcomes are sent directly to those alone who request changes.
            let notify = if roles.contains(&"on-call") { "notify = \"direct\"\n" } else { "" };
            config += &format!("roles = {roles:?}\n{notify}\n");
        }
        config += include_str!("files/access.toml");
        config += setup.extra_config;
        for (old, new) in &setup.replacements {
            anyhow::ensure!(config.contains(old.as_str()), "the configuration doesn't have {old}");
            config = config.replace(old.as_str(), new);
        }
        Ok(Stage { workspace, config, secrets, directory: setup.directory.to_owned() })
    }

    /// The configuration, checked.
    ///
    /// # Errors
    /// Its mistakes.
    pub fn checked(&self) -> anyhow::Result<Config> {
        let file = self.directory.join("countersign.toml");
        let env = |name: &str| match name {
            // The tools of the backup are found where the system has them.
            "PATH" => Some("/usr/local/bin:/usr/bin:/bin".to_owned()),
            _ => self.secrets.get(name).cloned(),
        };
        Config::parse(&file.to_string_lossy(), &self.config, &env).context("the stage's configuration")
    }

    /// Starts a bot in this process and points the workspace at it.
    ///
    /// # Errors
    /// As [`HttpServer::bind`].
    pub async fn bot(&self) -> anyhow::Result<Bot> {
        let server = HttpServer::bind(self.checked()?).await?;
        let url = format!("http://{}", server.address);
        let metrics_url = server.metrics_address.map(|address| format!("http://{address}/metrics"));
        self.workspace.connect_bot(&url);
        let connections = server.connections();
        let task = tokio::spawn(server.serve(std::future::pending()));
        Ok(Bot { url, metrics_url, connections, _task: AbortOnDropHandle::new(task) })
    }
}

/// The section `[slack]`, and the secrets that it names.
fn slack_section(api: &str, socket_mode: bool, secrets: &mut BTreeMap<String, String>) -> String {
    let tokens = [
        ("SLACK_BOT_TOKEN", fake_slack::BOT_TOKEN),
        ("SLACK_SIGNING_SECRET", fake_slack::SIGNING_SECRET),
        ("SLACK_APP_TOKEN", fake_slack::APP_TOKEN),
    ];
    secrets.extend(tokens.map(|(name, token)| (name.to_owned(), token.to_owned())));
    let socket = if socket_mode { "app_token = { env = \"SLACK_APP_TOKEN\" }\n" } else { "" };
    format!(
        "[slack]\nworkspaces = [\"{team}\"]\napi_url = \"{api}\"\nbot_token = {{ env = \"SLACK_BOT_TOKEN\" }}\n\
         signing_secrets = [{{ env = \"SLACK_SIGNING_SECRET\" }}]\n{socket}\n",
        team = fake_slack::TEAM,
    )
}

/// The section `[teams]`, and the environment variables of the bot's managed identity.
fn teams_section(tenant: &Tenant, secrets: &mut BTreeMap<String, String>) -> String {
    secrets.extend(tenant.identity().map(|(name, value)| (name.to_owned(), value)));
    let TenantSettings { app, tenant: id, .. } = tenant.settings();
    let (service_url, openid_url) = (tenant.service_url(), tenant.openid_url());
    format!(
        "[teams]\napp_id = \"{app}\"\ntenants = [\"{id}\"]\nservice_url = \"{service_url}\"\n\
         openid_url = \"{openid_url}\"\n\n",
    )
}

/// A bot that serves until it is dropped.
pub struct Bot {
    pub url: String,
    /// Of `/metrics`, if the configuration has `[metrics]`.
    pub metrics_url: Option<String>,
    pub connections: Arc<OpenConnections>,
    _task: AbortOnDropHandle<anyhow::Result<()>>,
}

fn environment(site: &Site<'_>, secrets: &mut BTreeMap<String, String>) -> String {
    let Site { name, production, cluster, team } = site;
    let mut logins = String::new();
    let mut add = |login: &str, LoginAccount { user, password }: &LoginAccount| {
        let variable = format!("{name}_{login}_PASSWORD").to_uppercase();
        logins += &format!(
            "[environments.logins.{login}]\nuser = \"{user}\"\npassword = {{ env = \"{variable}\" }}\n"
        );
        secrets.insert(variable, password.clone());
    };
    add("reader", &team.reader);
    add("operator", &team.operator);
    team.maintainer.iter().for_each(|account| add("maintain", account));
    team.owner.iter().for_each(|account| add("owner", account));
    format!(
        "[[environments]]\nname = \"{name}\"\nproduction = {production}\ntls = \"off\"\nconnections = 12\n\
         connect_hints = [\"psql \\\"host={{host}} port={{port}} dbname={{database}} user=YOUR_ROLE sslmode=verify-full\\\"\"]\n\
         [[environments.servers]]\nname = \"main\"\nhost = \"{host}\"\nport = {port}\n{logins}\n",
        host = cluster.host(),
        port = cluster.port(),
    )
}
