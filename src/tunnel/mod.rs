//! What follows a `101`: bytes in both directions, until either side ends, nothing comes for too long, or the session
//! of whoever opened it is over. A WebSocket is then told why, by a close frame.

mod frames;
mod pipe;

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;

use self::frames::close_frame;
use self::pipe::Pipe;
use crate::live::LiveStream;
use crate::reject::Reason;
use crate::telemetry::access::AccessEntry;
use crate::upstream::Lease;

/// RFC 6455 §7.4.1: the endpoint is going away.
const GOING_AWAY: u16 = 1001;
/// RFC 6455 §7.4.1: the message, or here whoever sends it, violates a policy.
const POLICY_VIOLATION: u16 = 1008;

/// Both sides have agreed: their connections must be there at once.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(10);
/// Once one side of a WebSocket has ended, so long for the other.
const LINGER: Duration = Duration::from_secs(5);
/// For the end of the frame that has begun, before a close frame.
const FRAME_ENDS_WITHIN: Duration = Duration::from_millis(300);
/// For the client to answer a close frame and close.
const CLOSE_ANSWERED_WITHIN: Duration = Duration::from_secs(1);

/// A connection of a client and one of a server that speak a protocol of their own from now on.
#[derive(Debug)]
pub struct Ends {
    /// The client's side.
    pub client: OnUpgrade,
    /// The server's.
    pub server: OnUpgrade,
    /// The server's connection counts until the end.
    pub lease: Lease,
    /// What they speak is WebSocket.
    pub is_websocket: bool,
    /// How long neither side may send anything.
    pub idle_timeout: Duration,
    /// Its place among the open streams, when it has an identity.
    pub live: Option<LiveStream>,
}

/// What is between them, and the log entry that is written at its end.
#[derive(Debug)]
pub struct Tunnel {
    ends: Ends,
    entry: Box<AccessEntry>,
}

/// Why a tunnel ends before both sides have ended it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Cut {
    /// The session is over.
    Session(Reason),
    /// Nothing came for too long.
    Idle,
    /// The gateway stops.
    Stopping,
}

impl Cut {
    fn close(self) -> (u16, &'static str) {
        match self {
            Self::Session(reason) => (POLICY_VIOLATION, reason.as_str()),
            Self::Idle => (GOING_AWAY, "idle"),
            Self::Stopping => (GOING_AWAY, "gateway stopping"),
        }
    }
}

impl Tunnel {
    /// Between `ends`.
    pub fn new(ends: Ends, entry: Box<AccessEntry>) -> Self {
        Self { ends, entry }
    }

    /// Passes bytes on until the end of it. `stopping` turns true when the gateway stops: a WebSocket is closed then (its
    /// client connects again, to another gateway); anything else has until the drain deadline.
    /// `handed` is told how many pieces went to the client.
    pub async fn run(self, mut stopping: watch::Receiver<bool>, handed: impl Fn(u32)) {
        let Self { ends: Ends { client, server, lease, is_websocket, idle_timeout, live }, mut entry } = self;
        let both = async { tokio::try_join!(client, server) };
        let Ok(Ok((client, server))) = tokio::time::timeout(HANDED_OVER_WITHIN, both).await else {
            entry.reason = Some(Reason::ClientGone);
            return;
        };
        let mut sides = Sides {
            client: TokioIo::new(client),
            server: TokioIo::new(server),
            to_client: Pipe::new(is_websocket),
            to_server: Pipe::new(is_websocket),
        };
        let cut = tokio::select! {
            biased;
            reason = session_over(live.as_ref()) => Some(Cut::Session(reason)),
            idle = sides.pass(is_websocket, idle_timeout, &handed) => idle.then_some(Cut::Idle),
            () = stopped(&mut stopping), if is_websocket => Some(Cut::Stopping),
        };
        if let Some(cut) = cut
            && is_websocket
        {
            sides.say_close(cut).await;
        }
        entry.sent = sides.to_client.passed;
        if let Some(live) = &live {
            entry.note_end(live.stream());
        }
        drop((live, lease));
    }
}

/// Ready when the session is over; never without one.
async fn session_over(live: Option<&LiveStream>) -> Reason {
    match live {
        Some(live) => poll_fn(|cx| live.stream().poll_cut(cx)).await,
        None => std::future::pending().await,
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    // An error means that the sender is gone, with the gateway.
    drop(stopping.wait_for(|stop| *stop).await);
}

/// Both connections, and what is on its way between them.
struct Sides {
    client: TokioIo<Upgraded>,
    server: TokioIo<Upgraded>,
    to_client: Pipe,
    to_server: Pipe,
}

impl Sides {
    /// Passes bytes on until both sides have ended or one broke; `true` when nothing came for too long.
    async fn pass(&mut self, is_websocket: bool, idle_timeout: Duration, handed: &impl Fn(u32)) -> bool {
        let mut last = Instant::now();
        let mut alarm = pin!(tokio::time::sleep(idle_timeout));
        poll_fn(|cx| {
            let before = self.to_client.passed + self.to_server.passed;
            if self.poll_pass(cx).is_ready() {
                return Poll::Ready(false);
            }
            handed(std::mem::take(&mut self.to_client.pieces));
            if self.to_client.passed + self.to_server.passed != before {
                last = Instant::now();
            }
            // A WebSocket is closed by both sides at about the same time; of other protocols either side may be silent.
            let half = is_websocket && (self.to_client.is_done() || self.to_server.is_done());
            let limit = if half { idle_timeout.min(LINGER) } else { idle_timeout };
            loop {
                let deadline = tokio::time::Instant::from_std(last + limit);
                if alarm.deadline() > deadline || alarm.is_elapsed() {
                    alarm.as_mut().reset(deadline);
                }
                std::task::ready!(alarm.as_mut().poll(cx));
                if alarm.deadline() >= deadline {
                    // The other side of one that has ended is only cleared away.
                    return Poll::Ready(!half);
                }
            }
        })
        .await
    }

    /// Ready when both directions are done, or one broke: then the other has nobody to send to.
    fn poll_pass(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let (client, server) = (Pin::new(&mut self.client), Pin::new(&mut self.server));
        let down = self.to_client.poll(cx, server, client);
        let (client, server) = (Pin::new(&mut self.client), Pin::new(&mut self.server));
        let up = self.to_server.poll(cx, client, server);
        match (down, up) {
            (Poll::Ready(Err(_)), _) | (_, Poll::Ready(Err(_))) => Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    }

    /// Tells both sides of a WebSocket that it is over, as far as their frames let us, and gives the client a moment to
    /// answer: were its connection closed with unread bytes in it, the system would reset it, and take the close frame
    /// back that is still under way.
    async fn say_close(&mut self, cut: Cut) {
        let (code, reason) = cut.close();
        if self.to_server.is_between_frames() {
            let mut mask = [0; 4];
            // Without randomness the mask is all zeros, which is a mask, too: the frame holds nothing of anybody's choice.
            let _ = aws_lc_rs::rand::fill(&mut mask);
            let frame = close_frame(code, reason, Some(mask));
            let told = async {
                self.server.write_all(&frame).await?;
                self.server.flush().await
            };
            // It sees its connection end in any case.
            drop(tokio::time::timeout(FRAME_ENDS_WITHIN, told).await);
        }
        let Self { client, server, to_client, .. } = self;
        let frame_ends = poll_fn(|cx| to_client.poll_finish_frame(cx, Pin::new(&mut *server), Pin::new(&mut *client)));
        if !matches!(tokio::time::timeout(FRAME_ENDS_WITHIN, frame_ends).await, Ok(Ok(()))) || to_client.is_done() {
            return;
        }
        let frame = close_frame(code, reason, None);
        let goodbye = async {
            client.write_all(&frame).await?;
            client.shutdown().await?;
            let mut scratch = [0; 1024];
            while client.read(&mut scratch).await? > 0 {}
            Ok::<_, std::io::Error>(())
        };
        // Whether it answers or not, it is over.
        drop(tokio::time::timeout(CLOSE_ANSWERED_WITHIN, goodbye).await);
    }
}
