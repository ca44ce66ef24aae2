//! Interim responses (1xx, RFC 9110 §15.2) on their way from an upstream to a client of HTTP/1.1.
//!
//! hyper's server sends none but 100. It flushes its stream whenever a connection is polled and nothing else is to be
//! written, so the stream writes those that wait here: between the last response and the one they precede.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use http::{HeaderMap, Request, StatusCode, header};

/// Passed on for one request; more are dropped.
const MOST: u8 = 8;

/// Bytes that may wait for one connection: a client that reads nothing gets no more.
const MOST_BYTES: usize = 16 * 1024;

/// The interim responses of one connection. Locked by one thread only, and not at all without any.
#[derive(Debug, Default)]
pub struct Interim {
    waiting: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Counts requests: what an upstream says too late must not reach the next one.
    request: u64,
    /// How many the request may still get; 0 outside of one.
    left: u8,
    heads: Vec<u8>,
    /// Polls the connection, which flushes its stream then.
    waker: Option<Waker>,
}

impl Interim {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets interim responses to `request` pass, as long as what [`Interim::during`] returns is awaited. `clean`
    /// removes the fields that belong to the upstream's connection.
    pub fn pass<B>(self: &Arc<Self>, request: &mut Request<B>, clean: fn(&mut HeaderMap)) {
        let number = {
            let mut state = self.state();
            state.request += 1;
            state.left = MOST;
            state.request
        };
        let interim = self.clone();
        hyper::ext::on_informational(request, move |response| {
            interim.push(number, response.status(), response.headers(), clean);
        });
    }

    /// Awaits the response. Those that wait when it is there are dropped: it must come after them, and they are of no
    /// use any more.
    pub async fn during<F: Future>(&self, response: F) -> F::Output {
        let _closing = Closing(self);
        let mut response = std::pin::pin!(response);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(done) = response.as_mut().poll(cx) {
                return Poll::Ready(done);
            }
            let mut state = self.state();
            if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    fn push(&self, request: u64, status: StatusCode, headers: &HeaderMap, clean: fn(&mut HeaderMap)) {
        // 100 answers our own expectation, if anybody's; 101 nobody asked for here.
        if matches!(status, StatusCode::CONTINUE | StatusCode::SWITCHING_PROTOCOLS) || !status.is_informational() {
            return;
        }
        let mut state = self.state();
        if state.request != request || state.left == 0 || state.heads.len() >= MOST_BYTES {
            return;
        }
        let before = state.heads.len();
        write_head(&mut state.heads, status, headers, clean);
        if state.heads.len() > MOST_BYTES {
            state.heads.truncate(before);
            return;
        }
        state.left -= 1;
        self.waiting.store(true, Relaxed);
        if let Some(waker) = &state.waker {
            waker.wake_by_ref();
        }
    }

    /// What the stream is to write, when hyper has nothing to.
    pub fn take(&self) -> Option<Vec<u8>> {
        if !self.waiting.load(Relaxed) {
            return None;
        }
        self.waiting.store(false, Relaxed);
        Some(std::mem::take(&mut self.state().heads)).filter(|heads| !heads.is_empty())
    }
}

/// Ends the passing, also when the request is given up.
struct Closing<'i>(&'i Interim);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.left, state.waker) = (0, None);
        state.heads.clear();
        self.0.waiting.store(false, Relaxed);
    }
}

/// A head of HTTP/1.1 without framing, which a 1xx has not (RFC 9110 §8.6).
fn write_head(to: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap, clean: fn(&mut HeaderMap)) {
    let mut headers = headers.clone();
    clean(&mut headers);
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRAILER);
    let reason = status.canonical_reason().unwrap_or_default();
    to.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
    for (name, value) in &headers {
        to.extend_from_slice(name.as_str().as_bytes());
        to.extend_from_slice(b": ");
        to.extend_from_slice(value.as_bytes());
        to.extend_from_slice(b"\r\n");
    }
    to.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn hints(link: &str) -> HeaderMap {
        HeaderMap::from_iter([
            (header::LINK, HeaderValue::from_str(link).unwrap()),
            (header::CONNECTION, HeaderValue::from_static("x-internal")),
            (header::CONTENT_LENGTH, HeaderValue::from_static("3")),
        ])
    }

    fn clean(headers: &mut HeaderMap) {
        headers.remove(header::CONNECTION);
    }

    #[test]
    fn heads_wait_only_for_the_request_they_are_of() {
        let interim = Arc::new(Interim::default());
        let push =
            |request, status| interim.push(request, StatusCode::from_u16(status).unwrap(), &hints("</a>"), clean);
        push(0, 103);
        assert_eq!(interim.take(), None, "outside of a request");
        interim.pass(&mut Request::new(()), clean);
        for status in [100, 101, 103, 102] {
            push(1, status);
        }
        let taken = String::from_utf8(interim.take().unwrap()).unwrap();
        assert_eq!(
            taken,
            "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\nlink: </a>\r\n\r\n"
        );
        assert_eq!(interim.take(), None);
        interim.pass(&mut Request::new(()), clean);
        push(1, 103);
        assert_eq!(interim.take(), None, "said too late: of the request before");
        push(2, 103);
        drop(Closing(&interim));
        assert_eq!(interim.take(), None, "the response is there");
        push(2, 103);
        assert_eq!(interim.take(), None, "after it");
    }

    #[test]
    fn their_number_and_size_are_bounded() {
        let interim = Arc::new(Interim::default());
        let mut request = Request::new(());
        interim.pass(&mut request, clean);
        for _ in 0..100 {
            interim.push(1, StatusCode::EARLY_HINTS, &hints("</a>"), clean);
        }
        assert_eq!(interim.take().unwrap().windows(4).filter(|end| end == b"\r\n\r\n").count(), usize::from(MOST));
        interim.pass(&mut request, clean);
        for _ in 0..5 {
            interim.push(2, StatusCode::EARLY_HINTS, &hints(&"x".repeat(6000)), clean);
        }
        assert!((6000..MOST_BYTES).contains(&interim.take().unwrap().len()));
    }
}
