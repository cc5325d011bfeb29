//! Opening a connection to the Redis server that takes writes: the configured one, or the master that a Sentinel names.

use super::link::{CALL_TIMEOUT, Channels, within};
use super::obstacle::RedisObstacle;
use crate::config::{RedisServer, RedisSettings, Server, Tls};
use crate::tls;
use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo};
use rustls::pki_types::ServerName;
use secrecy::{ExposeSecret, SecretString};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Limit for opening a connection, asking the Sentinels included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Limit for asking one Sentinel.
const SENTINEL_TIMEOUT: Duration = Duration::from_millis(800);

/// Time for which the key of the check is kept.
const CHECK_LIFETIME: Duration = Duration::from_secs(10);

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Opens connections.
pub(super) struct RedisConnector {
    settings: RedisSettings,
    /// `None` where the configuration turns TLS off.
    tls: Option<TlsConnector>,
}

impl RedisConnector {
    /// # Errors
    /// The certificates can't be used.
    pub fn new(settings: &RedisSettings) -> anyhow::Result<RedisConnector> {
        let tls = match &settings.tls {
            Tls::Off => None,
            Tls::Verified { ca_file } => {
                let config = tls::client_config(tls::roots(ca_file.as_deref())?)?;
                Some(TlsConnector::from(Arc::new(config)))
            }
        };
        Ok(RedisConnector { settings: settings.clone(), tls })
    }

    /// Opens a connection that takes writes, and listens to the replicas' channels; `push` gets what is published there.
    ///
    /// # Errors
    /// There is none within a few seconds.
    pub async fn open(
        &self,
        prefix: &str,
        push: impl AsyncPushSender,
    ) -> Result<MultiplexedConnection, RedisObstacle> {
        let opening = async {
            let RedisSettings { user, password, .. } = &self.settings;
            let login = login(user.as_deref(), password.as_ref()).set_protocol(ProtocolVersion::RESP3);
            let config = AsyncConnectionConfig::new().set_push_sender(push);
            let mut connection = self.connect(&self.server().await?, &login, config).await?;
            check_writable(&mut connection, prefix).await?;
            let Channels { change, progress } = Channels::new(prefix);
            within(CALL_TIMEOUT, connection.subscribe(&[change, progress])).await?;
            Ok(connection)
        };
        tokio::time::timeout(CONNECT_TIMEOUT, opening).await.unwrap_or(Err(RedisObstacle::TimedOut))
    }

    /// The server that takes writes.
    async fn server(&self) -> Result<Server, RedisObstacle> {
        let (sentinels, master, password) = match &self.settings.server {
            RedisServer::Address(server) => return Ok(server.clone()),
            RedisServer::Sentinels { sentinels, master, password } => (sentinels, master, password),
        };
        let mut obstacle = RedisObstacle::NoMaster(master.clone());
        for sentinel in sentinels {
            let asking = self.ask_sentinel(sentinel, master, password.as_ref());
            match tokio::time::timeout(SENTINEL_TIMEOUT, asking).await.unwrap_or(Err(RedisObstacle::TimedOut))
            {
                Ok(Some((host, port))) if self.may_connect(&host) => {
                    return Ok(Server { name: master.clone(), host, port });
                }
                Ok(Some((host, _))) => {
                    return Err(RedisObstacle::Tls(format!("`tls` is off, and {host} is another machine")));
                }
                Ok(None) => {}
                Err(error @ (RedisObstacle::Login | RedisObstacle::Tls(_))) => obstacle = error,
                Err(error) => tracing::debug!(sentinel = sentinel.host, %error, "asking a Sentinel failed"),
            }
        }
        Err(obstacle)
    }

    /// Without TLS the password goes to this machine only.
    fn may_connect(&self, host: &str) -> bool {
        let is_here =
            || host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        self.tls.is_some() || is_here()
    }

    async fn ask_sentinel(
        &self,
        sentinel: &Server,
        master: &str,
        password: Option<&SecretString>,
    ) -> Result<Option<(String, u16)>, RedisObstacle> {
        let config = AsyncConnectionConfig::new();
        let mut connection = self.connect(sentinel, &login(None, password), config).await?;
        let mut question = redis::cmd("SENTINEL");
        question.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
        Ok(question.query_async(&mut connection).await?)
    }

    async fn connect(
        &self,
        server: &Server,
        login: &RedisConnectionInfo,
        config: AsyncConnectionConfig,
    ) -> Result<MultiplexedConnection, RedisObstacle> {
        let socket = TcpStream::connect((&*server.host, server.port)).await?;
        socket.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(socket),
            Some(tls) => {
                let name = ServerName::try_from(server.host.clone());
                let name = name.map_err(|error| RedisObstacle::Tls(error.to_string()))?;
                Box::new(tls.connect(name, socket).await?)
            }
        };
        let (connection, driver) = MultiplexedConnection::new_with_config(login, stream, config).await?;
        // Ends with the connection.
        tokio::spawn(driver);
        Ok(connection)
    }
}

fn login(user: Option<&str>, password: Option<&SecretString>) -> RedisConnectionInfo {
    let mut login = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(user) = user {
        login = login.set_username(user);
    }
    if let Some(password) = password {
        login = login.set_password(password.expose_secret());
    }
    login
}

/// Fails on a server that answers and takes no writes: a replica, a full one, another node of a cluster.
pub(super) async fn check_writable(
    connection: &mut MultiplexedConnection,
    prefix: &str,
) -> Result<(), RedisObstacle> {
    let mut check = redis::cmd("SET");
    check.arg(format!("{prefix}:check")).arg("").arg("PX").arg(CHECK_LIFETIME.as_millis() as u64);
    within(CALL_TIMEOUT, check.exec_async(connection)).await
}
