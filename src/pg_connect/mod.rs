//! Opening one connection, the store's and the targets' alike: TLS verified unless the configuration says otherwise, settings pinned,
//! time limits. Its errors, warnings and rows.

use crate::config::{LoginCredentials, Server, Tls};
use crate::tls;
use secrecy::ExposeSecret;
use std::future::poll_fn;
use std::time::Duration;
use tokio_postgres::config::SslMode;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, NoTls, SimpleQueryMessage};
use tokio_postgres_rustls::MakeRustlsConnect;

mod row;
mod server_message;
mod session_settings;
mod unreachable;
mod warnings;

pub use row::{ColumnError, ColumnValue, PgRow};
pub use server_message::{condition, error_text, is_english};
pub use session_settings::{SEARCH_PATH, SessionLimits, SessionSettings, dump_options, migration_options};
pub use unreachable::{LoginRefusal, SettingChange, SlotLimit, Unreachable};
pub use warnings::Warnings;

use session_settings::ApplyError;

/// `None` where the configuration turns TLS off.
pub type ClientTls = Option<MakeRustlsConnect>;

/// Cancels a connection's current query over a separate connection, which needs no slot and no privilege.
pub struct Canceller {
    token: CancelToken,
    tls: ClientTls,
}

impl Canceller {
    /// Fails if the server can't be reached.
    pub async fn cancel(&self) -> Result<(), tokio_postgres::Error> {
        match &self.tls {
            Some(tls) => self.token.cancel_query(tls.clone()).await,
            None => self.token.cancel_query(NoTls).await,
        }
    }
}

/// The other end of a connection.
pub struct Endpoint<'a> {
    pub tls: &'a ClientTls,
    pub server: &'a Server,
    pub database: &'a str,
    pub credentials: &'a LoginCredentials,
    /// Time limit of the whole opening.
    pub timeout: Duration,
    /// Other databases' sessions are shown here. Text is sent as the bytes that it is: they write it in encodings of their own, and
    /// the server would refuse to convert what is none of this database's.
    pub shows_sessions: bool,
}

/// A connection that is open.
pub struct OpenedConnection {
    pub client: Client,
    /// The server's major version, as it tells it.
    pub major: u32,
    /// The server's messages are in English, as far as `lc_messages` tells.
    pub speaks_english: bool,
    pub warnings: Warnings,
    pub canceller: Canceller,
}

/// Opens a connection with those settings.
///
/// # Errors
/// There is none, or another setting applies than the one that was pinned.
pub async fn open(
    endpoint: &Endpoint<'_>,
    settings: &SessionSettings,
) -> Result<OpenedConnection, Unreachable> {
    let Endpoint { tls, server, database, credentials, timeout, .. } = *endpoint;
    let mut config = Config::new();
    config.host(&server.host).port(server.port).dbname(database).user(&credentials.user);
    config.application_name("countersign").connect_timeout(timeout);
    config.keepalives_idle(Duration::from_secs(30)).tcp_user_timeout(Duration::from_secs(30));
    if let Some(password) = &credentials.password {
        config.password(password.expose_secret());
    }
    config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
    config.options(settings.options());
    match tokio::time::timeout(timeout, handshake(endpoint, &config, settings)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(ApplyError::Failed(error))) => Err(unreachable::reason(&error, server, timeout).await),
        Ok(Err(ApplyError::Ignored)) => {
            tracing::warn!(server = server.name, "start-up options have no effect");
            Err(Unreachable::IgnoresOptions)
        }
        Ok(Err(ApplyError::Changed { setting, triggers })) => {
            tracing::warn!(server = server.name, setting, "a start-up option was changed at login");
            Err(Unreachable::ChangesSetting { setting, cause: SettingChange::of(&triggers) })
        }
        Err(_) => Err(Unreachable::TimedOut(timeout)),
    }
}

async fn handshake(
    endpoint: &Endpoint<'_>,
    config: &Config,
    settings: &SessionSettings,
) -> Result<OpenedConnection, ApplyError> {
    let Endpoint { tls, shows_sessions, .. } = *endpoint;
    macro_rules! connect {
        ($tls:expr) => {{
            let (client, mut connection) = config.connect($tls).await?;
            let major = connection.parameter("server_version").map_or(0, major_of);
            let is_superuser = connection.parameter("is_superuser") == Some("on");
            // The bytes of SQL_ASCII may be anything.
            let is_as_it_is = |encoding: &str| encoding == "SQL_ASCII" || shows_sessions && encoding != "UTF8";
            let sends_bytes = connection.parameter("server_encoding").is_some_and(is_as_it_is);
            let warnings = Warnings::default();
            let sink = warnings.clone();
            tokio::spawn(async move {
                while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                    match message {
                        Ok(AsyncMessage::Notice(notice)) => sink.record(&notice),
                        Ok(_) => {}
                        Err(error) => {
                            tracing::debug!(code = ?error.code(), "a connection ended");
                            break;
                        }
                    }
                }
            });
            let lc_messages = settings.apply(&client, major, is_superuser).await?;
            if sends_bytes {
                client.batch_execute("SET client_encoding = 'SQL_ASCII'").await?;
            }
            let canceller = Canceller { token: client.cancel_token(), tls: tls.clone() };
            let speaks_english = server_message::is_english(&lc_messages);
            Ok(OpenedConnection { client, major, speaks_english, warnings, canceller })
        }};
    }
    match tls {
        Some(tls) => connect!(tls.clone()),
        None => connect!(NoTls),
    }
}

/// The system identifier of a server's data: initdb gives each server its own, and its replicas and backups keep it. `None` if the
/// session ends or may not read it.
pub async fn system_identifier(client: &Client) -> Option<String> {
    let sql = "SELECT system_identifier FROM pg_catalog.pg_control_system()";
    let messages = client.simple_query(sql).await.ok()?;
    messages.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    })
}

/// "17.4 (Debian …)" → 17.
fn major_of(version: &str) -> u32 {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Verifies servers by the configured certificates, or by the system's.
///
/// # Errors
/// A certificate file can't be read or used, or the system has no certificates.
pub fn client_tls(settings: &Tls) -> anyhow::Result<ClientTls> {
    let Tls::Verified { ca_file } = settings else { return Ok(None) };
    Ok(Some(MakeRustlsConnect::new(tls::client_config(tls::roots(ca_file.as_deref())?)?)))
}
