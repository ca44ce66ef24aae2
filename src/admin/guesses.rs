//! Wrong admin tokens, counted by address.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::config::Rate;
use crate::limiter::{Limiter, owner_of};

/// Wrong tokens that an address may show without a wait, and how long until it has all of them again: as many as a
/// rotation of the token that somebody did not hear of takes.
const FREE: Rate = Rate { count: NonZeroU32::new(10).unwrap(), period: Duration::from_secs(60) };

/// How long a request of an address that guesses waits before its token is looked at.
///
/// All its requests, whatever their token: were right ones answered at once, nobody who guesses would wait for the
/// others' answers. And it is a wait, no lock: who shares the address with an attacker is slowed and never shut out.
/// With the connections that this listener takes, that is some hundred guesses a second in place of some ten thousand.
const WAIT: Duration = Duration::from_secs(1);

/// The addresses that showed wrong tokens, in bounded memory. An address of IPv6 is its /64.
#[derive(Debug)]
pub(super) struct Guesses {
    wrong: Limiter,
}

impl Default for Guesses {
    fn default() -> Self {
        Self { wrong: Limiter::new(Some(FREE)) }
    }
}

impl Guesses {
    /// How long a request from `client` waits; nothing for all but those who guess.
    pub(super) fn wait(&self, client: IpAddr, now: Instant) -> Option<Duration> {
        self.wrong.is_used_up(owner_of(client), now).then_some(WAIT)
    }

    /// Counts a wrong token. `false` when there were so many that one more is not worth a line in the log.
    pub(super) fn count(&self, client: IpAddr, now: Instant) -> bool {
        self.wrong.take(owner_of(client), now).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_guesses_waits_and_others_do_not() {
        let (guesses, now) = (Guesses::default(), Instant::now());
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let (attacker, neighbour) = (address("2001:db8::1"), address("2001:db8:0:1::1"));
        for number in 0..u16::try_from(FREE.count.get()).unwrap() {
            // Another address of the same /64 each time.
            let client = address(&format!("2001:db8::{:x}", number + 2));
            assert_eq!(guesses.wait(client, now), None, "{number}");
            assert!(guesses.count(client, now), "{number}");
        }
        assert_eq!(guesses.wait(attacker, now), Some(WAIT));
        assert!(!guesses.count(attacker, now), "not logged any more");
        assert_eq!(guesses.wait(neighbour, now), None);
        assert_eq!(guesses.wait(attacker, now + FREE.period), None, "forgiven");
    }
}
