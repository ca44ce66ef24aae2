//! The limits of one route, and how they are told (draft-ietf-httpapi-ratelimit-headers-10).

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use http::header::{HeaderMap, HeaderValue};

use super::{Allowance, Exceeded, Limiter, SharedLimit, owner_of};
use crate::config::{LimitBy, RateLimit};
use crate::headers::is_for_this_hop;
use crate::ids::{SessionName, UserId};
use crate::token::{Identity, IssuerIndex};

/// All limits of a route, shared by all workers.
#[derive(Debug)]
pub struct RouteLimits {
    /// `RateLimit-Policy`, in the order of `limits`.
    policy: HeaderValue,
    /// Those by address first: they are counted before the others.
    limits: Box<[Limit]>,
}

#[derive(Debug)]
struct Limit {
    /// Of its policy.
    name: Box<str>,
    by: LimitBy,
    counted: Counted,
}

#[derive(Debug)]
enum Counted {
    Each(Limiter),
    Together(SharedLimit),
}

/// What a request is counted as. The kinds never meet, whatever a client sends.
#[derive(Debug, Hash)]
enum Key<'a> {
    Address(IpAddr),
    User(IssuerIndex, &'a UserId),
    Session(IssuerIndex, &'a SessionName),
    Header(&'a [u8]),
}

impl RouteLimits {
    /// From the limits of a checked route; `None` when it has none.
    pub fn new(limits: &[RateLimit]) -> Option<Self> {
        let mut policies = Vec::new();
        let mut all = Vec::<Limit>::new();
        // Told in the order they are counted in.
        let (addresses, others): (Vec<_>, Vec<_>) = limits.iter().partition(|limit| limit.by == LimitBy::Address);
        for RateLimit { by, rate, burst } in addresses.into_iter().chain(others) {
            let counted = match by {
                LimitBy::Route => Counted::Together(SharedLimit::new(*rate, *burst)),
                _ => Counted::Each(Limiter::with_burst(*rate, *burst)),
            };
            let name = unused_name(by, &all);
            policies.push(policy(&name, rate.count.get(), rate.period));
            all.push(Limit { name: name.into(), by: by.clone(), counted });
        }
        let policy = HeaderValue::from_str(&policies.join(", ")).ok()?;
        (!all.is_empty()).then(|| Self { policy, limits: all.into() })
    }

    /// The value of `RateLimit-Policy`.
    pub fn policy(&self) -> &HeaderValue {
        &self.policy
    }

    /// Counts a request before anything of its token is looked at, so that a flood of bad tokens costs no verification.
    /// What is left is written to `state`, a value of `RateLimit`.
    ///
    /// # Errors
    /// How long to wait, when an allowance was used up.
    pub fn take_address(&self, client: IpAddr, now: Instant, state: &mut String) -> Result<(), Exceeded> {
        let mut limits = self.limits.iter().filter(|limit| limit.by == LimitBy::Address);
        limits.try_for_each(|limit| limit.take(&Key::Address(owner_of(client)), now, state))
    }

    /// Counts a request by all else: who calls is known, so that nobody uses up what is another's. As
    /// [`Self::take_address`].
    ///
    /// # Errors
    /// How long to wait, when an allowance was used up.
    pub fn take_others(
        &self,
        client: IpAddr,
        identity: Option<&Identity>,
        headers: &HeaderMap,
        now: Instant,
        state: &mut String,
    ) -> Result<(), Exceeded> {
        let mut limits = self.limits.iter().filter(|limit| limit.by != LimitBy::Address);
        let key = |by: &LimitBy| match by {
            LimitBy::User => identity.map(|known| Key::User(known.issuer, &known.user)),
            LimitBy::Session => identity.map(|known| Key::Session(known.issuer, &known.session)),
            LimitBy::Header(name) => {
                let mut values = headers.get_all(name).iter();
                match (values.next(), values.next()) {
                    // Named by `Connection` it goes no further: each value would be a new allowance for the same nobody.
                    (Some(value), None) if !is_for_this_hop(headers, name) => Some(Key::Header(value.as_bytes())),
                    // Of several, the upstream may believe any.
                    _ => None,
                }
            }
            LimitBy::Address | LimitBy::Route => None,
        };
        let take = |limit: &Limit| {
            // Without the value there would be one allowance for everybody, or none.
            let key = key(&limit.by).unwrap_or_else(|| Key::Address(owner_of(client)));
            limit.take(&key, now, state)
        };
        limits.try_for_each(take)
    }
}

impl Limit {
    fn take(&self, key: &Key<'_>, now: Instant, state: &mut String) -> Result<(), Exceeded> {
        let taken = match &self.counted {
            Counted::Each(limiter) => limiter.take(key, now),
            Counted::Together(limit) => limit.take(now),
        };
        let (left, whole_in) = match taken {
            Ok(Allowance { left, whole_in }) => (left, whole_in),
            Err(Exceeded { whole_in, .. }) => (0, whole_in),
        };
        let between = if state.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        let _ = write!(state, "{between}\"{}\";r={left};t={}", self.name, seconds(whole_in));
        taken.map(drop)
    }
}

/// A name that no policy of the route has yet.
fn unused_name(by: &LimitBy, others: &[Limit]) -> String {
    let word = match by {
        LimitBy::Header(name) => name.to_string(),
        other => other.to_string(),
    };
    let same = others.iter().filter(|other| other.by == *by).count();
    if same == 0 { word } else { format!("{word}-{}", same + 1) }
}

/// A window that is not in whole seconds is left out: it is optional, and would be wrong.
fn policy(name: &str, count: u32, period: Duration) -> String {
    let window = if period.subsec_nanos() == 0 { format!(";w={}", period.as_secs()) } else { String::new() };
    format!("\"{name}\";q={count}{window}")
}

/// Whole seconds, never too few.
pub fn seconds(duration: Duration) -> u32 {
    let up = u64::from(duration.subsec_nanos() > 0);
    u32::try_from(duration.as_secs().saturating_add(up)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rate;

    fn limits(all: &[(LimitBy, u32, u64)]) -> RouteLimits {
        let limit = |(by, count, seconds): &(LimitBy, u32, u64)| {
            let rate = Rate { count: (*count).try_into().unwrap(), period: Duration::from_secs(*seconds) };
            RateLimit { by: by.clone(), rate, burst: rate.count }
        };
        RouteLimits::new(&all.iter().map(limit).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_limit_is_told_with_what_is_left() {
        let header = LimitBy::Header(http::HeaderName::from_static("x-api-key"));
        let limits = limits(&[(header, 100, 60), (LimitBy::Address, 3, 60), (LimitBy::Address, 1000, 3600)]);
        let policy = "\"address\";q=3;w=60, \"address-2\";q=1000;w=3600, \"x-api-key\";q=100;w=60";
        assert_eq!(limits.policy(), policy);
        let (client, now) = ("2001:db8::1".parse().unwrap(), Instant::now());
        let mut state = String::new();
        limits.take_address(client, now, &mut state).unwrap();
        limits.take_others(client, None, &HeaderMap::new(), now, &mut state).unwrap();
        assert_eq!(state, "\"address\";r=2;t=20, \"address-2\";r=999;t=4, \"x-api-key\";r=99;t=1");
        let neighbour = "2001:db8::ffff".parse().unwrap();
        for _ in 0..2 {
            limits.take_address(neighbour, now, &mut state).unwrap();
        }
        state.clear();
        let exceeded = limits.take_address(client, now, &mut state).unwrap_err();
        assert_eq!((seconds(exceeded.retry_in), state.as_str()), (20, "\"address\";r=0;t=60"));
    }

    #[test]
    fn a_request_without_the_value_is_counted_by_its_address() {
        let limits = limits(&[(LimitBy::Header(http::HeaderName::from_static("x-api-key")), 1, 60)]);
        let now = Instant::now();
        let take = |client: &str, keys: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for key in keys {
                headers.append("x-api-key", HeaderValue::from_static(key));
            }
            limits.take_others(client.parse().unwrap(), None, &headers, now, &mut String::new()).is_ok()
        };
        assert!(take("10.0.0.1", &["a"]) && !take("10.0.0.2", &["a"]) && take("10.0.0.2", &["b"]));
        assert!(take("10.0.0.1", &[]) && !take("10.0.0.1", &[]) && take("10.0.0.2", &[]));
        // Two values are none: a second one must not buy a new allowance.
        assert!(!take("10.0.0.1", &["c", "d"]));
    }
}
