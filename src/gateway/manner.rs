//! What the client's version, method and expectation ask of any answer.

use http::header;
use http::request::Parts;
use http::{Method, Response, Version};
use http_body::Body;

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
