//! Idle sessions: used at one gateway is used at all of them.

use std::time::{Duration, Instant};

use crate::support::{Gateways, Keep, Server, Toml, get, in_turn, refresh, shared};

#[test]
fn a_session_used_at_one_gateway_is_not_idle_at_another() {
    let _turn = in_turn();
    let redis = Server::start(Keep::EverySecond);
    let toml = shared(&format!("redis = \"redis://{}\"", redis.address));
    let gateways = Gateways::start(3, &Toml { session: "idle_timeout = \"2s\"\n".into(), ..toml });
    let mut clients: Vec<_> = (0..3).map(|gateway| gateways.connect(gateway)).collect();
    let used = gateways.sign_in(0, "ann");
    let unused: Vec<_> = (0..4).map(|number| gateways.sign_in(number % 3, "ann")).collect();
    let signed_in = Instant::now();
    // Known everywhere: from now on the other two hear of no request of it but through the store.
    for client in &mut clients {
        assert_eq!(client.ask(get("/", Some(&used.access))).status, 200);
    }

    // Every moment at which another gateway may take it for idle comes by, and each asks it once.
    let mut asked = [false; 3];
    while signed_in.elapsed() < Duration::from_millis(9500) {
        assert_eq!(clients[0].ask(get("/", Some(&used.access))).status, 200, "after {:?}", signed_in.elapsed());
        for (gateway, after) in [(1, 6000), (2, 9000)] {
            if !asked[gateway] && signed_in.elapsed() > Duration::from_millis(after) {
                asked[gateway] = true;
                let reply = clients[gateway].ask(get("/", Some(&used.access)));
                assert_eq!(reply.status, 200, "gateway {gateway}: {}", reply.text());
            }
        }
        std::thread::sleep(Duration::from_millis(100));
    }

    // Each is asked for at another gateway first.
    for (number, one) in unused.iter().enumerate() {
        for next in 0..3 {
            let gateway = (number + next) % 3;
            let told = clients[gateway].ask(get("/", Some(&one.access))).refusal();
            assert_eq!(told, (401, "session_idle".to_owned()), "gateway {gateway}");
            let told = clients[gateway].ask(refresh(&one.refresh)).refusal();
            assert_eq!(told, (400, "session_idle".to_owned()), "gateway {gateway}");
        }
    }
    // And so is the first one, once it is not used.
    std::thread::sleep(Duration::from_millis(3200));
    for gateway in [1, 2, 0] {
        let told = clients[gateway].ask(get("/", Some(&used.access))).refusal();
        assert_eq!(told, (401, "session_idle".to_owned()), "gateway {gateway}");
    }
}
