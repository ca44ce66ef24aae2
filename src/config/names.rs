//! Names that come from outside the file's own vocabulary: hosts, header fields, methods, paths and URLs.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::{HeaderName, Method, Uri};

use super::nearest::nearest;
use crate::path;

/// Reads a route's host: a name, an IPv4 address, or an IPv6 address in brackets. Lower case, without a dot at its end.
///
/// # Errors
/// What is wrong, to be put behind the text.
pub(super) fn host(text: &str) -> Result<String, String> {
    if text.contains("://") || text.contains('/') {
        return Err(String::from("is not a host, expected one without scheme and path, such as \"shop.example.com\""));
    }
    if let Some(address) = text.strip_prefix('[') {
        let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
        return match address {
            Some(address) => Ok(format!("[{address}]")),
            None => Err(String::from("is not an IPv6 address in brackets without port, such as \"[::1]\"")),
        };
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("is an IPv6 address without brackets, expected \"[{text}]\""));
    }
    if let Some((name, port)) = text.rsplit_once(':') {
        return Err(match port.bytes().all(|byte| byte.is_ascii_digit()) {
            true => format!("has a port, which does not matter for routes, expected {name:?}"),
            false => String::from("is not a host name, expected one such as \"shop.example.com\""),
        });
    }
    host_name(text)
}

/// A domain name (RFC 1123 §2.1, and `_`, which internal names use) or an IPv4 address.
fn host_name(text: &str) -> Result<String, String> {
    if !text.is_ascii() {
        return Err(String::from("has letters that are not ASCII, expected the name as DNS has it (xn--…)"));
    }
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.len() > 253 || !name.split('.').all(label) {
        return Err(String::from("is not a host name, expected one such as \"shop.example.com\""));
    }
    // What ends in a number is an address to every URL parser (WHATWG URL §3.5), never a name.
    let last = name.rsplit('.').next().unwrap_or_default();
    if last.bytes().all(|byte| byte.is_ascii_digit()) && name.parse::<Ipv4Addr>().is_err() {
        return Err(String::from("is not an IPv4 address, expected one such as \"10.0.0.5\""));
    }
    Ok(name)
}

/// Reads the name that a server's certificate is for: a domain name or an address, without brackets.
///
/// # Errors
/// What is wrong, to be put behind the text.
pub(super) fn server_name(text: &str) -> Result<String, String> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) => host_name(text),
    }
}

/// Reads a port: digits only, and not 0, which nobody listens on.
pub(super) fn port(text: &str) -> Option<u16> {
    text.parse().ok().filter(|number| *number != 0 && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Reads the host of a URL of `scheme`: a name, an IPv4 address, or an IPv6 address in brackets, which are dropped.
///
/// # Errors
/// What is wrong, to be put behind the URL.
pub(super) fn authority_host(host: &str, scheme: &str) -> Result<String, String> {
    if host.is_empty() {
        return Err(format!("has no host, expected {scheme}://HOST:PORT"));
    }
    if let Some(address) = host.strip_prefix('[') {
        let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
        let address = address.ok_or("has no valid IPv6 address in its brackets")?;
        return Ok(address.to_string());
    }
    if host.contains(':') {
        return Err(format!("has an IPv6 address without brackets, expected {scheme}://[ADDRESS]:PORT"));
    }
    host_name(host).map_err(|why| format!("has the host {host:?}, which {why}"))
}

/// Reads the URL of a key set: `https`, or `http` to this machine.
///
/// # Errors
/// What is wrong, to be put behind the text.
pub(super) fn jwks_url(text: &str) -> Result<Uri, String> {
    let uri = url(text, "https://id.example.com/jwks.json")?;
    let host = uri.host().unwrap_or_default();
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let loopback = address.map_or(host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback());
    match uri.scheme_str() {
        Some("https") => Ok(uri),
        Some("http") if loopback => Ok(uri),
        // Whoever can change an answer on its way could name keys of their own.
        _ => Err(String::from("is not https, expected https:// (http:// only to a loopback address)")),
    }
}

/// Reads scheme and authority, such as `https://shop.example.com`.
///
/// # Errors
/// What is wrong, to be put behind the text.
pub(super) fn public_url(text: &str) -> Result<String, String> {
    let uri = url(text, "https://shop.example.com")?;
    let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority().map(|it| it.as_str()));
    let plain = format!("{scheme}://{}", authority.unwrap_or_default());
    match text.eq_ignore_ascii_case(&plain) {
        true => Ok(plain.to_ascii_lowercase()),
        false => Err(format!("has more than scheme and host, expected {plain:?}")),
    }
}

/// An absolute `http` or `https` URL without user and fragment.
pub(super) fn url(text: &str, example: &str) -> Result<Uri, String> {
    let not_a_url = || format!("is not a URL, expected one such as \"{example}\"");
    let uri = text
        .parse::<Uri>()
        .ok()
        .filter(|uri| uri.scheme().is_some() && uri.host().is_some_and(|host| !host.is_empty()));
    let uri = uri.ok_or_else(not_a_url)?;
    if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(String::from("has a user name or password, which is not supported"));
    }
    if text.contains('#') {
        return Err(String::from("has a fragment, which is never sent"));
    }
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err(format!("has the scheme {:?}, expected https://", uri.scheme_str().unwrap_or_default()));
    }
    // The URI type lets `host:` and ports beyond 65535 pass.
    let bad_port = uri.authority().is_some_and(|authority| {
        let rest = &authority.as_str()[authority.host().len().min(authority.as_str().len())..];
        !rest.is_empty() && uri.port_u16().is_none_or(|port| port == 0)
    });
    if bad_port { Err(not_a_url()) } else { Ok(uri) }
}

/// Checks that a route's path is spelled in the one way that a request's path is compared in.
///
/// # Errors
/// What is wrong, to be put behind the text.
pub(super) fn canonical_route_path(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("does not start with a slash, expected \"/{}\"", path.trim_start_matches('.')));
    }
    for segment in path[1..].split('/') {
        match segment {
            "." | ".." => return Err(format!("has the segment {segment:?}, expected a path without dot segments")),
            // Routes are prefixes. Taken literally, the pattern would silently match nothing that exists.
            "*" | "**" => {
                return Err(String::from("ends in a pattern: a path is a prefix of whole segments, leave \"*\" out"));
            }
            _ => {}
        }
    }
    if path.contains("//") {
        return Err(String::from("has an empty segment (\"//\")"));
    }
    if let Some(letter) = path.chars().find(|letter| !letter.is_ascii()) {
        return Err(format!("has {letter:?}, which is not ASCII, expected it percent-encoded"));
    }
    // What requests are judged by: a route that no request can have would be a gap that nobody sees.
    let judged = path::judge(path).map_err(|error| match error.to_string().strip_prefix("path ") {
        Some(fault) => fault.to_owned(),
        None => error.to_string(),
    })?;
    match judged.spellings.names().next() {
        Some(name) => Err(format!("has a spelling that no canonical path has ({name})")),
        // A parameter at the end is one only in requests: servers cut it off.
        None if path.contains(';') => Err(String::from("has ';', which may not stand in a path")),
        None => Ok(()),
    }
}

/// Reads an HTTP method, in the exact case that requests have it.
///
/// # Errors
/// What is wrong, to be put behind the text.
pub(super) fn method(text: &str) -> Result<Method, String> {
    const KNOWN: [&str; 17] = [
        "GET",
        "HEAD",
        "POST",
        "PUT",
        "DELETE",
        "OPTIONS",
        "PATCH",
        "TRACE",
        "PROPFIND",
        "PROPPATCH",
        "MKCOL",
        "COPY",
        "MOVE",
        "LOCK",
        "UNLOCK",
        "REPORT",
        "SEARCH",
    ];
    if text == "CONNECT" {
        return Err(String::from("asks for tunnels, which are not supported"));
    }
    if KNOWN.contains(&text) {
        return text.parse().ok().ok_or_else(|| String::from("is not a method"));
    }
    if let Some(known) = nearest(text, KNOWN) {
        return Err(format!("is not a known method, did you mean {known:?}?"));
    }
    // Methods are case-sensitive and the registered ones all upper case: anything else is a slip.
    match text.parse::<Method>() {
        Ok(method) if text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-') => Ok(method),
        _ => Err(String::from("is not a method, expected one such as \"GET\"")),
    }
}

/// Header fields with a meaning of their own, lower case. An identity written over one of them would change the
/// message, or would be changed on the way.
const RESERVED: [&str; 25] = [
    "accept",
    "age",
    "authorization",
    "cache-control",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "from",
    "host",
    "origin",
    "pragma",
    "range",
    "referer",
    "server",
    "set-cookie",
    "traceparent",
    "tracestate",
    "user-agent",
    "vary",
    "via",
    "www-authenticate",
    "x-real-ip",
    "x-request-id",
    "x-http-method-override",
];

/// Beginnings of such names.
const RESERVED_PREFIXES: [&str; 9] =
    ["accept-", "access-control-", "content-", "if-", "proxy-", "sec-", "x-forwarded-", "x-original-", "x-rewrite-"];

/// Fields that belong to one connection (RFC 9110 §7.6.1) or delimit the message.
const HOP_BY_HOP: [&str; 9] = [
    "connection",
    "content-length",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "host",
];

/// Fields that are written anew for every request, whatever the client sent.
const WRITTEN_BY_US: [&str; 6] =
    ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "authorization"];

/// Reads the name of an identity header.
///
/// # Errors
/// What is wrong, to be put behind the text.
pub(super) fn identity_header(text: &str) -> Result<HeaderName, String> {
    let name = header(text)?;
    let lower = name.as_str();
    let reserved = RESERVED.contains(&lower)
        || HOP_BY_HOP.contains(&lower)
        || RESERVED_PREFIXES.iter().any(|prefix| lower.starts_with(prefix));
    if reserved {
        return Err(String::from(
            "has a meaning of its own in HTTP or for proxies, expected a name such as \"X-User-Id\"",
        ));
    }
    Ok(name)
}

/// Reads the name of a header that clients may not send to upstreams.
///
/// # Errors
/// What is wrong, to be put behind the text.
pub(super) fn stripped_header(text: &str) -> Result<HeaderName, String> {
    let name = header(text)?;
    if HOP_BY_HOP.contains(&name.as_str()) {
        return Err(String::from("belongs to the connection and is never passed on as it came"));
    }
    if WRITTEN_BY_US.contains(&name.as_str()) {
        return Err(String::from("is removed or written anew for every request already"));
    }
    Ok(name)
}

/// Fields besides [`HOP_BY_HOP`] that only the two ends of one connection may say to each other.
const OF_ONE_CONNECTION: [&str; 4] = ["expect", "http2-settings", "proxy-authenticate", "proxy-authorization"];

/// Fields that the gateway writes into every request.
const FORWARDING: [&str; 8] = [
    "forwarded",
    "traceparent",
    "via",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-request-id",
];

/// Reads the name of a header that a route may change on the way to an upstream.
///
/// # Errors
/// What is wrong, to be put behind the text.
pub(super) fn forwarded_header(text: &str) -> Result<HeaderName, String> {
    let name = answered_header(text)?;
    if FORWARDING.contains(&name.as_str()) {
        return Err(String::from("is written by the gateway, which alone knows what to say there"));
    }
    Ok(name)
}

/// Reads the name of a header that a route may change in an answer.
///
/// # Errors
/// What is wrong, to be put behind the text.
pub(super) fn answered_header(text: &str) -> Result<HeaderName, String> {
    let name = header(text)?;
    // Two readers of one message could take it for two different ones.
    if HOP_BY_HOP.contains(&name.as_str()) || OF_ONE_CONNECTION.contains(&name.as_str()) {
        return Err(String::from("belongs to the connection or to the framing of the message"));
    }
    Ok(name)
}

/// Reads the name of a header.
///
/// # Errors
/// What is wrong, to be put behind the text.
pub(super) fn header(text: &str) -> Result<HeaderName, String> {
    // Backends fold `_` and `.` to `-`, so a name with one of them would be two names.
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
        return Err(String::from(
            "is not a header name of letters, digits and \"-\", expected one such as \"X-User-Id\"",
        ));
    }
    text.parse().ok().ok_or_else(|| String::from("is too long for a header name"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_host_has_one_spelling() {
        for (text, expected) in [
            ("Shop.Example.COM", "shop.example.com"),
            ("shop.example.com.", "shop.example.com"),
            ("my_service", "my_service"),
            ("10.0.0.5", "10.0.0.5"),
            ("[FD00:0::5]", "[fd00::5]"),
        ] {
            assert_eq!(host(text).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", ".", "a..b", "-a", "a-", "a b", "1.2.3", "a:", "[::1]:80", "[::1", &"a".repeat(64)] {
            assert!(host(text).is_err(), "{text}");
        }
    }

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for text in
            ["https://a/k", "https://a:8443/k?v=1", "http://127.0.0.2/k", "http://[::1]:80/k", "http://LOCALHOST/k"]
        {
            assert!(jwks_url(text).is_ok(), "{text}: {:?}", jwks_url(text));
        }
        for text in [
            "",
            "/k",
            "a",
            "ftp://a/k",
            "http://a/k",
            "http://127.0.0.1.example.com/k",
            "http://localhost.example.com/k",
            "http://[::2]/k",
            "https://u@a/k",
            "https://a/k#x",
            "https://a:99999/k",
            "https://a:/k",
        ] {
            assert!(jwks_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_public_url_is_scheme_and_host() {
        assert_eq!(public_url("https://Shop.example.com:8443").as_deref(), Ok("https://shop.example.com:8443"));
        for text in ["shop.example.com", "https://shop.example.com/", "https://a/b", "https://a?b", "ws://a"] {
            assert!(public_url(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_with_a_meaning_is_no_identity_header() {
        for name in ["X-User-Id", "x-gateway-session", "User"] {
            assert!(identity_header(name).is_ok(), "{name}");
        }
        for name in ["Host", "authorization", "CONTENT-LENGTH", "Connection", "TE", "Via", "x-forwarded-for", "Cookie"]
        {
            assert!(identity_header(name).is_err(), "{name}");
        }
        for name in ["", "X_User_Id", "X.User", "X User", "é"] {
            assert!(identity_header(name).is_err() && stripped_header(name).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\]:@/a-z0-9.%;*\\PC]{0,40}") {
            drop((host(&text), authority_host(&text, "http"), server_name(&text), jwks_url(&text), public_url(&text), method(&text)));
            drop((canonical_route_path(&text), identity_header(&text), stripped_header(&text)));
            drop(jwks_url(&format!("https://{text}")));
        }

        #[test]
        fn a_host_read_twice_is_the_same(text in "[A-Za-z0-9.\\[\\]:-]{1,20}") {
            if let Ok(once) = host(&text) {
                prop_assert_eq!(host(&once), Ok(once.clone()));
            }
        }
    }
}
