//! `route.host`: names, addresses, and every name below one.

use std::fmt;
use std::net::Ipv4Addr;

use crate::config::names;
use crate::config::reader::Value;

/// A host that a route is for.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HostPattern {
    /// This one: a name in lower case without a dot at its end, an IPv4 address, or an IPv6 address in brackets.
    Exact(String),
    /// `*.example.com`: every name below `example.com`, at any depth, but not that name itself.
    Below(String),
}

/// As the file writes it.
impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(host) => f.write_str(host),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

/// One host, or an array of them.
pub(super) fn hosts(value: &Value<'_>) -> Vec<HostPattern> {
    let items = value.one_or_some_items("a host name", "host names such as \"shop.example.com\"");
    value.each(items, |item| item.parsed("a host name", pattern))
}

/// Reads a host, or a wildcard for all names below one.
///
/// # Errors
/// What is wrong, to be put behind the text.
fn pattern(text: &str) -> Result<HostPattern, String> {
    if text == "*" {
        return Err(String::from("is any host, which is said by leaving host out"));
    }
    let (domain, wildcard) = text.strip_prefix("*.").map_or((text, false), |domain| (domain, true));
    if domain.contains('*') && !domain.contains('/') {
        return Err(String::from(
            "has a wildcard that does not stand for whole names in front, expected one such as \"*.example.com\"",
        ));
    }
    if !wildcard {
        return names::host(domain).map(HostPattern::Exact);
    }
    // What is told to stand in its place is a wildcard, too.
    if let Some((name, port)) = domain.rsplit_once(':')
        && !name.contains([':', '/'])
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(format!("has a port, which does not matter for routes, expected \"*.{name}\""));
    }
    let host = names::host(domain)?;
    if host.starts_with('[') || host.parse::<Ipv4Addr>().is_ok() {
        return Err(String::from("has a wildcard in front of an address, which has nothing below it"));
    }
    Ok(HostPattern::Below(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wildcard_stands_for_whole_names_in_front() {
        for (text, expected) in [("*.Example.com.", "*.example.com"), ("*.internal", "*.internal"), ("A.b", "a.b")] {
            assert_eq!(pattern(text).map(|it| it.to_string()).as_deref(), Ok(expected), "{text}");
        }
        for text in
            ["*", "*.", "**.a", "a*.b", "a.*.b", "*a.b", "*.*.b", "*.10.0.0.5", "*.[::1]", "*.a:80", "https://*.a"]
        {
            assert!(pattern(text).is_err(), "{text}");
        }
        assert!(pattern("*.a.example:80").unwrap_err().ends_with("expected \"*.a.example\""));
        assert!(pattern("a.example:80").unwrap_err().ends_with("expected \"a.example\""));
    }
}
