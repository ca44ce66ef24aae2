//! Streams that are open, and the sessions they belong to: what has been let through ends when its session does.
//!
//! A request is judged once, when it comes; a WebSocket, an event stream or a long download may then last for hours. So
//! each request with an identity is entered into [`LiveStreams`] of its worker, which is looked through a few times a
//! second. What a request costs is a place in a list.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::clock::{LEEWAY, UnixTime};
use crate::config::OnTokenExpiry;
use crate::ids::{SessionId, SessionName};
use crate::reject::Reason;
use crate::revocation::Revocations;
use crate::route::Route;
use crate::token::cache::Verified;
use crate::token::{OWN_ISSUER, TokenError};

/// How often a worker looks through its streams. Three times that is the most that a stream outlives its session by, once
/// this gateway knows of the end.
pub const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// Looks that a response is left alone for after its header: what ends a session (a change of the password, say) is
/// often told in the very response whose request caused the end, and that one must arrive.
const SETTLED: u32 = 2;

/// When the store is first asked about the session of a stream: most requests are long over by then.
const FIRST_ASKED_AFTER: Duration = Duration::from_secs(1);

/// What a request shares with the connection it came over: the means to end it from outside.
///
/// Lives on one thread. One task at a time waits for the end: the one that drives the connection, or the stream of it.
#[derive(Debug, Default)]
pub struct Stream {
    /// Why its session is over.
    ended: Cell<Option<Reason>>,
    /// The look after which the response began.
    began: Cell<Option<u32>>,
    cut: Cell<bool>,
    /// Why it would have ended, on a route that only observes.
    would_end: Cell<Option<Reason>>,
    waker: RefCell<Option<Waker>>,
    /// Of the task that reads the request's body.
    upload: RefCell<Option<Waker>>,
}

impl Stream {
    /// Ready as before its first request.
    pub fn reset(&self) {
        self.ended.set(None);
        self.began.set(None);
        self.cut.set(false);
        self.would_end.set(None);
        self.upload.borrow_mut().take();
    }

    /// Why its session is over, when that was found.
    pub fn ended(&self) -> Option<Reason> {
        self.ended.get()
    }

    /// Why its session was over before it was, on a route that lets it go on.
    pub fn would_end(&self) -> Option<Reason> {
        self.would_end.get()
    }

    /// Why it must end now, when it must.
    pub fn is_cut(&self) -> Option<Reason> {
        self.ended.get().filter(|_| self.cut.get())
    }

    /// Ready when the stream must end now.
    pub fn poll_cut(&self, cx: &mut Context<'_>) -> Poll<Reason> {
        if let Some(reason) = self.is_cut() {
            return Poll::Ready(reason);
        }
        note(&self.waker, cx);
        Poll::Pending
    }

    /// Ready when the session is over, for a request that is not whole yet: nothing was done by it, and nothing will be.
    pub fn poll_upload(&self, cx: &mut Context<'_>) -> Poll<Reason> {
        if let Some(reason) = self.ended.get() {
            return Poll::Ready(reason);
        }
        note(&self.upload, cx);
        Poll::Pending
    }

    fn end(&self, reason: Reason) {
        self.ended.set(Some(reason));
        let waker = self.upload.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn cut(&self) {
        self.cut.set(true);
        let waker = self.waker.borrow_mut().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

fn note(waker: &RefCell<Option<Waker>>, cx: &Context<'_>) {
    match &mut *waker.borrow_mut() {
        Some(waker) => waker.clone_from(cx.waker()),
        empty => *empty = Some(cx.waker().clone()),
    }
}

/// The open streams of one worker that have an identity.
#[derive(Debug, Default)]
pub struct LiveStreams {
    places: RefCell<Places>,
    /// Counts looks.
    look: Cell<u32>,
}

#[derive(Debug, Default)]
struct Places {
    all: Vec<Option<Live>>,
    free: Vec<usize>,
}

#[derive(Debug)]
struct Live {
    stream: Rc<Stream>,
    known: Rc<Verified>,
    on_expiry: OnTokenExpiry,
    /// Its route only observes: it is noted that it would end.
    observes: bool,
    /// When the store is next asked whether the session has had its time, or at the latest.
    ask_at: UnixTime,
}

/// A stream's place among the open ones, until dropped.
#[derive(Debug)]
pub struct LiveStream {
    streams: Rc<LiveStreams>,
    place: usize,
    stream: Rc<Stream>,
}

impl LiveStream {
    /// The response begins: from now on the stream can be cut.
    pub fn begin(&self) {
        self.stream.began.set(Some(self.streams.look.get()));
    }

    /// The handle of the connection's side.
    pub fn stream(&self) -> &Rc<Stream> {
        &self.stream
    }
}

impl Drop for LiveStream {
    fn drop(&mut self) {
        let mut places = self.streams.places.borrow_mut();
        if let Some(place) = places.all.get_mut(self.place) {
            *place = None;
            places.free.push(self.place);
        }
    }
}

/// A session that the store is to be asked about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Asked {
    /// Which.
    pub session: SessionId,
    place: usize,
}

impl LiveStreams {
    /// Enters a stream of who is `known`, on `route`. What has ended since `known` was judged is found by the next look.
    pub fn enter(
        self: &Rc<Self>,
        stream: &Rc<Stream>,
        known: &Rc<Verified>,
        route: &Route,
        now: UnixTime,
    ) -> LiveStream {
        let live = Live {
            stream: stream.clone(),
            known: known.clone(),
            on_expiry: route.on_token_expiry,
            observes: route.observes,
            ask_at: now.plus(FIRST_ASKED_AFTER),
        };
        let mut places = self.places.borrow_mut();
        let place = match places.free.pop() {
            Some(place) => {
                places.all[place] = Some(live);
                place
            }
            None => {
                places.all.push(Some(live));
                places.all.len() - 1
            }
        };
        LiveStream { streams: self.clone(), place, stream: stream.clone() }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        let places = self.places.borrow();
        places.all.len() - places.free.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Cuts the streams whose session is over or, where that counts, whose token has expired. `ask` gets the sessions
    /// whose time the store is to be asked about; it is then for [`answered`](Self::answered) to say when to ask again.
    pub fn look_through(&self, revocations: &Revocations, now: UnixTime, mut ask: impl FnMut(Asked)) {
        let look = self.look.get().wrapping_add(1);
        self.look.set(look);
        // Read before the look-up: an end that comes between is found by the next look.
        let epoch = revocations.epoch();
        // Collected first: who is woken may be dropped at once, and leaves its place.
        let (mut over, mut cut) = (Vec::new(), Vec::new());
        let mut places = self.places.borrow_mut();
        for (place, live) in places.all.iter_mut().enumerate() {
            let Some(live) = live else { continue };
            let stream = &live.stream;
            if live.observes {
                if stream.would_end.get().is_none() {
                    stream.would_end.set(live.ended(revocations, epoch, now));
                }
                continue;
            }
            let ended = stream.ended.get();
            if let Some(reason) = ended.or_else(|| live.ended(revocations, epoch, now)) {
                if ended.is_none() {
                    over.push((stream.clone(), reason));
                }
                let settled = stream.began.get().is_some_and(|began| look.wrapping_sub(began) > SETTLED);
                if settled && !stream.cut.get() {
                    cut.push(stream.clone());
                }
            } else if live.ask_at <= now
                && let Some(session) = live.own_session()
            {
                // Not again until the answer is there.
                live.ask_at = UnixTime::from_millis(u64::MAX);
                ask(Asked { session, place });
            }
        }
        drop(places);
        over.iter().for_each(|(stream, reason)| stream.end(*reason));
        cut.iter().for_each(|stream| stream.cut());
    }

    /// The store was asked and has not ended the session, or could not say: it is asked again at `again`.
    pub fn answered(&self, asked: Asked, again: UnixTime) {
        let mut places = self.places.borrow_mut();
        // The place may be another stream's by now: then that one is asked about once more, or not at all too early.
        if let Some(Some(live)) = places.all.get_mut(asked.place)
            && live.own_session() == Some(asked.session)
        {
            live.ask_at = again;
        }
    }
}

impl Live {
    fn ended(&self, revocations: &Revocations, epoch: u64, now: UnixTime) -> Option<Reason> {
        let identity = &self.known.identity;
        if self.known.revocation_epoch.get() != epoch {
            if let Some(ended) = revocations.check(&identity.session, &identity.user, identity.issued_at) {
                return Some(ended.into());
            }
            self.known.revocation_epoch.set(epoch);
        }
        let expired = self.on_expiry == OnTokenExpiry::Close && identity.expires_at.plus(LEEWAY) < now;
        expired.then_some(TokenError::TokenExpired.into())
    }

    fn own_session(&self) -> Option<SessionId> {
        match self.known.identity.session {
            SessionName::Own(id) if self.known.identity.issuer == OWN_ISSUER => Some(id),
            _ => None,
        }
    }
}
