//! Words that people bring along from other proxies: near none of ours in letters, but in what they mean.

use super::nearest::fold;
use super::shape::{self, Shape};

/// Keys of others, and those here that say it: of them, a hint names what the table has.
const KEYS: [(&[&str], &[&str]); 6] = [
    (&["timeout", "read_timeout", "proxy_read_timeout"], &["response_timeout"]),
    (&["health_check"], &["health"]),
    (&["websocket"], &["upgrades"]),
    (&["headers"], &["request_headers", "response_headers"]),
    (&["prefix", "location"], &["path"]),
    (&["proxy_pass", "backend"], &["upstream"]),
];

/// Keys that turn the checks of a server's certificate off elsewhere.
const UNVERIFIED: [&str; 3] = ["tls_verify", "insecure_skip_verify", "verify"];

/// Values of others, and what is said of the one that is meant here.
const VALUES: [(&[&str], &str, &str); 3] = [
    (&["least_conn"], "least_requests", ""),
    (&["ip_hash"], "hash", " with hash_by = \"address\""),
    (&["http3", "h2", "h2c", "grpc"], "http2", ""),
];

/// What the unknown key `name` means in the tables of `shape`, to be put behind it.
pub(super) fn key(name: &str, shape: &Shape) -> Option<String> {
    let is_name = |known: &&str| fold(known) == fold(name);
    if UNVERIFIED.iter().any(is_name) {
        // Said where it is looked for: a server that nobody checks is whoever answers.
        let place = match shape {
            _ if std::ptr::eq(shape, &shape::UPSTREAM_TLS) => "",
            _ if std::ptr::eq(shape, &shape::UPSTREAM) => " in [upstream.NAME.tls]",
            _ => return None,
        };
        return Some(format!(", there is no way to skip verification: name ca or pins{place}"));
    }
    let (_, ours) = KEYS.iter().find(|(names, _)| names.iter().any(is_name))?;
    let ours = ours.iter().filter(|key| shape.keys.contains(key));
    let ours = ours.map(|key| format!("{key:?}")).collect::<Vec<_>>().join(" or ");
    (!ours.is_empty()).then(|| format!(", did you mean {ours}?"))
}

/// Which of `choices` the unknown value `text` means, to be put behind it.
pub(super) fn value<'w>(text: &str, mut choices: impl Iterator<Item = &'w str>) -> Option<String> {
    let (_, ours, more) = VALUES.iter().find(|(names, ..)| names.iter().any(|known| fold(known) == fold(text)))?;
    choices.any(|choice| choice == *ours).then(|| format!(", did you mean {ours:?}{more}?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_only_meant_where_its_table_has_it() {
        let meant = |name, shape| key(name, shape).unwrap_or_default();
        assert_eq!(meant("proxyReadTimeout", &shape::ROUTE), ", did you mean \"response_timeout\"?");
        assert_eq!(meant("healthcheck", &shape::UPSTREAM), ", did you mean \"health\"?");
        assert_eq!(meant("headers", &shape::ROUTE), ", did you mean \"request_headers\" or \"response_headers\"?");
        assert!(meant("verify", &shape::UPSTREAM).ends_with("name ca or pins in [upstream.NAME.tls]"));
        for (name, shape) in [
            ("timeout", &shape::SERVER),
            ("headers", &shape::UPSTREAM),
            ("websocket", &shape::UPSTREAM),
            ("verify", &shape::STORE),
            ("elsewhere", &shape::ROUTE),
        ] {
            assert_eq!(key(name, shape), None, "{name} in {}", shape.title);
        }
    }

    #[test]
    fn every_key_that_is_named_is_one_and_no_name_is_hidden_by_it() {
        for (names, ours) in KEYS {
            for key in ours {
                assert!(shape::ALL.iter().any(|shape| shape.keys.contains(key)), "{key}");
            }
            // Those that a table has are known there, and nobody asks.
            for name in names {
                assert!(!ours.contains(name), "{name}");
            }
        }
    }

    #[test]
    fn a_value_is_only_meant_where_it_can_be_chosen() {
        let meant = |text, choices: &[&'static str]| value(text, choices.iter().copied()).unwrap_or_default();
        assert_eq!(meant("leastconn", &["round_robin", "least_requests"]), ", did you mean \"least_requests\"?");
        assert_eq!(meant("ip_hash", &["hash"]), ", did you mean \"hash\" with hash_by = \"address\"?");
        assert_eq!(meant("h2c", &["http1", "http2"]), ", did you mean \"http2\"?");
        assert_eq!(meant("h2c", &["hash"]), "");
    }
}
