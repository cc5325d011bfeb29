//! Opening one connection: TLS verified unless the configuration says otherwise, settings pinned, time limits.

use super::dedicated::Warnings;
use super::pool::Connection;
use super::server_message;
use super::session_settings::{ApplyError, SessionSettings};
use super::unreachable::{self, SettingChange, Unreachable};
use crate::config::{Environment, LoginCredentials, Server, Tls};
use crate::model::LoginKind;
use anyhow::Context;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::ExposeSecret;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::SslMode;
use tokio_postgres::{AsyncMessage, CancelToken, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

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

/// The role of a login.
pub struct TargetRole<'a> {
    pub login: LoginKind,
    pub credentials: &'a LoginCredentials,
}

/// Opens a connection to a database of an environment's server.
pub async fn open(
    tls: &ClientTls,
    environment: &Environment,
    server: &Server,
    target_role: TargetRole<'_>,
    database: &str,
) -> Result<Connection, Unreachable> {
    let (timeout, credentials) = (environment.connect_timeout, target_role.credentials);
    let settings = SessionSettings::new(environment, target_role.login)?;
    let mut config = Config::new();
    config.host(&server.host).port(server.port).dbname(database).user(&credentials.user);
    config.application_name("countersign").connect_timeout(timeout);
    config.keepalives_idle(Duration::from_secs(30)).tcp_user_timeout(Duration::from_secs(30));
    if let Some(password) = &credentials.password {
        config.password(password.expose_secret());
    }
    config.ssl_mode(if tls.is_some() { SslMode::Require } else { SslMode::Disable });
    config.options(settings.options());
    let shows_sessions = database == environment.maintenance_database;
    match tokio::time::timeout(timeout, handshake(tls, &config, &settings, shows_sessions)).await {
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

/// Opens the connection. In a database where other databases' sessions are shown, text is sent as the bytes that it is: they write it
/// in encodings of their own, and the server would refuse to convert what is none of this database's.
async fn handshake(
    tls: &ClientTls,
    config: &Config,
    settings: &SessionSettings,
    shows_sessions: bool,
) -> Result<Connection, ApplyError> {
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
            Ok(Connection::new(client, (major, speaks_english), warnings, canceller))
        }};
    }
    match tls {
        Some(tls) => connect!(tls.clone()),
        None => connect!(NoTls),
    }
}

/// "17.4 (Debian …)" → 17.
fn major_of(version: &str) -> u32 {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

/// Verifies servers by the environment's certificates, or by the system's.
pub fn client_tls(environment: &Environment) -> anyhow::Result<ClientTls> {
    let Tls::Verified { ca_file } = &environment.tls else { return Ok(None) };
    let mut roots = rustls::RootCertStore::empty();
    match ca_file {
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path).context("reading ca_file")? {
                roots.add(certificate.context("reading ca_file")?).context("using ca_file")?;
            }
        }
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("choosing TLS versions")?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Some(MakeRustlsConnect::new(config)))
}
