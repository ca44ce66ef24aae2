//! What is acknowledged stays, whatever happens to the machine: the real program on a disk whose power can be cut, that
//! refuses, or that somebody clears away.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod disk;
mod faults;
mod order;
mod power_cuts;
#[expect(dead_code, unused_imports, reason = "shared with the tests of the gateway, which use more of it")]
#[path = "../gateway/support/mod.rs"]
mod support;

/// Whether to take the time that the full numbers need.
fn long() -> bool {
    std::env::var("PORTCULLIS_LONG_ATTACKS").is_ok_and(|value| value == "1")
}

/// The same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
