//! First messages with bytes changed at random: whatever they come to, it comes soon, and others are served.

use std::time::{Duration, Instant};

use super::gateway;
use super::raw::*;
use crate::support::Backend;

/// A generator that gives the same again (xorshift64*).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).expect("31 bits") % bound
    }

    fn byte(&mut self) -> u8 {
        u8::try_from(self.below(256)).expect("a byte")
    }
}

fn mutated(seed: u64) -> Vec<u8> {
    // Seeds that are near each other must not begin alike.
    let mut dice = Dice((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let hello = if dice.below(2) == 0 { Hello::tls12() } else { Hello::tls13() };
    let mut bytes = match dice.below(4) {
        // The lengths of record and message are right, and what is in them is not.
        0 => {
            let mut body = hello.body();
            change(&mut body, &mut dice);
            record(HANDSHAKE, TLS10, message(1, body))
        }
        1 => hello.in_records(1 + dice.below(40)),
        _ => hello.bytes(),
    };
    change(&mut bytes, &mut dice);
    bytes
}

fn change(bytes: &mut Vec<u8>, dice: &mut Dice) {
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len());
        match dice.below(5) {
            0 => bytes.truncate(at + 1),
            1 => bytes.insert(at, dice.byte()),
            2 => drop(bytes.drain(at..(at + 1 + dice.below(8)).min(bytes.len() - usize::from(at == 0)).max(at))),
            3 => bytes[at] ^= 1 << dice.below(8),
            _ => bytes[at] = dice.byte(),
        }
    }
}

#[test]
fn changed_hellos_are_answered_or_closed_in_time_and_others_are_served() {
    let rounds = if std::env::var_os("PORTCULLIS_LONG_ATTACKS").is_some() { 100_000 } else { 3_000 };
    let backend = Backend::start();
    let gateway = gateway(&backend, "tls_handshake_timeout = \"250ms\"");
    let next = std::sync::atomic::AtomicU64::new(0);
    let failed = std::sync::Mutex::new(Vec::new());
    let kinds = std::sync::Mutex::new([0_usize; 4]);
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if seed >= rounds {
                        return;
                    }
                    let start = Instant::now();
                    // Longer than the deadline of the handshake: an open connection is a fault.
                    let outcome = say(gateway.address, &mutated(seed), Duration::from_secs(8));
                    let kind = match outcome {
                        Outcome::Alert(_) => 0,
                        Outcome::Chosen(_) => 1,
                        Outcome::Closed => 2,
                        Outcome::Waiting | Outcome::Odd(_) => {
                            failed.lock().unwrap().push(format!("seed {seed}: {outcome:?} in {:?}", start.elapsed()));
                            3
                        }
                    };
                    kinds.lock().unwrap()[kind] += 1;
                }
            });
        }
    });
    let (failed, [alerts, chosen, closed, _]) = (failed.into_inner().unwrap(), kinds.into_inner().unwrap());
    println!("changed hellos: {rounds}: {alerts} alerts, {chosen} good all the same, {closed} closed in time");
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(alerts > 0 && chosen > 0 && closed > 0);
    assert!(backend.saw_nothing());
    assert_eq!(gateway.connect().ask("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
}
