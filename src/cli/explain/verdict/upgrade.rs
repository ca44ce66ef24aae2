//! What becomes of a request's wish to go on in another protocol, such as a WebSocket handshake.

use http::header::{self, HeaderMap, HeaderValue};
use http::request::Parts;
use serde::Serialize;

use super::shown::text;
use crate::config::{Protocol, Upgrades, Upstream};
use crate::gateway::upgrade::{self, Ignored};
use crate::http1::Framing;

#[derive(Debug, Serialize)]
pub(super) struct Upgrade {
    /// As the client wrote it.
    protocol: String,
    passed_on: bool,
    /// Why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
    #[serde(skip)]
    written: Option<HeaderValue>,
}

impl Upgrade {
    /// What a request asks for, if it does; on a route with `allowed` to `upstream`.
    pub(super) fn of(parts: &Parts, framing: Framing, allowed: &Upgrades, upstream: &Upstream) -> Option<Self> {
        let protocol = text(parts.headers.get(header::UPGRADE)?);
        let (written, why) = match upgrade::over_http1(parts, framing, allowed) {
            Ok(Some(_)) if upstream.protocol == Protocol::Http2 => {
                (None, Some(format!("HTTP/2, which upstream {} speaks, has no Upgrade", upstream.name)))
            }
            Ok(written) => (written, None),
            Err(ignored) => (None, Some(why(ignored).to_owned())),
        };
        Some(Self { protocol, passed_on: written.is_some(), why, written })
    }

    /// Writes the two fields of one that is passed on.
    pub(super) fn write(&self, headers: &mut HeaderMap) {
        if let Some(protocol) = &self.written {
            upgrade::write(protocol, headers);
        }
    }

    pub(super) fn human(&self) -> String {
        match &self.why {
            None => format!("upgrade   to {} is passed on\n", self.protocol),
            Some(why) => {
                format!(
                    "upgrade   to {} is not passed on: {why}\n          the request goes on without it\n",
                    self.protocol
                )
            }
        }
    }
}

fn why(ignored: Ignored) -> &'static str {
    match ignored {
        Ignored::NotNamed => "Connection does not name Upgrade",
        Ignored::NotOne => "it is not one protocol",
        Ignored::Http => "it would carry HTTP again, whose headers nobody checks",
        Ignored::NotAllowed => "upgrades of the route do not have it",
        Ignored::NotPossible => "the request has a body",
    }
}
