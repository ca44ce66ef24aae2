//! Which server a request goes to: in turn, to the least busy, or to the one its key belongs to.
//!
//! Each worker chooses for itself. In turn, a worker alone is fair, so all together are; the requests in flight are
//! those of all workers; and the server of a key follows from the key and the servers' names, on every gateway alike.

use std::cell::{Cell, RefCell};

use smallvec::SmallVec;

use super::shared::SharedUpstream;
use crate::config;

/// Weights as they are at the moment, one for each server: 0 is left out.
pub(super) type Weights = SmallVec<[u32; 8]>;

/// Up to so many servers all are compared; of more, two that are drawn (the power of two choices).
const COMPARE_ALL: usize = 16;

/// What came of choosing.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Choice {
    /// This one.
    Server(usize),
    /// Every server that may be asked was tried already.
    AllTried,
    /// Checks found none well.
    NoneHealthy,
}

/// How requests are spread.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    RoundRobin,
    LeastRequests,
    Hash,
}

/// One worker's part of the choice.
#[derive(Debug)]
pub(super) struct Balancer {
    kind: Kind,
    /// All weights are equal: then turns need no arithmetic.
    uniform: bool,
    next: Cell<usize>,
    /// How far each server is behind its share.
    current: RefCell<Vec<i64>>,
    random: Cell<u64>,
}

impl Balancer {
    /// Workers begin with different servers: `seat` is the worker's number.
    pub(super) fn new(config: &config::Upstream, seat: usize) -> Self {
        let weight = |server: &config::UpstreamServer| server.weight;
        let first = config.servers.first().map(weight);
        let servers = config.servers.len().max(1);
        Self {
            kind: match config.balance {
                config::Balance::RoundRobin => Kind::RoundRobin,
                config::Balance::LeastRequests => Kind::LeastRequests,
                config::Balance::Hash(_) => Kind::Hash,
            },
            uniform: config.servers.iter().all(|server| Some(weight(server)) == first),
            next: Cell::new(seat % servers),
            current: RefCell::new(vec![0; servers]),
            random: Cell::new(mix(seat as u64 + 1)),
        }
    }

    /// A server that is not among `tried`; as a `last_resort`, one that is left out because it failed. `key` is what
    /// the request is hashed by, if it has such a value.
    pub(super) fn choose(
        &self,
        shared: &SharedUpstream,
        key: Option<u64>,
        tried: &[usize],
        last_resort: bool,
    ) -> Choice {
        let in_turn = self.kind == Kind::RoundRobin || (self.kind == Kind::Hash && key.is_none());
        if shared.is_untroubled() && tried.is_empty() {
            let count = shared.servers.len();
            if count == 1 {
                return Choice::Server(0);
            }
            if in_turn && self.uniform {
                let at = self.next.get();
                self.next.set(if at + 1 >= count { 0 } else { at + 1 });
                return Choice::Server(at);
            }
        }
        let weights = match shared.weights(tried, last_resort) {
            Ok(weights) => weights,
            Err(none) => return none,
        };
        let chosen = match (self.kind, key) {
            (Kind::Hash, Some(key)) => rendezvous(shared.servers.iter().map(|server| server.hash), &weights, key),
            (Kind::LeastRequests, _) => self.least(&weights, |server| shared.in_flight(server)),
            _ => smooth(&mut self.current.borrow_mut(), &weights),
        };
        chosen.map_or(Choice::AllTried, Choice::Server)
    }

    /// The server with the fewest requests in flight for its weight; among equals, in turn.
    fn least(&self, weights: &[u32], in_flight: impl Fn(usize) -> usize) -> Option<usize> {
        let mut compared = Weights::from_slice(weights);
        if weights.len() > COMPARE_ALL {
            let able = weights.iter().enumerate().filter(|(_, weight)| **weight > 0).map(|(at, _)| at);
            let able = able.collect::<SmallVec<[usize; 32]>>();
            if able.len() > 2 {
                let (one, other) = (self.draw(able.len()), self.draw(able.len() - 1));
                // Never twice the same.
                let other = if other >= one { other + 1 } else { other };
                compared.fill(0);
                for at in [able[one], able[other]] {
                    compared[at] = weights[at];
                }
            }
        }
        let loads = compared.iter().enumerate().map(|(at, weight)| if *weight > 0 { in_flight(at) as u64 } else { 0 });
        let loads = loads.collect::<SmallVec<[u64; 8]>>();
        // a / wa < b / wb, without division.
        let busier = |a: usize, b: usize| loads[a] * u64::from(weights[b]) > loads[b] * u64::from(weights[a]);
        let able = (0..compared.len()).filter(|at| compared[*at] > 0);
        let least = able.reduce(|best, at| if busier(best, at) { at } else { best })?;
        for (at, weight) in compared.iter_mut().enumerate() {
            if *weight > 0 && busier(at, least) {
                *weight = 0;
            }
        }
        smooth(&mut self.current.borrow_mut(), &compared)
    }

    /// A number below `below`, which is not 0.
    fn draw(&self, below: usize) -> usize {
        let next = mix(self.random.get());
        self.random.set(next);
        usize::try_from(next % (below as u64)).unwrap_or_default()
    }
}

/// Smooth weighted round robin, as nginx does it: each turn everybody gains its weight, and whoever is furthest ahead
/// is chosen and pays for all. A server of weight 3 beside two of 1 has turns 1, 3 and 5 of five, not three at once.
fn smooth(current: &mut [i64], weights: &[u32]) -> Option<usize> {
    let mut total = 0;
    let mut best: Option<usize> = None;
    for (at, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0) {
        let weight = i64::from(*weight);
        total += weight;
        current[at] += weight;
        if best.is_none_or(|best| current[at] > current[best]) {
            best = Some(at);
        }
    }
    let best = best?;
    current[best] -= total;
    Some(best)
}

/// Weighted rendezvous hashing: every server draws a number for the key, better numbers for more weight, and the best
/// wins. When a server goes, its keys alone move, each to the server that was second for it; and they come back with
/// it.
#[expect(clippy::cast_precision_loss, reason = "53 bits of a hash are enough to order servers by")]
fn rendezvous(servers: impl Iterator<Item = u64>, weights: &[u32], key: u64) -> Option<usize> {
    let score = |(at, (hash, weight)): (usize, (u64, &u32))| {
        // In (0, 1): of the logarithm of a uniform number, divided by the weight, the largest is distributed by weight.
        let uniform = ((mix(hash ^ key) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        (at, uniform.ln() / f64::from(*weight))
    };
    let scores = servers.zip(weights).enumerate().filter(|(_, (_, weight))| **weight > 0).map(score);
    scores.max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(at, _)| at)
}

/// The key of a value: the same on every gateway, and after every restart.
pub fn key_of(value: &[u8]) -> u64 {
    // FNV-1a. Whoever picks values to burden one server can as well send many requests with one.
    let hash = value
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    mix(hash)
}

/// The finalizer of SplitMix64: every bit of the input changes half of the output.
pub(super) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(weights: &[u32], count: usize) -> Vec<usize> {
        let mut current = vec![0; weights.len()];
        (0..count).filter_map(|_| smooth(&mut current, weights)).collect()
    }

    #[test]
    fn turns_are_spread_smoothly_by_weight() {
        assert_eq!(turns(&[5, 1, 1], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(turns(&[1, 1, 1], 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(turns(&[2, 0, 1], 3), [0, 2, 0]);
        assert!(turns(&[0, 0], 3).is_empty());
        let mut counts = [0; 3];
        for at in turns(&[1000, 300, 1], 1301) {
            counts[at] += 1;
        }
        assert_eq!(counts, [1000, 300, 1]);
    }

    fn names(count: usize) -> Vec<u64> {
        (0..count).map(|at| key_of(format!("10.0.0.{at}:8080").as_bytes())).collect()
    }

    fn owners(weights: &[u32], keys: u64) -> Vec<usize> {
        let names = names(weights.len());
        (0..keys).map(|key| rendezvous(names.iter().copied(), weights, key_of(&key.to_be_bytes())).unwrap()).collect()
    }

    #[test]
    fn keys_are_shared_out_by_weight() {
        let owners = owners(&[100, 100, 300], 50_000);
        let share = |server| owners.iter().filter(|owner| **owner == server).count();
        for (server, expected) in [(0, 10_000), (1, 10_000), (2, 30_000)] {
            assert!(share(server).abs_diff(expected) < 600, "{server}: {}", share(server));
        }
    }

    #[test]
    fn only_the_keys_of_a_server_that_goes_away_move_and_they_come_back() {
        let (all, without) = (owners(&[100, 100, 300, 50], 20_000), owners(&[100, 0, 300, 50], 20_000));
        let mut heirs = [0; 4];
        for (before, after) in all.iter().zip(&without) {
            if *before == 1 {
                heirs[*after] += 1;
            } else {
                assert_eq!(before, after);
            }
        }
        // Its share falls to all others, by their weights.
        assert!(heirs[1] == 0 && heirs[2] > 2 * heirs[0] && heirs[0] > heirs[3] && heirs[3] > 0, "{heirs:?}");
        assert_eq!(all, owners(&[100, 100, 300, 50], 20_000));
        // As its share grows, what moves to it moves nowhere else.
        let half = owners(&[100, 50, 300, 50], 20_000);
        assert!(without.iter().zip(&half).all(|(before, after)| before == after || *after == 1));
    }

    #[test]
    fn the_key_of_a_value_never_changes() {
        // Gateways of different versions must agree.
        assert_eq!(key_of(b""), 0xc381_7c01_6ba4_ff30);
        assert_eq!(key_of(b"session"), 0x2fa1_5b15_b6f2_7f06);
    }

    fn balancer() -> Balancer {
        Balancer {
            kind: Kind::LeastRequests,
            uniform: false,
            next: Cell::new(0),
            current: RefCell::new(vec![0; 40]),
            random: Cell::new(7),
        }
    }

    #[test]
    fn the_least_busy_for_its_weight_is_chosen_and_equals_in_turn() {
        let balancer = balancer();
        let least = |weights: &[u32], loads: &[usize]| balancer.least(weights, |at| loads[at]);
        assert_eq!(least(&[100, 100, 100], &[3, 1, 2]), Some(1));
        // 4 of 300 is less than 2 of 100.
        assert_eq!(least(&[100, 300], &[2, 4]), Some(1));
        assert_eq!(least(&[100, 300], &[2, 7]), Some(0));
        assert_eq!(least(&[100, 0], &[9, 0]), Some(0));
        assert_eq!(least(&[0, 0], &[0, 0]), None);
        let mut seen = [0; 3];
        for _ in 0..30 {
            seen[least(&[100, 100, 100], &[0, 5, 0]).unwrap()] += 1;
        }
        assert_eq!(seen, [15, 0, 15]);
    }

    #[test]
    fn of_many_servers_the_better_of_two_is_taken() {
        let balancer = balancer();
        let mut loads = vec![0_usize; 40];
        for _ in 0..4000 {
            let at = balancer.least(&[100; 40], |at| loads[at]).unwrap();
            loads[at] += 1;
        }
        // Drawn one at a time they would be up to some 40 apart.
        assert!(loads.iter().all(|load| load.abs_diff(100) <= 6), "{loads:?}");
    }
}
