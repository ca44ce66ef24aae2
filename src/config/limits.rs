//! `[limits]`

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::{Table, Value};
use super::server::nonzero_usize;
use super::{Limits, Rate, shape};

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

/// More than a process may have descriptors for on any common system.
const MOST_CONNECTIONS: u64 = 10_000_000;

/// The bounds of `header_bytes`: less than the first and the HTTP/1 parser refuses to work, more than the last and one
/// connection could take it all.
const HEADER_BYTES: RangeInclusive<u64> = 8 * KIB..=16 * MIB;

/// The longest target that the URI type can hold.
const MOST_URI_BYTES: u64 = 65_534;

/// As many names as the header map can hold, with room for ours.
const MOST_HEADERS: u64 = 16_384;

/// With fewer, clients that greet us with settings, windows and priorities would not get to their first request.
const LEAST_CONTROL_FRAMES: u32 = 100;

const TICK: Duration = Duration::from_millis(1);

pub(super) fn limits(root: &Table<'_>) -> Limits {
    let table = root.section("limits", &shape::LIMITS);
    let get = |key| table.get(key);
    let duration = |key, default| {
        get(key).and_then(|value: Value<'_>| value.duration(TICK)).unwrap_or(Duration::from_secs(default))
    };
    let count = |key, range: RangeInclusive<u64>, default| {
        let count = get(key).and_then(|value: Value<'_>| value.count(range, None));
        count.and_then(nonzero_usize).unwrap_or(usize_const(default))
    };
    let size = |key, range: RangeInclusive<u64>, default: u64| {
        let size = get(key).and_then(|value: Value<'_>| value.size(range)).unwrap_or(default);
        nonzero_usize(size).unwrap_or(NonZeroUsize::MIN)
    };
    let rate = |key, default: u32| {
        let default = NonZeroU32::new(default).map(|count| Rate { count, period: Duration::from_secs(60) });
        get(key).and_then(|value: Value<'_>| value.rate_or_unlimited()).unwrap_or(default)
    };
    Limits {
        connections: count("connections", 1..=MOST_CONNECTIONS, 10_000),
        connections_per_address: count("connections_per_address", 1..=MOST_CONNECTIONS, 1024),
        tls_handshake_timeout: duration("tls_handshake_timeout", 10),
        header_timeout: duration("header_timeout", 10),
        idle_timeout: duration("idle_timeout", 60),
        body_idle_timeout: duration("body_idle_timeout", 30),
        body_progress: size("body_progress", 1..=MIB, KIB),
        stream_idle_timeout: duration("stream_idle_timeout", 3600),
        header_count: count("header_count", 1..=MOST_HEADERS, 100),
        header_bytes: size("header_bytes", HEADER_BYTES, 32 * KIB),
        uri_bytes: size("uri_bytes", 1..=MOST_URI_BYTES, 8 * KIB),
        body_bytes: get("body_bytes")
            .and_then(|value| value.size_or_unlimited())
            .unwrap_or(Some(GIB))
            .and_then(NonZeroU64::new),
        http2_streams: get("http2_streams")
            .and_then(|value| value.count(1..=u64::from(u16::MAX), None))
            .and_then(|count| u32::try_from(count).ok())
            .and_then(NonZeroU32::new)
            .unwrap_or(const { NonZeroU32::new(128).unwrap() }),
        http2_resets: count("http2_resets", 1..=1_000_000, 256),
        http2_control_frames: get("http2_control_frames")
            .and_then(|value| control_frames(&value))
            .unwrap_or(NonZeroU32::new(6000).map(|count| Rate { count, period: Duration::from_secs(60) })),
        token_bytes: size("token_bytes", 1..=*HEADER_BYTES.end(), 8 * KIB),
        token_cache_bytes: size("token_cache_bytes", 1..=1024 * GIB, 64 * MIB),
        refreshes_per_session: rate("refreshes_per_session", 60),
        refreshes_per_address: rate("refreshes_per_address", 600),
    }
}

fn control_frames(value: &Value<'_>) -> Option<Option<Rate>> {
    let rate = value.rate_or_unlimited()?;
    if rate.is_some_and(|rate| rate.count.get() < LEAST_CONTROL_FRAMES) {
        value.fault(format_args!("is too small, expected at least {LEAST_CONTROL_FRAMES} at once"));
        return None;
    }
    Some(rate)
}

fn usize_const(count: u64) -> NonZeroUsize {
    nonzero_usize(count).unwrap_or(NonZeroUsize::MIN)
}
