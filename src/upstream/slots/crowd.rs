//! Many threads at once for a few places: never more in than there is room, nobody forgotten, nothing left behind.

use std::sync::atomic::AtomicUsize;

use super::*;
use crate::upstream::shared::tests::upstream;

/// Numbers that are the same in every run of a seed (SplitMix64).
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

const SERVERS: usize = 2;
const ROOM: usize = 2;
const THREADS: usize = 6;

/// Comes in at once or waits for its turn, as a request does; gives up waiting now and then.
async fn come_in(upstream: &Arc<SharedUpstream>, random: &mut Random, seat: usize) -> Option<Slot> {
    let only = (random.below(3) == 0).then(|| usize::try_from(random.below(SERVERS as u64)).unwrap());
    loop {
        let servers = only.map_or(0..SERVERS, |only| only..only + 1);
        if let Some(slot) = servers.clone().find_map(|server| try_open(upstream, server)) {
            return Some(slot);
        }
        let full: Vec<_> = servers.collect();
        let mut waiting = wait(upstream, seat, only, &full).expect("room to wait");
        let patient = random.below(4) > 0;
        let patience = Duration::from_micros(if patient { 20_000_000 } else { random.below(300) });
        match tokio::time::timeout(patience, waiting.granted()).await {
            Ok(Granted::Slot(slot)) => return Some(slot),
            Ok(Granted::Again) => {}
            Ok(Granted::Connection) => unreachable!("no worker keeps connections here"),
            Err(_) if patient => panic!("waited for ever"),
            // Perhaps in the very moment when its turn has come.
            Err(_) => return None,
        }
    }
}

fn run(seed: u64, turns: usize) -> usize {
    let upstream = upstream(SERVERS, |config| {
        config.connections.max = Some(ROOM.try_into().unwrap());
        config.connections.queue = 100.try_into().unwrap();
    });
    let inside: [AtomicUsize; SERVERS] = Default::default();
    let came = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for seat in 0..THREADS {
            let (upstream, inside, came) = (&upstream, &inside, &came);
            scope.spawn(move || {
                let mut random = Random(seed * 1000 + seat as u64);
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                runtime.block_on(async {
                    for _ in 0..turns {
                        let Some(slot) = come_in(upstream, &mut random, seat).await else { continue };
                        let server = slot.server();
                        let now = inside[server].fetch_add(1, SeqCst) + 1;
                        assert!(now <= ROOM, "seed {seed}: {now} in room for {ROOM}");
                        for _ in 0..random.below(4) {
                            tokio::task::yield_now().await;
                            std::thread::yield_now();
                        }
                        inside[server].fetch_sub(1, SeqCst);
                        came.fetch_add(1, SeqCst);
                        drop(slot);
                    }
                });
            });
        }
        scope.spawn(|| {
            // Checks fail and pass meanwhile, for one of the servers.
            for _ in 0..turns / 4 {
                upstream.slots.shut(0);
                std::thread::yield_now();
                upstream.slots.reopen(0);
                std::thread::yield_now();
            }
        });
    });
    let left: Vec<_> = (0..SERVERS).map(|server| upstream.slots.open(server)).collect();
    assert_eq!((left, upstream.slots.waiting()), (vec![0; SERVERS], 0), "seed {seed}");
    came.into_inner()
}

#[test]
fn never_more_than_there_is_room_for_and_nobody_waits_for_ever() {
    let long = std::env::var("PORTCULLIS_LONG_ATTACKS").is_ok_and(|value| value == "1");
    let seeds = if long { 500 } else { 10 };
    let came: usize = (0..seeds).map(|seed| run(seed, 200)).sum();
    println!("places: {seeds} crowds of {THREADS}, {came} came in");
    assert!(came > 100);
}
