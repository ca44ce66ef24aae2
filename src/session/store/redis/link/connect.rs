//! New connections, to servers and to sentinels.

use std::collections::HashMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo, RedisError,
    TlsCertificates, Value,
};

use crate::config::{Origin, Redis, Topology};

/// Opens connections as the configuration says.
pub(super) struct Connector {
    config: Redis,
    tls: Option<TlsCertificates>,
}

impl Connector {
    /// # Errors
    /// When `store.ca` cannot be read.
    pub(super) fn new(config: &Redis) -> Result<Self, std::io::Error> {
        let tls = match (config.tls, &config.ca) {
            (false, _) => None,
            (true, ca) => {
                let root_cert = ca.as_ref().map(std::fs::read).transpose()?;
                Some(TlsCertificates { client_tls: None, root_cert })
            }
        };
        Ok(Self { config: config.clone(), tls })
    }

    pub(super) fn config(&self) -> &Redis {
        &self.config
    }

    /// A connection to a server, its answers awaited without a deadline of its own.
    pub(super) async fn server(
        &self,
        server: &Origin,
        timeout: Option<Duration>,
    ) -> Result<MultiplexedConnection, RedisError> {
        let connecting = async {
            let mut connection = self.as_user(server, timeout).await?;
            if matches!(self.config.topology, Topology::Sentinel { .. }) {
                must_be_primary(&mut connection).await?;
            }
            Ok(connection)
        };
        match timeout {
            None => connecting.await,
            Some(timeout) => {
                tokio::time::timeout(timeout, connecting).await.unwrap_or_else(|_late| Err(timed_out("connecting")))
            }
        }
    }

    async fn as_user(&self, server: &Origin, timeout: Option<Duration>) -> Result<MultiplexedConnection, RedisError> {
        let Redis { database, username, password, topology, .. } = &self.config;
        let database = if *topology == Topology::Cluster { 0 } else { *database };
        let mut user = RedisConnectionInfo::default().set_db(database.into());
        if let Some(username) = username {
            user = user.set_username(username);
        }
        if let Some(password) = password {
            user = user.set_password(password.expose());
        }
        self.open(server, user, timeout).await
    }

    /// A connection to a sentinel.
    pub(super) async fn sentinel(&self, server: &Origin) -> Result<MultiplexedConnection, RedisError> {
        let mut user = RedisConnectionInfo::default();
        if let Some(password) = &self.config.sentinel_password {
            user = user.set_password(password.expose());
        }
        self.open(server, user, Some(self.config.timeout)).await
    }

    async fn open(
        &self,
        server: &Origin,
        user: RedisConnectionInfo,
        timeout: Option<Duration>,
    ) -> Result<MultiplexedConnection, RedisError> {
        let Origin { host, port, .. } = server.clone();
        let address = match &self.tls {
            None => ConnectionAddr::Tcp(host, port),
            Some(_) => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
        };
        let info = address.into_connection_info()?.set_redis_settings(user);
        let client = match &self.tls {
            None => Client::open(info)?,
            Some(tls) => Client::build_with_tls(info, tls.clone())?,
        };
        // Every call has its own deadline.
        let config = AsyncConnectionConfig::new().set_connection_timeout(timeout).set_response_timeout(None);
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        // The library's timeout does not cover the greeting of a server that accepts and says nothing.
        match timeout {
            None => connecting.await,
            Some(timeout) => {
                tokio::time::timeout(timeout, connecting).await.unwrap_or_else(|_late| Err(timed_out("connecting")))
            }
        }
    }
}

/// A sentinel that was cut off names a primary that is a replica by now: what is read there may be old.
///
/// `HELLO` tells the role to every user; `ROLE` needs a permission that a user of sessions has not.
async fn must_be_primary(connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    let facts: HashMap<String, Value> = redis::cmd("HELLO").query_async(connection).await?;
    match facts.get("role") {
        Some(Value::BulkString(role)) if role != b"master" => {
            Err(RedisError::from((redis::ErrorKind::Client, "the server is a replica")))
        }
        _ => Ok(()),
    }
}

pub(super) fn timed_out(doing: &'static str) -> RedisError {
    std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer in time while {doing}")).into()
}
