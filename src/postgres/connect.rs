//! Opening one connection: TLS verified unless the configuration says otherwise, time limits, and failures told apart in
//! words that name neither host nor secret.

use super::dedicated::Warnings;
use crate::config::{Environment, LoginCredentials, Server, Tls};
use anyhow::Context;
use secrecy::ExposeSecret;
use std::error::Error as _;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::Duration;
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, NoTls};
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
    #[error("is not in the configuration")]
    Misconfigured,
    #[error("can't be reached ({0})")]
    Other(String),
}

/// Opens connections to an environment's servers.
pub struct PgConnector {
    tls: Option<MakeRustlsConnect>,
    timeout: Duration,
    statement: Duration,
    lock: Duration,
}

/// A fresh connection and the server's major version.
pub struct OpenedConnection {
    pub client: Client,
    pub major: u32,
    pub warnings: Warnings,
    pub canceller: Canceller,
}

/// Asks a server to give up what a connection of it is doing, over a connection of its own: it needs no slot and no right.
pub struct Canceller {
    token: CancelToken,
    tls: Option<MakeRustlsConnect>,
}

impl Canceller {
    /// # Errors
    /// The server can't be reached.
    pub async fn cancel(&self) -> Result<(), tokio_postgres::Error> {
        match &self.tls {
            Some(tls) => self.token.cancel_query(tls.clone()).await,
            None => self.token.cancel_query(NoTls).await,
        }
    }
}

impl PgConnector {
    pub fn new(environment: &Environment) -> anyhow::Result<PgConnector> {
        let tls = match &environment.tls {
            Tls::Off => None,
            Tls::Verified { ca_file } => Some(verified(ca_file.as_deref())?),
        };
        Ok(PgConnector {
            tls,
            timeout: environment.connect_timeout,
            statement: environment.statement_timeout,
            lock: environment.lock_timeout,
        })
    }

    pub async fn open(
        &self,
        server: &Server,
        login: &LoginCredentials,
        database: &str,
    ) -> Result<OpenedConnection, Unreachable> {
        let mut config = Config::new();
        config.host(&server.host).port(server.port).dbname(database).user(&login.user);
        config.application_name("countersign").connect_timeout(self.timeout);
        config.keepalives_idle(Duration::from_secs(30)).tcp_user_timeout(Duration::from_secs(30));
        if let Some(password) = &login.password {
            config.password(password.expose_secret());
        }
        config.ssl_mode(match self.tls {
            Some(_) => tokio_postgres::config::SslMode::Require,
            None => tokio_postgres::config::SslMode::Disable,
        });
        config.options(format!(
            "-c statement_timeout={} -c lock_timeout={} -c idle_in_transaction_session_timeout=30000 -c TimeZone=UTC",
            self.statement.as_millis(),
            self.lock.as_millis()
        ));
        match tokio::time::timeout(self.timeout, self.handshake(&config)).await {
            Ok(result) => result.map_err(|error| unreachable(&error, self.timeout)),
            Err(_) => Err(Unreachable::TimedOut(self.timeout)),
        }
    }

    async fn handshake(&self, config: &Config) -> Result<OpenedConnection, tokio_postgres::Error> {
        macro_rules! run {
            ($tls:expr) => {{
                let (client, mut connection) = config.connect($tls).await?;
                let major = connection.parameter("server_version").map_or(0, major_of);
                let warnings = Warnings::default();
                let recorded = warnings.clone();
                tokio::spawn(async move {
                    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
                        match message {
                            Ok(AsyncMessage::Notice(notice)) => recorded.record(&notice),
                            Ok(_) => {}
                            Err(error) => {
                                tracing::debug!(code = ?error.code(), "a connection ended");
                                break;
                            }
                        }
                    }
                });
                let canceller = Canceller { token: client.cancel_token(), tls: self.tls.clone() };
                Ok(OpenedConnection { client, major, warnings, canceller })
            }};
        }
        match &self.tls {
            Some(tls) => run!(tls.clone()),
            None => run!(NoTls),
        }
    }
}

/// "17.4 (Debian …)" → 17.
fn major_of(version: &str) -> u32 {
    let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap_or(0)
}

fn verified(ca_file: Option<&std::path::Path>) -> anyhow::Result<MakeRustlsConnect> {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let mut roots = rustls::RootCertStore::empty();
    match ca_file {
        Some(path) => {
            let certificates = CertificateDer::pem_file_iter(path).context("reading ca_file")?;
            for certificate in certificates {
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
    Ok(MakeRustlsConnect::new(config))
}

/// Tells the cases apart: down, hanging, TLS, slots, login, database.
fn unreachable(error: &tokio_postgres::Error, waited: Duration) -> Unreachable {
    if let Some(code) = error.code() {
        return match *code {
            SqlState::TOO_MANY_CONNECTIONS => Unreachable::NoSlot,
            SqlState::INVALID_PASSWORD | SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                Unreachable::Login("authentication failed".to_owned())
            }
            SqlState::INSUFFICIENT_PRIVILEGE => Unreachable::Login("no CONNECT privilege".to_owned()),
            SqlState::INVALID_CATALOG_NAME => Unreachable::NoDatabase,
            SqlState::CANNOT_CONNECT_NOW | SqlState::ADMIN_SHUTDOWN | SqlState::CRASH_SHUTDOWN => {
                Unreachable::Restarting
            }
            _ => Unreachable::Other(format!("SQLSTATE {}", code.code())),
        };
    }
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            if let Some(tls) = io.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                return Unreachable::Tls(tls.to_string());
            }
            return match io.kind() {
                std::io::ErrorKind::ConnectionRefused => Unreachable::Refused,
                std::io::ErrorKind::TimedOut => Unreachable::TimedOut(waited),
                kind => Unreachable::Other(kind.to_string()),
            };
        }
        if let Some(tls) = inner.downcast_ref::<rustls::Error>() {
            return Unreachable::Tls(tls.to_string());
        }
        cause = inner.source();
    }
    let message = error.to_string();
    if message.contains("does not support TLS") || message.contains("TLS handshake") {
        return Unreachable::Tls("the server offers none".to_owned());
    }
    Unreachable::Other("the connection was closed".to_owned())
}
