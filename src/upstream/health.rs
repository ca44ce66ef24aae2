//! Checks: servers are asked whether they are well, once for all workers, on the control runtime.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode, Uri, Version};
use http_body_util::Empty;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::attempts::Order;
use super::dialer::Dialer;
use super::fair::Fair;
use super::shared::SharedUpstream;
use crate::config::{self, Health, Protocol, ServerAddress};

/// The first check comes within this, so that a server that is down at the start is soon known to be.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// Starts checking the servers of an upstream, if it has checks, on the current runtime; until `stopping` turns true.
///
/// A server counts as well until checks say otherwise: a start waits for none.
pub fn spawn_checks(
    config: &config::Upstream,
    shared: &Arc<SharedUpstream>,
    dialer: &Arc<Dialer>,
    tasks: &mut JoinSet<()>,
    stopping: &watch::Receiver<bool>,
) {
    let Some(health) = &config.health else { return };
    for (at, server) in config.servers.iter().enumerate() {
        let (dialer, health) = (dialer.clone(), health.clone());
        let check = Check { dialer, at, order: Order::default(), address: server.address.clone(), health };
        let (shared, mut stopping) = (shared.clone(), stopping.clone());
        tasks.spawn(async move {
            tokio::select! {
                () = check.repeat(&shared) => {}
                _ = stopping.wait_for(|stop| *stop) => {}
            }
        });
    }
}

/// Why a check was not good.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("cannot connect")]
    Connect(#[source] std::io::Error),
    #[error("broke its response off")]
    Broken(#[source] hyper::Error),
    #[error("answered {0}")]
    Status(StatusCode),
    #[error("did not answer in time")]
    Timeout,
    #[error("cannot be asked")]
    Request(#[source] http::Error),
}

/// The check of one server.
#[derive(Debug)]
struct Check {
    dialer: Arc<Dialer>,
    /// Which of the upstream's servers.
    at: usize,
    order: Order,
    address: ServerAddress,
    health: Health,
}

impl Check {
    async fn repeat(&self, shared: &SharedUpstream) {
        let mut tally = Tally::default();
        let mut next = Instant::now() + self.health.interval.min(FIRST_WITHIN).mul_f64(random());
        loop {
            tokio::time::sleep_until(next).await;
            // Apart from those of other servers and gateways, which would come together otherwise.
            next = Instant::now() + self.health.interval.mul_f64(0.9 + 0.2 * random());
            let asked = tokio::time::timeout(self.health.timeout, self.ask()).await;
            let result = asked.unwrap_or(Err(CheckError::Timeout));
            let Some(healthy) = tally.note(result.is_ok(), &self.health) else { continue };
            shared.set_healthy(self.at, healthy);
            let (upstream, server) = (shared.name(), &shared.servers[self.at].name);
            match result {
                Ok(()) => tracing::info!(%upstream, %server, "upstream server is healthy again"),
                Err(error) => {
                    let error = crate::causes::chain(&error);
                    tracing::warn!(%upstream, %server, %error, "upstream server is not healthy");
                }
            }
        }
    }

    /// Over a connection of its own, made as those of requests are: whether new ones are accepted is part of the
    /// question.
    async fn ask(&self) -> Result<(), CheckError> {
        let dialed = self.dialer.dial(self.at, &self.order).await.map_err(CheckError::Connect)?;
        let request = self.request().map_err(CheckError::Request)?;
        let stream = TokioIo::new(Fair::new(dialed.stream));
        let status = match self.dialer.protocol {
            Protocol::Http1 => {
                let (mut sender, driver) = http1::handshake(stream).await.map_err(CheckError::Broken)?;
                answered(sender.send_request(request), driver).await
            }
            Protocol::Http2 => {
                let handshake = http2::handshake(TokioExecutor::new(), stream).await;
                let (mut sender, driver) = handshake.map_err(CheckError::Broken)?;
                answered(sender.send_request(request), driver).await
            }
        };
        self.judge(status.map_err(CheckError::Broken)?)
    }

    fn judge(&self, status: StatusCode) -> Result<(), CheckError> {
        let good = match self.health.status.as_slice() {
            [] => status.is_success() || status.is_redirection(),
            named => named.contains(&status.as_u16()),
        };
        if good { Ok(()) } else { Err(CheckError::Status(status)) }
    }

    /// Nobody's request: it carries no identity, and nothing of any client.
    fn request(&self) -> Result<Request<Empty<Bytes>>, http::Error> {
        let host = match (&self.health.host, &self.address) {
            (Some(host), _) => host.clone(),
            (None, ServerAddress::Unix(_)) => HeaderValue::from_static("localhost"),
            (None, address) => HeaderValue::try_from(address.name())?,
        };
        let request = Request::builder().header(header::USER_AGENT, "portcullis").header(header::ACCEPT, "*/*");
        let request = match self.dialer.protocol {
            Protocol::Http1 => {
                request.uri(&*self.health.path).header(header::HOST, host).header(header::CONNECTION, "close")
            }
            // The form that HTTP/2 has, so that `:scheme` and `:authority` are sent.
            Protocol::Http2 => {
                let scheme = if self.dialer.tls(self.at) { "https" } else { "http" };
                let uri = Uri::builder().scheme(scheme).authority(host.as_bytes()).path_and_query(&*self.health.path);
                request.uri(uri.build()?).version(Version::HTTP_2)
            }
        };
        request.body(Empty::new())
    }
}

/// Drives a connection until there is a response. With the check, its connection is gone.
async fn answered<B>(
    response: impl Future<Output = hyper::Result<Response<B>>>,
    driver: impl Future<Output = hyper::Result<()>>,
) -> hyper::Result<StatusCode> {
    let (mut response, mut driver) = (std::pin::pin!(response), std::pin::pin!(driver));
    tokio::select! {
        biased;
        response = &mut response => return Ok(response?.status()),
        ended = &mut driver => ended?,
    }
    Ok(response.await?.status())
}

/// Checks in a row.
#[derive(Debug, Default)]
struct Tally {
    unhealthy: bool,
    /// Checks in a row that say otherwise.
    against: u32,
}

impl Tally {
    /// What the server counts as from now on, when that changed.
    fn note(&mut self, good: bool, health: &Health) -> Option<bool> {
        if good != self.unhealthy {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if good { health.healthy } else { health.unhealthy };
        if self.against < needed.get() {
            return None;
        }
        *self = Self { unhealthy: !good, against: 0 };
        Some(good)
    }
}

/// From 0 to 1. Without randomness checks come evenly, which is no harm.
fn random() -> f64 {
    let mut bytes = [0; 4];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: Vec<u16>) -> Check {
        let health = Health {
            path: "/healthz?deep=1".into(),
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            healthy: 2.try_into().unwrap(),
            unhealthy: 3.try_into().unwrap(),
            status,
            host: None,
        };
        let text = "server.listen = ['127.0.0.1:0']\nupstream.u.servers = ['http://10.0.0.5:8080']\n\
                    route = [{ path = '/', upstream = 'u', auth = 'public' }]\n";
        let config = config::Config::parse(text, "t", std::path::Path::new("")).unwrap();
        let (dialers, _) = Dialer::all(&config.upstreams, crate::clock::UnixTime::now()).unwrap();
        let address = config.upstreams[0].servers[0].address.clone();
        Check { dialer: dialers[0].clone(), at: 0, order: Order::default(), address, health }
    }

    #[test]
    fn so_many_in_a_row_change_what_a_server_counts_as() {
        let health = check(Vec::new()).health;
        let mut tally = Tally::default();
        let mut note = |checks: &[bool]| checks.iter().map(|good| tally.note(*good, &health)).collect::<Vec<_>>();
        assert_eq!(note(&[true, false, false, true, false, false]), [None; 6]);
        assert_eq!(note(&[false, false]), [Some(false), None]);
        assert_eq!(note(&[true, false, true]), [None; 3]);
        assert_eq!(note(&[true, true, false]), [Some(true), None, None]);
    }

    #[test]
    fn statuses_are_good_as_they_are_named() {
        let good = |named: &[u16], status| check(named.to_vec()).judge(StatusCode::from_u16(status).unwrap()).is_ok();
        assert_eq!([200, 204, 302, 404, 500, 503].map(|it| good(&[], it)), [true, true, true, false, false, false]);
        assert_eq!([200, 204, 404].map(|it| good(&[204, 404], it)), [false, true, true]);
    }

    #[test]
    fn a_check_is_nobodys_request() {
        let mut check = check(Vec::new());
        let request = check.request().unwrap();
        assert_eq!(
            (request.uri().to_string(), &request.headers()["host"]),
            ("/healthz?deep=1".into(), &"10.0.0.5:8080".parse().unwrap())
        );
        let names = request.headers().keys().map(|name| name.as_str()).collect::<Vec<_>>();
        assert_eq!(names, ["user-agent", "accept", "host", "connection"]);
        check.health.host = Some(HeaderValue::from_static("orders.internal"));
        assert_eq!(check.request().unwrap().headers()["host"], "orders.internal");
    }
}
