//! How an answer is given: what the client's version, method and expectation ask of it, and what it tells besides.

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode, Version};
use http_body::Body;

use crate::body::ResponseBody;
use crate::reject::Reason;
use crate::telemetry::access::AccessEntry;

/// What is kept of a request until its answer is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// The answer has no body.
    pub(super) is_head: bool,
    /// The client holds its body back until it is asked for (RFC 9110 §10.1.1). When it is answered instead, nobody
    /// knows whether the body still comes, and nothing of it may be read as a request: the connection ends, and says
    /// so.
    pub(super) awaits_continue: bool,
    is_http10: bool,
    is_http2: bool,
}

impl Manner {
    /// Of a request; its header is looked into only when there is a body.
    pub(super) fn of(parts: &Parts, body: &impl Body) -> Self {
        Self {
            is_head: parts.method == Method::HEAD,
            awaits_continue: parts.version == Version::HTTP_11
                && !body.is_end_stream()
                && parts.headers.contains_key(header::EXPECT),
            is_http10: parts.version == Version::HTTP_10,
            is_http2: parts.version == Version::HTTP_2,
        }
    }

    /// An upstream's answer as the client's version can take it.
    ///
    /// HTTP/1.0 has no chunks: a body of unknown length ends with the connection, which then must not be announced to
    /// stay open, whatever the client asked for.
    pub(super) fn fit<B: Body>(&self, mut response: Response<B>) -> Response<B> {
        if self.is_http10 && response.body().size_hint().exact().is_none() {
            *response.version_mut() = Version::HTTP_10;
        }
        response
    }
}

/// Writes what was found out on the way and belongs into any answer.
pub(super) fn tell(headers: &mut HeaderMap, entry: &mut AccessEntry) {
    if let Some(fields) = entry.answer_fields.take() {
        fields.write(headers);
    }
}

/// An answer of ours; to `HEAD` with the length but without the body (RFC 9110 §9.3.2).
pub(super) fn own(
    mut response: Response<Bytes>,
    manner: &Manner,
    mut entry: Box<AccessEntry>,
) -> Response<ResponseBody> {
    tell(response.headers_mut(), &mut entry);
    // RFC 9110 §8.6: a 204 has no length to tell, and a 304 would tell that of another answer.
    if manner.is_head && !matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED) {
        let length = HeaderValue::from(response.body().len());
        response.headers_mut().insert(header::CONTENT_LENGTH, length);
        *response.body_mut() = Bytes::new();
    }
    // Where the next request would begin is not known, or not reached: the connection ends, and says so (RFC 9112 §9.6).
    let is_lost = matches!(entry.reason, Some(Reason::BodyBroken | Reason::BodyTimeout | Reason::BodyTooLarge));
    if manner.awaits_continue || (is_lost && !manner.is_http2) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response.map(|bytes| ResponseBody::full(bytes, Some(entry)))
}
