//! `route.rate_limit`: how many requests of one user, session, address or header value a route takes.

use std::fmt;
use std::num::NonZeroU32;

use http::HeaderName;

use crate::config::nearest::suggestion;
use crate::config::reader::{Table, Value};
use crate::config::{Rate, names, shape};

/// One of `[[route.rate_limit]]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RateLimit {
    /// `by`: what is counted.
    pub by: LimitBy,
    /// `rate`: so many in so long, in the long run.
    pub rate: Rate,
    /// `burst`: so many at once, by default as many as `rate` has.
    pub burst: NonZeroU32,
}

/// What requests are counted by. A request without the value is counted by its client's address.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LimitBy {
    /// `"user"`: of the identity.
    User,
    /// `"session"`: of the identity.
    Session,
    /// `"address"`: the client's; IPv6: its /64.
    Address,
    /// `"header:NAME"`: the value of the one field of this name.
    Header(HeaderName),
    /// `"route"`: all together.
    Route,
}

/// As the file writes it.
impl fmt::Display for LimitBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User => f.write_str("user"),
            Self::Session => f.write_str("session"),
            Self::Address => f.write_str("address"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Route => f.write_str("route"),
        }
    }
}

pub(super) fn rate_limits(route: &Table<'_>) -> Vec<RateLimit> {
    let example = "[{ by = \"user\", rate = \"100/1m\" }]";
    route.inner_all("rate_limit", &shape::RATE_LIMIT, example).iter().filter_map(rate_limit).collect()
}

fn rate_limit(table: &Table<'_>) -> Option<RateLimit> {
    let by = table.require("by", "\"user\", \"session\", \"address\", \"route\" or \"header:NAME\"");
    let by = by.and_then(|value| value.parsed("what is counted, such as \"user\"", limit_by));
    let rate = table.require("rate", "a rate such as \"100/1m\"").and_then(|value| value.rate());
    let burst = table.get("burst").and_then(|value: Value<'_>| value.count(1..=u64::from(u32::MAX), None));
    let burst = burst.and_then(|count| u32::try_from(count).ok().and_then(NonZeroU32::new));
    let rate = rate?;
    Some(RateLimit { by: by?, rate, burst: burst.unwrap_or(rate.count) })
}

fn limit_by(text: &str) -> Result<LimitBy, String> {
    const WORDS: [&str; 5] = ["user", "session", "address", "route", "header:NAME"];
    match text.split_once(':') {
        Some(("header", name)) => names::header(name).map(LimitBy::Header),
        _ => match text {
            "user" => Ok(LimitBy::User),
            "session" => Ok(LimitBy::Session),
            "address" => Ok(LimitBy::Address),
            "route" => Ok(LimitBy::Route),
            _ => Err(format!("is not known{}", suggestion(text, WORDS))),
        },
    }
}
