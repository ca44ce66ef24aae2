//! Which header fields cross the gateway, and what it writes itself.
//!
//! The rules work on names and bytes, so that every carrier of a request (HTTP/1.1, HTTP/2) obeys the same ones. The
//! order is part of them: what `Connection` names goes first, then what a client may not say, and the identity is written
//! last, so that nothing a client sends can remove or precede it.

pub mod answer;
mod client;
pub mod cors;
mod rules;

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

pub use self::client::client_address;
use crate::config::HeaderRules;
use crate::interim::Interim;
use crate::token::Identity;

/// `X-Forwarded-For`
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Proto`
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Host`
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `X-Forwarded-Prefix`: what was cut off the front of the path.
pub const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
/// `X-Request-Id`
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// `traceparent` (W3C Trace Context)
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Our name in `Via` (RFC 9110 §7.6.3: a pseudonym is allowed).
static VIA: HeaderValue = HeaderValue::from_static("1.1 portcullis");
static VIA_HTTP2: HeaderValue = HeaderValue::from_static("2 portcullis");

static HTTP: HeaderValue = HeaderValue::from_static("http");
static HTTPS: HeaderValue = HeaderValue::from_static("https");

/// `Cache-Control` of what is one user's alone.
pub static PRIVATE: HeaderValue = HeaderValue::from_static("private");

/// What becomes of a client's field.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// Reaches the upstream.
    Keep,
    /// Never reaches it.
    Drop,
    /// Reaches it from a trusted proxy only.
    KeepFromProxy,
    /// Reaches it when the route forwards tokens.
    Authorization,
    /// Reaches it unless the route is restricted to some methods.
    MethodOverride,
}

/// The configured part of the rules.
#[derive(Clone, Debug)]
pub struct HeaderPolicy {
    user: HeaderName,
    session: HeaderName,
    strip: Vec<HeaderName>,
}

impl HeaderPolicy {
    /// `user` and `session` are written by us; `strip` are more names no client may send.
    pub fn new(user: HeaderName, session: HeaderName, strip: Vec<HeaderName>) -> Self {
        Self { user, session, strip }
    }

    /// What becomes of a field of this name (in lower case).
    pub fn fate(&self, name: &str) -> Fate {
        // Backends fold `_`, `.` and more to `-` (CGI, WSGI, PHP): `X_User_Id` would arrive as `X-User-Id`.
        if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Fate::Drop;
        }
        if self.is_identity(name) {
            return Fate::Drop;
        }
        match name {
            // Hop by hop (RFC 9110 §7.6.1) and framing, which we decide (RFC 9112 §6).
            "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "proxy-authorization"
            | "te"
            | "trailer"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
            | "content-length" => Fate::Drop,
            // Answered here: the body is asked for when the upstream takes it.
            "expect" => Fate::Drop,
            // CGI turns `Proxy` into HTTP_PROXY, which HTTP clients inside the backend obey.
            "proxy" => Fate::Drop,
            // Said by whoever saw the client; nobody but us did.
            "forwarded" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host" => Fate::KeepFromProxy,
            "x-real-ip" | "x-client-ip" | "x-cluster-client-ip" | "true-client-ip" | "client-ip" => Fate::Drop,
            "authorization" => Fate::Authorization,
            // A backend that honours one acts on another method than the one that was judged. Clients behind some firewalls
            // need them, and where a route takes every method nothing is gained: only a route for some methods loses them.
            // What stands in a query or a body (`_method`) is not the gateway's to read.
            "x-http-method-override" | "x-http-method" | "x-method-override" => Fate::MethodOverride,
            _ if name.starts_with("x-") => fate_of_extension(name),
            // The address as edges in front of us say it: backends believe it without a look at who asks.
            _ if name.ends_with("-ip") && EDGES.contains(&name) => Fate::KeepFromProxy,
            _ => Fate::Keep,
        }
    }

    fn is_identity(&self, name: &str) -> bool {
        self.user == name || self.session == name || self.strip.iter().any(|strip| strip == name)
    }

    /// Whether a trailer field of this name may pass (RFC 9110 §6.5.1: never framing, routing, authentication).
    pub fn trailer_may_pass(&self, name: &str) -> bool {
        self.fate(name) == Fate::Keep
            && !matches!(name, "host" | "cookie" | "set-cookie" | "via" | "content-type" | "content-encoding")
    }
}

/// Who the client is, in the words of edges and of servers in front of others.
const EDGES: [&str; 5] =
    ["cf-connecting-ip", "fastly-client-ip", "fly-client-ip", "wl-proxy-client-ip", "proxy-client-ip"];

/// What becomes of a field whose name begins with `x-` and that is none of the usual ones.
fn fate_of_extension(name: &str) -> Fate {
    // Said by a proxy of what it did to the request: there was none, or it is behind us. `x-sendfile-type` and
    // `x-accel-mapping` tell a backend which of its files a server in front will send.
    const PROXIES: [&str; 5] = ["x-forwarded-", "x-original-", "x-rewrite-", "x-accel-", "x-sendfile"];
    match name {
        _ if PROXIES.iter().any(|prefix| name.starts_with(prefix)) => Fate::Drop,
        // Another host than the one that was judged.
        "x-host" | "x-http-host-override" => Fate::Drop,
        // To a framework: this request passed your middleware already (CVE-2025-29927).
        "x-middleware-subrequest" => Fate::Drop,
        "x-azure-clientip" | "x-azure-socketip" | "x-proxyuser-ip" => Fate::KeepFromProxy,
        // Envoy takes orders on paths, retries and deadlines from whoever has an internal address, as we have.
        _ if name.starts_with("x-envoy-") => Fate::KeepFromProxy,
        _ => Fate::Keep,
    }
}

/// What is known of the client's side of a connection; made once for each.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The other end of the socket.
    pub address: IpAddr,
    /// Whether it is one of `trusted_proxies`.
    pub trusted: bool,
    /// Whether the connection is encrypted.
    pub tls: bool,
    /// Where its listener sends every request: to `https` at this port.
    pub https_port: Option<NonZeroU16>,
    /// Interim responses that wait to be sent on it.
    pub interim: Arc<Interim>,
    forwarded_for: HeaderValue,
    forwarded: HeaderValue,
}

impl Peer {
    /// `address` with an IPv4 client on an IPv6 socket already turned into IPv4.
    pub fn new(address: IpAddr, trusted: bool, tls: bool) -> Self {
        let text = address.to_string();
        let proto = if tls { "https" } else { "http" };
        // RFC 7239 §6: an IPv6 address is bracketed and quoted.
        let node = if address.is_ipv6() { format!("\"[{text}]\"") } else { text.clone() };
        Self {
            address,
            trusted,
            tls,
            https_port: None,
            interim: Arc::default(),
            forwarded_for: ascii(&text),
            forwarded: ascii(&format!("for={node};proto={proto}")),
        }
    }

    /// `https` or `http`
    pub fn scheme(&self) -> &'static str {
        if self.tls { "https" } else { "http" }
    }
}

#[expect(clippy::expect_used, reason = "only called with the digits, dots, colons and words of an address")]
fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("an address is visible ASCII")
}

/// What a request asks of its header besides the configured rules.
#[derive(Clone, Copy, Debug)]
pub struct Forwarding<'a> {
    /// The client's side.
    pub peer: &'a Peer,
    /// `Authorization` stays.
    pub forward_token: bool,
    /// Method overrides go.
    pub restricts_methods: bool,
    /// The request came over HTTP/2.
    pub http2: bool,
    /// What was cut off the front of the path.
    pub stripped: Option<&'a HeaderValue>,
    /// What the route changes.
    pub rules: &'a HeaderRules,
    /// Who is calling, when that is known.
    pub identity: Option<&'a Identity>,
}

/// Fields that are added to most requests, the request's names among them.
const ADDED: usize = 10;

/// Turns the header of a client's request into the one the upstream gets, but for `Host`, which is the carrier's to set.
///
/// Identity is written last.
pub fn to_upstream(headers: &mut HeaderMap, policy: &HeaderPolicy, host: &HeaderValue, forwarding: &Forwarding<'_>) {
    let peer = forwarding.peer;
    let trailers = TrailerTerms::read(headers, policy);
    remove_connection_tokens(headers);
    // Grown once for all that is written below.
    headers.reserve(ADDED);
    let mut gone: SmallVec<[HeaderName; 8]> = SmallVec::new();
    for name in headers.keys() {
        let keep = match policy.fate(name.as_str()) {
            Fate::Keep => true,
            Fate::Drop => false,
            Fate::KeepFromProxy => peer.trusted,
            Fate::Authorization => forwarding.forward_token,
            Fate::MethodOverride => !forwarding.restricts_methods,
        };
        if !keep {
            gone.push(name.clone());
        }
    }
    for name in gone {
        // `remove` takes every value of the name.
        headers.remove(name);
    }

    if forwarding.http2 {
        join_cookies(headers);
    }
    if peer.trusted {
        append_forwarding(headers, host, peer);
    }
    say_forwarding(forwarding, |name, said| {
        let value = if let Said::Value(value) = said { value.clone() } else { host.clone() };
        // Who passed it on before stays named (RFC 9110 §7.6.3).
        if *name == header::VIA {
            headers.append(name, value);
        } else {
            headers.insert(name, value);
        }
    });
    trailers.write(headers);
    forwarding.rules.apply(headers);
    // Behind everything that a client, a proxy or a route could write or remove.
    say_identity(policy, forwarding, |name, said| {
        if let Said::Value(value) = said {
            headers.insert(name, value.clone());
        }
    });
}

/// The value of a field that we write.
#[derive(Clone, Copy, Debug)]
pub enum Said<'a> {
    /// This.
    Value(&'a HeaderValue),
    /// The host of the request.
    Host,
}

/// Says how a request came here, to whoever carries it on: `Via` beside those of others, the rest in place of anything
/// that a client wrote. A trusted proxy has said the rest itself.
pub fn say_forwarding(forwarding: &Forwarding<'_>, mut say: impl FnMut(&HeaderName, Said<'_>)) {
    let peer = forwarding.peer;
    say(&header::VIA, Said::Value(if forwarding.http2 { &VIA_HTTP2 } else { &VIA }));
    if !peer.trusted {
        say(&X_FORWARDED_FOR, Said::Value(&peer.forwarded_for));
        say(&X_FORWARDED_PROTO, Said::Value(if peer.tls { &HTTPS } else { &HTTP }));
        say(&X_FORWARDED_HOST, Said::Host);
        say(&header::FORWARDED, Said::Value(&peer.forwarded));
    }
    if let Some(stripped) = forwarding.stripped {
        say(&X_FORWARDED_PREFIX, Said::Value(stripped));
    }
}

/// Says who is calling: behind everything else, so that nothing can precede or remove it.
pub fn say_identity(policy: &HeaderPolicy, forwarding: &Forwarding<'_>, mut say: impl FnMut(&HeaderName, Said<'_>)) {
    if let Some(identity) = forwarding.identity {
        say(&policy.user, Said::Value(&identity.user_header));
        say(&policy.session, Said::Value(&identity.session_header));
    }
}

/// What the two ends said of trailers (RFC 9110 §6.6.2, §10.1.4): hop-by-hop, so said anew to the upstream.
struct TrailerTerms {
    /// The client takes trailers in the response.
    accepted: bool,
    /// The names it will send that may pass.
    announced: Option<HeaderValue>,
}

impl TrailerTerms {
    fn read(headers: &HeaderMap, policy: &HeaderPolicy) -> Self {
        let is_trailers = |token: &[u8]| token.trim_ascii().eq_ignore_ascii_case(b"trailers");
        let accepted =
            headers.get_all(header::TE).iter().any(|te| te.as_bytes().split(|b| *b == b',').any(is_trailers));
        let names: Vec<&str> = headers
            .get_all(header::TRAILER)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .map(str::trim)
            .filter(|name| policy.trailer_may_pass(&name.to_ascii_lowercase()))
            .collect();
        let announced = if names.is_empty() { None } else { HeaderValue::from_str(&names.join(", ")).ok() };
        Self { accepted, announced }
    }

    fn write(self, headers: &mut HeaderMap) {
        if self.accepted {
            headers.insert(header::TE, HeaderValue::from_static("trailers"));
            headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
        }
        if let Some(announced) = self.announced {
            headers.insert(header::TRAILER, announced);
        }
    }
}

/// Behind a trusted proxy: its list goes on with its own address, its word on scheme and host stands.
fn append_forwarding(headers: &mut HeaderMap, host: &HeaderValue, peer: &Peer) {
    let chain = match joined(headers, &X_FORWARDED_FOR, b", ") {
        Some(before) => HeaderValue::from_bytes(&[&before[..], b", ", peer.forwarded_for.as_bytes()].concat()).ok(),
        None => None,
    };
    headers.insert(X_FORWARDED_FOR, chain.unwrap_or_else(|| peer.forwarded_for.clone()));
    if headers.get_all(&X_FORWARDED_PROTO).iter().count() != 1 {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(peer.scheme()));
    }
    if headers.get_all(&X_FORWARDED_HOST).iter().count() != 1 {
        headers.insert(X_FORWARDED_HOST, host.clone());
    }
    headers.append(header::FORWARDED, peer.forwarded.clone());
}

/// A cookie in pieces becomes one field, as HTTP/1.1 has it (RFC 9113 §8.2.3): a backend may read only the first.
fn join_cookies(headers: &mut HeaderMap) {
    if headers.get_all(header::COOKIE).iter().nth(1).is_some()
        && let Some(all) = joined(headers, &header::COOKIE, b"; ")
        && let Ok(cookie) = HeaderValue::from_bytes(&all)
    {
        headers.insert(header::COOKIE, cookie);
    }
}

/// All values of a field as one: with a comma in between for a list (RFC 9110 §5.3).
fn joined(headers: &HeaderMap, name: &HeaderName, between: &[u8]) -> Option<Vec<u8>> {
    let mut values = headers.get_all(name).iter();
    let mut all = values.next()?.as_bytes().to_vec();
    for value in values {
        all.extend_from_slice(between);
        all.extend_from_slice(value.as_bytes());
    }
    Some(all)
}

/// Removes what `Connection` names (RFC 9110 §7.6.1), for this hop only.
///
/// `Host` and the framing are ours to decide and stay; a name that is none is ignored.
pub fn remove_connection_tokens(headers: &mut HeaderMap) {
    // The common values name nothing.
    let plain = |value: &HeaderValue| {
        value.as_bytes().eq_ignore_ascii_case(b"keep-alive") || value.as_bytes().eq_ignore_ascii_case(b"close")
    };
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter(|value| !plain(value))
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok())
        .filter(|name| *name != header::HOST && *name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING)
        .collect();
    for name in named {
        headers.remove(name);
    }
}

/// Whether `Connection` names the field, which then does not reach the upstream.
pub fn is_for_this_hop(headers: &HeaderMap, name: &HeaderName) -> bool {
    let tokens = headers.get_all(header::CONNECTION).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    tokens.map(<[u8]>::trim_ascii).any(|token| token.eq_ignore_ascii_case(name.as_str().as_bytes()))
}

/// A response whose framing two readers could take differently.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AmbiguousFraming;

/// Leaves a response one framing: `chunked`, or one `Content-Length` in its canonical form.
///
/// # Errors
/// Both, lengths that differ, or a coding that is not taken off here: the client would get something else than was meant
/// (RFC 9112 §6.1, §6.3).
pub fn settle_framing(headers: &mut HeaderMap) -> Result<(), AmbiguousFraming> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => {}
        (Some(coding), None)
            if coding.as_bytes().trim_ascii().eq_ignore_ascii_case(b"chunked")
                && !headers.contains_key(header::CONTENT_LENGTH) => {}
        _ => return Err(AmbiguousFraming),
    }
    let mut lengths = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(first) = lengths.next() else { return Ok(()) };
    let is_canonical = |text: &[u8]| text == b"0" || text.first() != Some(&b'0') && text.iter().all(u8::is_ascii_digit);
    if lengths.next().is_none() && is_canonical(first.as_bytes()) && !first.is_empty() {
        return Ok(());
    }
    let mut said = headers
        .get_all(header::CONTENT_LENGTH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|b| *b == b','))
        .map(|text| std::str::from_utf8(text.trim_ascii()).ok()?.parse::<u64>().ok());
    let Some(Some(length)) = said.next() else { return Err(AmbiguousFraming) };
    if !said.all(|other| other == Some(length)) {
        return Err(AmbiguousFraming);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    Ok(())
}

/// Whether a field of an upstream's response with this name (in lower case) reaches the client: hop-by-hop fields do not
/// (RFC 9110 §7.6.1).
pub fn response_field_may_pass(name: &str) -> bool {
    !matches!(
        name,
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authenticate"
            | "transfer-encoding"
            | "upgrade"
            | "te"
    )
}

/// Turns the header of an upstream's response into the one the client gets: hop-by-hop fields go.
///
/// `Content-Length` stays: the carrier checks the body against it. So does `Trailer`: the carrier sends the trailers it
/// names.
pub fn to_client(headers: &mut HeaderMap) {
    remove_connection_tokens(headers);
    // One look at each name: most responses have none of these, and a look-up for each would cost more.
    let gone: SmallVec<[HeaderName; 4]> =
        headers.keys().filter(|name| !response_field_may_pass(name.as_str())).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

/// Turns the trailers of an upstream's response into those the client gets: none that would say anew how the response is
/// framed, what its content is, who may keep it or who its client is (RFC 9110 §6.5.1). Whoever merges trailers into the
/// header would believe them.
///
/// `grpc-status` and its kind stay.
pub fn trailers_to_client(trailers: &mut HeaderMap) {
    to_client(trailers);
    for name in [
        header::CONTENT_LENGTH,
        header::TRAILER,
        header::HOST,
        header::CONTENT_TYPE,
        header::CONTENT_ENCODING,
        header::CONTENT_RANGE,
        header::CACHE_CONTROL,
        header::SET_COOKIE,
        header::WWW_AUTHENTICATE,
        header::LOCATION,
    ] {
        trailers.remove(name);
    }
}

/// Marks an answer to a request with an identity as this user's alone, when nothing is said of who may keep it: a
/// shared cache in front of the gateway would give it to the next one who asks (RFC 9111 §5.2.2.7).
pub fn keep_private(headers: &mut HeaderMap) {
    if !headers.contains_key(header::EXPIRES) {
        headers.entry(header::CACHE_CONTROL).or_insert_with(|| PRIVATE.clone());
    }
}

#[cfg(test)]
mod tests;
