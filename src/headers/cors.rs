//! The CORS protocol (Fetch standard §3.2): what pages of other origins may do, and how that is said.
//!
//! It keeps nobody from calling: it tells a browser which pages may read the answer. Who may call, tokens say.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use http::{Method, Response, StatusCode};

use bytes::Bytes;

use crate::config::{Cors, OriginPattern};

/// What a table `cors` says, ready to be written.
#[derive(Debug)]
pub struct CorsPolicy {
    origins: Vec<OriginPattern>,
    /// Of the answer to a preflight.
    methods: HeaderValue,
    headers: Option<HeaderValue>,
    max_age: HeaderValue,
    /// Of every answer.
    expose: Option<HeaderValue>,
    credentials: bool,
}

/// A question of a browser before the request itself: `OPTIONS` with the origin of the page and the method it means to
/// use. It never carries a token.
#[derive(Debug)]
pub struct Preflight {
    /// `Access-Control-Request-Method`
    pub method: Method,
}

impl Preflight {
    /// What `request` asks, if it is a preflight.
    pub fn of(request: &Parts) -> Option<Self> {
        if request.method != Method::OPTIONS || !request.headers.contains_key(header::ORIGIN) {
            return None;
        }
        let mut methods = request.headers.get_all(header::ACCESS_CONTROL_REQUEST_METHOD).iter();
        match (methods.next(), methods.next()) {
            (Some(method), None) => Method::from_bytes(method.as_bytes()).ok().map(|method| Self { method }),
            _ => None,
        }
    }
}

/// What an answer to a page says of who may read it.
#[derive(Clone, Debug)]
pub struct Grant {
    /// The page's origin, or `*`; `None` when it may not.
    origin: Option<HeaderValue>,
    expose: Option<HeaderValue>,
    credentials: bool,
}

impl CorsPolicy {
    /// From a checked table.
    pub fn new(cors: &Cors) -> Self {
        Self {
            origins: cors.origins.clone(),
            methods: list(cors.methods.iter().map(Method::as_str)).unwrap_or(HeaderValue::from_static("")),
            headers: list(cors.headers.iter().map(HeaderName::as_str)),
            expose: list(cors.expose.iter().map(HeaderName::as_str)),
            credentials: cors.credentials,
            max_age: HeaderValue::from(cors.max_age.as_secs()),
        }
    }

    /// What the answer to a request with this header says.
    pub fn grant(&self, request: &HeaderMap) -> Grant {
        Grant { origin: self.allowed(request), expose: self.expose.clone(), credentials: self.credentials }
    }

    fn allowed(&self, request: &HeaderMap) -> Option<HeaderValue> {
        if self.origins.is_empty() {
            return Some(HeaderValue::from_static("*"));
        }
        let mut origins = request.get_all(header::ORIGIN).iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else { return None };
        let text = origin.to_str().ok()?;
        self.origins.iter().any(|pattern| pattern.matches(text)).then(|| origin.clone())
    }

    /// The answer to a preflight, but for what [`Grant`] says; `None` when the page may not call at all.
    pub fn answer(&self, request: &HeaderMap) -> Option<Response<Bytes>> {
        self.allowed(request)?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, self.methods.clone());
        if let Some(allowed) = &self.headers {
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed.clone());
        }
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, self.max_age.clone());
        let asked = "Access-Control-Request-Method, Access-Control-Request-Headers";
        headers.insert(header::VARY, HeaderValue::from_static(asked));
        Some(response)
    }
}

impl Grant {
    /// Writes it over whatever an upstream says of the same: two answers to one question would be none to a browser.
    ///
    /// `preflight` tells whether the header is that of an answer of ours to one, whose own fields stay.
    pub fn write(self, headers: &mut HeaderMap, preflight: bool) {
        if !preflight {
            let is_cors = |name: &&HeaderName| name.as_str().starts_with("access-control-");
            let said: Vec<HeaderName> = headers.keys().filter(is_cors).cloned().collect();
            for name in said {
                headers.remove(name);
            }
        }
        // Also when it may not: a cache must not give this answer to a page of another origin.
        if !varies_by_origin(headers) {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = self.origin else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if self.credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if let Some(expose) = self.expose.filter(|_| !preflight) {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, expose);
        }
    }
}

fn varies_by_origin(headers: &HeaderMap) -> bool {
    let names = headers.get_all(header::VARY).iter().flat_map(|value| value.as_bytes().split(|b| *b == b','));
    names.map(<[u8]>::trim_ascii).any(|name| name == b"*" || name.eq_ignore_ascii_case(b"origin"))
}

fn list<'n>(names: impl Iterator<Item = &'n str>) -> Option<HeaderValue> {
    let names = names.collect::<Vec<_>>();
    if names.is_empty() { None } else { HeaderValue::from_str(&names.join(", ")).ok() }
}
