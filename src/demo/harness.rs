//! A bot with everything around it: the pretend workspace, the sample servers, a configuration that joins them. The demo
//! shows it, the tests drive it; both go through the bot's real endpoints.

use super::fake_slack::{Account, Channel, Kind, Settings, Workspace};
use super::postgres::Cluster;
use super::sample::Team;
use crate::config::Config;
use crate::http::HttpServer;
use anyhow::Context;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use tokio::sync::oneshot;

/// The people of the sample: id in the workspace, name, what the page says of them, roles.
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

/// What a stage is set with.
pub struct Setup<'a> {
    pub sites: Vec<Site<'a>>,
    pub workspace: Settings,
    pub chats: Chats,
    /// Where the bot listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The record and the backups go here.
    pub directory: &'a Path,
    /// Appended to the configuration: more people, other access.
    pub more: &'a str,
    /// Replaced in the configuration, in order: `wait = "30m"` by a second, say.
    pub instead: Vec<(String, String)>,
    pub socket_mode: bool,
}

/// Which chat platforms the configuration has.
#[derive(Debug, Clone)]
pub enum Chats {
    Slack,
    Teams(Teams),
    Both(Teams),
}

/// A pretend Teams, which the tests bring with them.
#[derive(Debug, Clone)]
pub struct Teams {
    /// The bot's application id in Entra.
    pub app: String,
    pub tenant: String,
    pub service_url: String,
    pub openid_url: String,
    /// The environment variables of the managed identity.
    pub identity: BTreeMap<String, String>,
    /// The object id of whoever has that name.
    pub account: fn(&str) -> String,
}

impl Chats {
    fn teams(&self) -> Option<&Teams> {
        match self {
            Chats::Slack => None,
            Chats::Teams(teams) | Chats::Both(teams) => Some(teams),
        }
    }

    fn has_slack(&self) -> bool {
        !matches!(self, Chats::Teams(_))
    }
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
        let workspace = Workspace::start(setup.workspace.clone()).await.context("opening the workspace")?;
        for (id, name, label, _) in PEOPLE {
            workspace
                .add_person(Account { role_label: label.to_owned(), ..Account::new(id, name, Kind::Member) });
        }
        workspace.add_person(Account {
            role_label: "not in the configuration".to_owned(),
            ..Account::new("U0NOBODY", "nora", Kind::Member)
        });
        for (id, name) in [(INCIDENT, "incident-42"), ("C0DATABASE", "database")] {
            let channel =
                Channel { id: id.to_owned(), name: name.to_owned(), bot_in: true, ..Channel::default() };
            workspace.add_channel(channel);
        }
        let mut secrets = BTreeMap::new();
        let mut config = general(&setup);
        if setup.chats.has_slack() {
            config.push_str(&slack(&setup, &workspace, &mut secrets));
        }
        if let Some(teams) = setup.chats.teams() {
            secrets.extend(teams.identity.clone());
            config.push_str(&teams_section(teams));
        }
        for site in &setup.sites {
            config.push_str(&environment(site, &mut secrets));
        }
        config.push_str(&services_and_people(&setup));
        config.push_str(setup.more);
        for (old, new) in &setup.instead {
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
        let name = self.directory.join("countersign.toml");
        let env = |name: &str| self.secrets.get(name).cloned().or_else(|| path_of(name));
        Config::parse(&name.to_string_lossy(), &self.config, &env).context("the stage's configuration")
    }

    /// Starts a bot in this process and points the workspace at it.
    ///
    /// # Errors
    /// As [`HttpServer::bind`].
    pub async fn bot(&self) -> anyhow::Result<Bot> {
        let server = HttpServer::bind(self.checked()?).await?;
        let url = format!("http://{}", server.address);
        self.workspace.connect_bot(&url);
        let (stop, stopped) = oneshot::channel::<()>();
        let task = tokio::spawn(server.serve(async { drop(stopped.await) }));
        Ok(Bot { url, stop: Some(stop), task })
    }
}

fn path_of(name: &str) -> Option<String> {
    // The tools of the backup are found where the system has them.
    (name == "PATH").then(|| "/usr/local/bin:/usr/bin:/bin".to_owned())
}

/// A bot that serves until it is dropped.
pub struct Bot {
    pub url: String,
    stop: Option<oneshot::Sender<()>>,
    task: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Drop for Bot {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.task.abort();
    }
}

fn general(setup: &Setup<'_>) -> String {
    format!(
        "listen = \"{listen}\"\n\n[store]\npath = \"record.db\"\n\n[backups]\ndirectory = \"backups\"\n\n\
         [approval]\nwait = \"30m\"\nstart_within = \"10m\"\n\n",
        listen = setup.listen,
    )
}

fn slack(setup: &Setup<'_>, workspace: &Workspace, secrets: &mut BTreeMap<String, String>) -> String {
    let slack = workspace.settings();
    secrets.insert("SLACK_BOT_TOKEN".to_owned(), slack.bot_token);
    secrets.insert("SLACK_SIGNING_SECRET".to_owned(), slack.signing_secret);
    secrets.insert("SLACK_APP_TOKEN".to_owned(), slack.app_token);
    let socket = match setup.socket_mode {
        true => "app_token = { env = \"SLACK_APP_TOKEN\" }\n",
        false => "",
    };
    format!(
        "[slack]\nworkspaces = [\"{team}\"]\napi_url = \"{api}\"\nbot_token = {{ env = \"SLACK_BOT_TOKEN\" }}\n\
         signing_secrets = [{{ env = \"SLACK_SIGNING_SECRET\" }}]\n{socket}\n",
        team = slack.team,
        api = workspace.api_url(),
    )
}

fn teams_section(teams: &Teams) -> String {
    let Teams { app, tenant, service_url, openid_url, .. } = teams;
    format!(
        "[teams]\napp_id = \"{app}\"\ntenants = [\"{tenant}\"]\nservice_url = \"{service_url}\"\n\
         openid_url = \"{openid_url}\"\n\n",
    )
}

fn environment(site: &Site<'_>, secrets: &mut BTreeMap<String, String>) -> String {
    let (name, upper) = (site.name, site.name.to_uppercase());
    let mut logins = String::new();
    let always = [("reader", &site.team.reader), ("operator", &site.team.operator)];
    let maintainer = site.team.maintainer.iter().map(|account| ("maintain", account));
    let owner = site.team.owner.iter().map(|account| ("owner", account));
    for (login, account) in always.into_iter().chain(maintainer).chain(owner) {
        let variable = format!("{upper}_{}_PASSWORD", login.to_uppercase());
        secrets.insert(variable.clone(), account.password.clone());
        logins.push_str(&format!(
            "[environments.logins.{login}]\nuser = \"{}\"\npassword = {{ env = \"{variable}\" }}\n",
            account.user
        ));
    }
    format!(
        "[[environments]]\nname = \"{name}\"\nproduction = {production}\ntls = \"off\"\nconnections = 12\n\
         connect_hints = [\"psql \\\"host={{host}} port={{port}} dbname={{database}} user=YOUR_ROLE sslmode=verify-full\\\"\"]\n\
         [[environments.servers]]\nname = \"main\"\nhost = \"{host}\"\nport = {port}\n{logins}\n",
        production = site.production,
        host = site.cluster.host(),
        port = site.cluster.port(),
    )
}

fn services_and_people(setup: &Setup<'_>) -> String {
    let mut text = String::new();
    if let Some(site) = setup.sites.first() {
        for (service, _) in &site.team.services {
            text.push_str(&format!(
                "[[services]]\nname = \"{}\"\ndatabase = \"{}\"\n\n",
                service.name, service.database
            ));
        }
    }
    for (id, name, _, roles) in PEOPLE {
        text.push_str(&format!("[[people]]\nname = \"{name}\"\n"));
        if setup.chats.has_slack() {
            text.push_str(&format!("slack = [\"{id}\"]\n"));
        }
        if let Some(teams) = setup.chats.teams() {
            text.push_str(&format!("teams = [\"{}\"]\n", (teams.account)(name)));
        }
        text.push_str(&format!("roles = {roles:?}\n\n"));
    }
    text.push_str(
        "[[access]]\nrole = \"on-call\"\nenvironments = [\"*\"]\nrun = [\"read\", \"write\", \"danger\"]\n\n\
         [[access]]\nrole = \"approver\"\nenvironments = [\"*\"]\nrun = [\"read\"]\napprove = [\"danger\"]\n\n\
         [[access]]\nrole = \"observer\"\nenvironments = [\"*\"]\nrun = [\"read\"]\n\n",
    );
    text
}
