//! One connection to a server, or a place on one.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::AbortHandle;

use super::attempts::Order;
use super::dialer::{Dialed, Dialer};
use super::direct::Direct;
use super::fair::Fair;
use super::http2::{Place, Shared};
use super::names::Named;
use super::slots::Slot;
use crate::body::RequestBody;
use crate::config::{Protocol, ServerAddress};

/// A server, as one worker connects to it.
#[derive(Debug)]
pub(super) struct Server {
    dialer: Arc<Dialer>,
    /// Among the servers of the upstream.
    index: usize,
    /// For the log and errors, such as `10.0.0.5:8080`.
    pub(super) name: Rc<str>,
    order: Order,
    /// With HTTP/2.
    shared: Option<Shared>,
}

impl Server {
    /// `dialer`'s server number `index`.
    pub(super) fn new(address: &ServerAddress, dialer: &Arc<Dialer>, index: usize) -> Self {
        let shared = (dialer.protocol == Protocol::Http2).then(Shared::default);
        Self { dialer: dialer.clone(), index, name: address.name().into(), order: Order::default(), shared }
    }

    /// A place on an open connection that requests share; always `None` with HTTP/1.1.
    pub(super) fn take_shared(&self, keep_alive: Duration) -> Option<Connection> {
        let place = self.shared.as_ref()?.take(keep_alive)?;
        Some(Connection::new(Kind::Shared(place), self.name.clone()))
    }

    /// Opens a connection, with TLS and the preface of HTTP/2 within one deadline; with HTTP/2, or gives a place on one
    /// that was opened meanwhile. `slot` is the room of a new connection: it is given back when that is closed.
    pub(super) async fn connect(
        &self,
        limit: Duration,
        keep_alive: Duration,
        slot: &Rc<Slot>,
        way: Way,
    ) -> io::Result<Connection> {
        match tokio::time::timeout(limit, self.open(keep_alive, slot, way)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "connect timed out")),
        }
    }

    async fn open(&self, keep_alive: Duration, slot: &Rc<Slot>, way: Way) -> io::Result<Connection> {
        let dial = async || self.dialer.dial(self.index, &self.order).await;
        let kind = match &self.shared {
            None => match way {
                Way::Driven => Kind::Own(Own::start(dial().await?, slot.clone()).await?),
                Way::Direct => Kind::Direct(Box::new(Direct::new(dial().await?))),
            },
            Some(shared) => Kind::Shared(shared.place(keep_alive, dial, self.dialer.tls(self.index), slot).await?),
        };
        Ok(Connection::new(kind, self.name.clone()))
    }

    /// Closes shared connections that were unused for too long.
    pub(super) fn close_unused(&self, keep_alive: Duration) {
        if let Some(shared) = &self.shared {
            shared.close_unused(keep_alive);
        }
    }

    /// Lets one shared connection take no request any more, so that its room becomes free.
    pub(super) fn retire_shared(&self, keep_alive: Duration) {
        if let Some(shared) = &self.shared {
            shared.retire_one(keep_alive);
        }
    }
}

/// An open connection for one request at a time, or a place on a shared one.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) kind: Kind,
    server: Rc<str>,
    pub(super) unused_since: Instant,
}

/// How a connection of HTTP/1.1 is used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Way {
    /// A task drives it, and requests are handed to that.
    Driven,
    /// Whoever has the request writes and reads its bytes.
    Direct,
}

impl Way {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Driven => Self::Direct,
            Self::Direct => Self::Driven,
        }
    }
}

/// How requests use it.
#[derive(Debug)]
pub(super) enum Kind {
    Own(Own),
    /// Large, and moved with every request.
    Direct(Box<Direct>),
    Shared(Place),
}

/// An HTTP/1.1 connection, with a task that drives it until it closes.
#[derive(Debug)]
pub(super) struct Own {
    sender: SendRequest<RequestBody>,
    named: Option<Named>,
    uses: u32,
    /// A request is on it.
    in_use: bool,
    driver: AbortHandle,
}

/// One that is given up with a request on it is closed at once: its driver would go on sending what is left of the
/// request's body, and for ever when the server does not take it. So it would after a response that came before that:
/// the request is over, but the connection is not ready for another.
impl Drop for Own {
    fn drop(&mut self) {
        if self.in_use || !self.sender.is_ready() && !self.sender.is_closed() {
            self.driver.abort();
        }
    }
}

impl Own {
    async fn start(dialed: Dialed, slot: Rc<Slot>) -> io::Result<Self> {
        // One buffer instead of pieces: a request is mostly small.
        let (sender, driver) = http1::Builder::new()
            .writev(false)
            .max_headers(200)
            .handshake(TokioIo::new(Fair::new(dialed.stream)))
            .await
            .map_err(io::Error::other)?;
        // A response of 101 gives the connection away to whoever asked for the upgrade.
        let driver = driver.with_upgrades();
        let driver = tokio::task::spawn_local(async move {
            // Whoever waits for a response on it gets the error; after that nobody is concerned.
            drop(driver.await);
            drop(slot);
        });
        let driver = driver.abort_handle();
        Ok(Self { sender, named: dialed.named, uses: 0, in_use: false, driver })
    }

    pub(super) fn send(
        &mut self,
        request: Request<RequestBody>,
    ) -> impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>> + use<> {
        self.sender.try_send_request(request)
    }
}

impl Connection {
    fn new(kind: Kind, server: Rc<str>) -> Self {
        Self { kind, server, unused_since: Instant::now() }
    }

    pub(super) fn server(&self) -> Rc<str> {
        self.server.clone()
    }

    /// Which requests it is for.
    pub(super) fn way(&self) -> Way {
        match &self.kind {
            Kind::Direct(_) => Way::Direct,
            Kind::Own(_) | Kind::Shared(_) => Way::Driven,
        }
    }

    /// Whether other requests may be on it. It is not kept for the next request: that takes a place of its own.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.kind, Kind::Shared(_))
    }

    /// Whether it served a request before.
    pub(super) fn is_reused(&self) -> bool {
        match &self.kind {
            Kind::Own(own) => own.uses > 1,
            Kind::Direct(direct) => direct.is_reused(),
            Kind::Shared(place) => place.reused,
        }
    }

    /// A request takes it.
    pub(super) fn take(&mut self) {
        match &mut self.kind {
            Kind::Own(own) => {
                own.uses = own.uses.saturating_add(1);
                own.in_use = true;
            }
            Kind::Direct(direct) => direct.take(),
            Kind::Shared(_) => {}
        }
    }

    /// Its request was answered to the end.
    pub(super) fn release(&mut self) {
        if let Kind::Own(own) = &mut self.kind {
            own.in_use = false;
        }
        self.unused_since = Instant::now();
    }

    /// The answer did not come in time: no other request is to wait here.
    pub(super) fn give_up(&self) {
        if let Kind::Shared(place) = &self.kind {
            place.retire();
        }
    }

    /// Whether a request may be sent now; `None` when it never may again.
    pub(super) async fn readiness(&mut self) -> Option<bool> {
        let own = match &mut self.kind {
            Kind::Own(own) => own,
            Kind::Direct(direct) => return poll_fn(|cx| Poll::Ready(direct.is_quiet(cx).then_some(true))).await,
            Kind::Shared(_) => return Some(true),
        };
        if own.named.as_mut().is_some_and(|named| !named.is_current()) {
            return None;
        }
        poll_fn(|cx| {
            Poll::Ready(match own.sender.poll_ready(cx) {
                Poll::Ready(Ok(())) => Some(true),
                Poll::Ready(Err(_)) => None,
                Poll::Pending => Some(false),
            })
        })
        .await
    }

    /// Whether it is of no use any more, as far as is known without asking anybody.
    pub(super) fn is_closed(&mut self) -> bool {
        match &mut self.kind {
            Kind::Own(own) => own.sender.is_closed(),
            Kind::Direct(direct) => !direct.is_open(),
            Kind::Shared(_) => false,
        }
    }
}
