//! Points in time as the tokens and the store count them.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Clock difference allowed between an issuer and us.
///
/// The verifier accepts a token until `exp + LEEWAY` and the revocation list keeps an entry until the same moment. If
/// the list forgot sooner, a signed-out token would work again.
pub const LEEWAY: Duration = Duration::from_secs(30);

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct UnixTime(u64);

impl UnixTime {
    /// The machine's wall clock.
    ///
    /// The rules take their time as an argument; only the edges (request path, tasks, command line) call this.
    pub fn now() -> Self {
        // A clock before 1970 is read as 1970: every token is then in the future and is refused.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    /// From whole seconds, the unit of `exp` and `iat` (RFC 7519 §2, NumericDate). Saturates.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// From milliseconds.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Whole seconds, rounded down.
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// Milliseconds.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Later by `by`. Saturates.
    #[must_use]
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Earlier by `by`. Saturates at 1970.
    #[must_use]
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(u64::try_from(by.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Time passed since `earlier`; zero when `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// Time since the machine's start, suspended or not. Never goes back.
///
/// [`std::time::Instant`] stands still while the machine is suspended, and with it whatever counts on it.
pub fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(CLOCK);
    Duration::new(u64::try_from(now.tv_sec).unwrap_or_default(), u32::try_from(now.tv_nsec).unwrap_or_default())
}

/// RFC 3339 in UTC, to the millisecond.
impl fmt::Display for UnixTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNIX_EPOCH.checked_add(Duration::from_millis(self.0)) {
            // humantime cannot write years past 9999 and panics there.
            Some(time) if self.0 < 253_402_300_800_000 => {
                write!(f, "{}", humantime::format_rfc3339_millis(time))
            }
            _ => write!(f, "{} ms", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        assert_eq!(UnixTime::from_secs(5).minus(Duration::from_secs(9)), UnixTime::default());
        assert_eq!(UnixTime::from_secs(u64::MAX).plus(Duration::from_secs(1)).as_millis(), u64::MAX);
        assert_eq!(UnixTime::from_secs(1).since(UnixTime::from_secs(9)), Duration::ZERO);
    }

    #[test]
    fn is_written_in_rfc_3339() {
        assert_eq!(UnixTime::from_millis(1_700_000_000_123).to_string(), "2023-11-14T22:13:20.123Z");
        assert_eq!(UnixTime::from_millis(u64::MAX).to_string(), format!("{} ms", u64::MAX));
    }
}
