//! `route.cors` and `auth.cors`: which pages of other origins may call, and what their scripts may see.

use std::fmt;
use std::time::Duration;

use http::{HeaderName, Method, header};

use crate::config::names;
use crate::config::reader::{Table, Value};
use crate::config::shape::Shape;

/// The answers to questions of the Fetch standard's CORS protocol.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Cors {
    /// `origins`: at least one; empty is `["*"]`, all.
    pub origins: Vec<OriginPattern>,
    /// `methods` that a page may use; by default those of the route, or all common ones.
    pub methods: Vec<Method>,
    /// `headers` that a page may send, `Authorization` and `Content-Type` by default.
    pub headers: Vec<HeaderName>,
    /// `expose`: response fields that a page may read besides the few that it always may.
    pub expose: Vec<HeaderName>,
    /// `credentials`: whether cookies and TLS client certificates go with the request, `false` by default. A token in
    /// `Authorization` needs it not.
    pub credentials: bool,
    /// `max_age` of the answer to a preflight, 1 h by default; 1 s to 24 h.
    pub max_age: Duration,
}

/// An origin that may call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum OriginPattern {
    /// `"null"`: pages without an origin of their own, such as files and sandboxed frames.
    Null,
    /// This one, as browsers write it: in lower case, without the scheme's default port.
    Exact(String),
    /// `https://*.example.com`: every name below the domain, at any depth, but not the domain itself.
    Below {
        /// With `://`.
        scheme: String,
        /// What the host and port end with, with the dot in front: `.example.com`, `.example.com:8443`.
        end: String,
    },
}

impl OriginPattern {
    /// Whether it stands for `origin`, which is compared byte for byte: browsers write each in one way.
    pub fn matches(&self, origin: &str) -> bool {
        match self {
            Self::Null => origin == "null",
            Self::Exact(exact) => origin == exact,
            Self::Below { scheme, end } => {
                let below = origin.strip_prefix(scheme.as_str()).and_then(|rest| rest.strip_suffix(end.as_str()));
                // Anything but letters of a name would be another host that only ends alike.
                below.is_some_and(|below| {
                    let named = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.');
                    below.bytes().all(named) && below.split('.').all(|label| !label.is_empty())
                })
            }
        }
    }
}

/// As the file writes it.
impl fmt::Display for OriginPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Exact(origin) => f.write_str(origin),
            Self::Below { scheme, end } => write!(f, "{scheme}*{end}"),
        }
    }
}

/// Browsers keep an answer no longer than that.
const LONGEST_MAX_AGE: Duration = Duration::from_secs(24 * 3600);

/// Spares a request for each call of a page, and a change of the file is seen everywhere after that time.
const DEFAULT_MAX_AGE: Duration = Duration::from_secs(3600);

/// Reads the table `cors` in `parent`; `methods` are those it allows unless it says otherwise.
pub(in crate::config) fn cors(parent: &Table<'_>, shape: &'static Shape, methods: Vec<Method>) -> Option<Cors> {
    let table = parent.inner("cors", shape);
    if !table.is_present() {
        return None;
    }
    let credentials = table.get("credentials");
    let origins = table.require("origins", "origins such as [\"https://app.example.com\"], or [\"*\"]");
    let is_any = origins.as_ref().is_some_and(|value| matches!(value.peek().as_slice(), [one] if one.is_word("*")));
    let with_credentials = credentials.as_ref().and_then(Value::flag).unwrap_or(false);
    if let Some(credentials) = credentials.filter(|_| with_credentials && is_any) {
        // Every page of the web could then act as its visitor, and browsers refuse it, too.
        credentials.report("is true beside origins [\"*\"], expected the origins by name");
    }
    let names_of = |key: &'static str, default: Vec<HeaderName>| match table.get(key) {
        Some(value) => value.each(value.items("names of headers"), |item| {
            item.parsed("the name of a header", |text| match text {
                "*" => Err(String::from("never stands for Authorization: name each header")),
                _ => names::header(text),
            })
        }),
        None => default,
    };
    Some(Cors {
        origins: origins.filter(|_| !is_any).map(|value| self::origins(&value)).unwrap_or_default(),
        methods: table.get("methods").map(|value| super::methods(&value)).unwrap_or(methods),
        headers: names_of("headers", vec![header::AUTHORIZATION, header::CONTENT_TYPE]),
        expose: names_of("expose", Vec::new()),
        credentials: with_credentials,
        max_age: table
            .get("max_age")
            .and_then(|value| value.duration_within(Duration::from_secs(1)..=LONGEST_MAX_AGE))
            .unwrap_or(DEFAULT_MAX_AGE),
    })
}

fn origins(value: &Value<'_>) -> Vec<OriginPattern> {
    value.each(value.some_items("origins such as \"https://app.example.com\""), |item| {
        item.parsed("an origin such as \"https://app.example.com\"", origin)
    })
}

/// Reads an origin: scheme, host and port as in `https://app.example.com:8443`, or a wildcard in front of the host.
///
/// # Errors
/// What is wrong, to be put behind the text.
fn origin(text: &str) -> Result<OriginPattern, String> {
    match text {
        "null" => return Ok(OriginPattern::Null),
        "*" => return Err(String::from("stands for all origins and needs no other beside it")),
        _ => {}
    }
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(String::from("is not an origin, expected one such as \"https://app.example.com\""));
    };
    let scheme = scheme.to_ascii_lowercase();
    let named = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
    if !named {
        return Err(format!("has the scheme {scheme:?}, expected one such as \"https\""));
    }
    if rest.contains(['/', '?', '#', '@']) {
        return Err(format!(
            "has more than scheme, host and port, expected one such as \"{scheme}://app.example.com\""
        ));
    }
    let (domain, wildcard) = rest.strip_prefix("*.").map_or((rest, false), |domain| (domain, true));
    let (host, port) = match domain.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (domain, None),
    };
    let host = match names::authority_host(host, &scheme)? {
        address if address.contains(':') => format!("[{address}]"),
        name => name,
    };
    let port = match port {
        None => None,
        Some(text) => {
            Some(names::port(text).ok_or_else(|| format!("has the port {text:?}, expected a number from 1 to 65535"))?)
        }
    };
    let port = match (scheme.as_str(), port) {
        // As browsers write it: without the default port.
        ("http", Some(80)) | ("https", Some(443)) | (_, None) => String::new(),
        (_, Some(port)) => format!(":{port}"),
    };
    if !wildcard {
        return Ok(OriginPattern::Exact(format!("{scheme}://{host}{port}")));
    }
    if host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err(String::from("has a wildcard in front of an address, which has nothing below it"));
    }
    Ok(OriginPattern::Below { scheme: format!("{scheme}://"), end: format!(".{host}{port}") })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_origin_is_written_as_browsers_write_it() {
        for (text, expected) in [
            ("https://App.example.com", "https://app.example.com"),
            ("HTTPS://app.example.com:443", "https://app.example.com"),
            ("http://localhost:3000", "http://localhost:3000"),
            ("http://[FD00:0::5]:80", "http://[fd00::5]"),
            ("https://*.Example.com:8443", "https://*.example.com:8443"),
            ("capacitor://localhost", "capacitor://localhost"),
            ("null", "null"),
        ] {
            assert_eq!(origin(text).map(|it| it.to_string()).as_deref(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "*",
            "app.example.com",
            "https://app.example.com/",
            "https://",
            "https://*",
            "https://a*.example.com",
            "https://*.10.0.0.5",
            "https://u@a",
            "https://a:0",
            "://a",
            "h ttp://a",
        ] {
            assert!(origin(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_names_below_and_nothing_that_only_ends_alike() {
        let pattern = origin("https://*.example.com").unwrap();
        for good in ["https://a.example.com", "https://a.b-c.example.com"] {
            assert!(pattern.matches(good), "{good}");
        }
        for bad in [
            "https://example.com",
            "https://.example.com",
            "https://a..example.com",
            "http://a.example.com",
            "https://a.example.com:8443",
            "https://aexample.com",
            "https://evil.com/.example.com",
            "https://evil.com#.example.com",
            "https://evil.com:443.example.com",
            "https://u@a.example.com",
            "https://A.example.com",
            "https://a.example.com.evil.com",
            "null",
            "",
        ] {
            assert!(!pattern.matches(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics_and_what_is_read_matches_itself(text in "(https?|null|\\*)?(://)?[*\\[\\]:@/a-z0-9.]{0,20}") {
            if let Ok(pattern @ OriginPattern::Exact(_)) = origin(&text) {
                prop_assert!(pattern.matches(&pattern.to_string()));
                prop_assert_eq!(origin(&pattern.to_string()), Ok(pattern));
            }
        }
    }
}
