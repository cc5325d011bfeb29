//! Opening one connection: TLS verified unless the configuration says otherwise, settings pinned, time limits, and failures told
//! apart in words that name neither host nor secret.

use super::dedicated::Warnings;
use super::pool::Connection;
use super::session_settings::{ApplyError, SessionSettings};
use crate::config::{Environment, LoginCredentials, Server, Tls};
use crate::model::LoginKind;
use anyhow::Context;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use secrecy::ExposeSecret;
use std::error::Error as _;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::config::SslMode;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, CancelToken, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The reason that there is no connection. `Display` is for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    #[error("doesn't answer (waited {} s)", .0.as_secs_f32())]
    TimedOut(Duration),
    #[error("refuses connections: the server is down or the network is in the way")]
    Refused,
    #[error("shows no TLS that can be verified ({0})")]
    Tls(String),
    #[error("has no connection slot left")]
    NoSlot,
    #[error("refuses the login of Countersign ({0})")]
    Login(String),
    #[error("has no such database")]
    NoDatabase,
    #[error("is starting up or shutting down")]
    Restarting,
    #[error("is a pooler (PgBouncer): Countersign needs the server's own address, port 5432 as a rule")]
    Pooler,
    #[error(
        "is a pooler, or ignores start-up options: Countersign needs the server's own address, port 5432 as a rule"
    )]
    IgnoresOptions,
    #[error("is not in the configuration")]
    Misconfigured,
    #[error("can't be reached ({0})")]
    Other(String),
}

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
        Ok(Err(ApplyError::Failed(error))) => Err(unreachable_reason(&error, timeout)),
        Ok(Err(ApplyError::Ignored(setting))) => {
            tracing::warn!(server = server.name, setting, "a start-up option has no effect");
            Err(Unreachable::IgnoresOptions)
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
            settings.apply(&client, major, is_superuser).await?;
            if sends_bytes {
                client.batch_execute("SET client_encoding = 'SQL_ASCII'").await?;
            }
            let canceller = Canceller { token: client.cancel_token(), tls: tls.clone() };
            Ok(Connection::new(client, major, warnings, canceller))
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

/// Tells the cases apart: down, hanging, TLS, slots, login, database.
fn unreachable_reason(error: &tokio_postgres::Error, waited: Duration) -> Unreachable {
    if let Some(refusal) = error.as_db_error() {
        return match *refusal.code() {
            // No server says that: PgBouncer refuses start-up options unless `ignore_startup_parameters` names them.
            SqlState::PROTOCOL_VIOLATION
                if refusal.message().starts_with("unsupported startup parameter") =>
            {
                Unreachable::Pooler
            }
            SqlState::TOO_MANY_CONNECTIONS => Unreachable::NoSlot,
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                Unreachable::Login("authentication failed".to_owned())
            }
            SqlState::INSUFFICIENT_PRIVILEGE => Unreachable::Login("no CONNECT privilege".to_owned()),
            SqlState::INVALID_CATALOG_NAME => Unreachable::NoDatabase,
            SqlState::CANNOT_CONNECT_NOW | SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => {
                Unreachable::Restarting
            }
            ref code => Unreachable::Other(format!("SQLSTATE {}", code.code())),
        };
    }
    for cause in std::iter::successors(error.source(), |&cause| cause.source()) {
        let io = cause.downcast_ref::<std::io::Error>();
        let tls = io.and_then(|io| io.get_ref()?.downcast_ref::<rustls::Error>());
        if let Some(tls) = tls.or_else(|| cause.downcast_ref()) {
            return Unreachable::Tls(tls.to_string());
        }
        if let Some(io) = io {
            return match io.kind() {
                std::io::ErrorKind::ConnectionRefused => Unreachable::Refused,
                std::io::ErrorKind::TimedOut => Unreachable::TimedOut(waited),
                kind => Unreachable::Other(kind.to_string()),
            };
        }
    }
    let message = error.to_string();
    if message.contains("does not support TLS") || message.contains("TLS handshake") {
        return Unreachable::Tls("the server offers none".to_owned());
    }
    Unreachable::Other("the connection was closed".to_owned())
}
