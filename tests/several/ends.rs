//! The end of a session, acknowledged by one gateway, at all the others.

use std::time::{Duration, Instant};

use crate::support::{Client, Gateways, Keep, Server, admin, alone, get, logout, shared};

/// How long after its acknowledgement an end may be unknown elsewhere.
pub(crate) const HEARD: Duration = Duration::from_millis(50);

#[test]
fn an_end_holds_at_every_gateway_50_ms_after_its_acknowledgement() {
    const ROUNDS: usize = 100;
    let _turn = alone();
    let redis = Server::start(Keep::EverySecond);
    let gateways = Gateways::start(3, &shared(&format!("redis = \"redis://{}\"", redis.address)));
    // Open before any of the sessions is; each knows the tokens it was shown.
    let mut open: Vec<_> = (0..3).map(|gateway| gateways.connect(gateway)).collect();
    let mut serve = |gateway: usize, access: &str| open[gateway].ask(get("/", Some(access)));
    for round in 0..ROUNDS {
        let (user, at) = (format!("ann-{round}"), round % 3);
        let (first, second) = (gateways.sign_in(at, &user), gateways.sign_in((at + 1) % 3, &user));
        for gateway in 0..3 {
            for access in [&first.access, &second.access] {
                let reply = serve(gateway, access);
                assert_eq!(reply.status, 200, "round {round}, gateway {gateway}: {}", reply.text());
            }
        }

        let reply = gateways.connect(at).ask(logout(&first.access));
        let acknowledged = Instant::now();
        assert_eq!(reply.status, 204, "{}", reply.text());
        assert_eq!(
            serve(at, &first.access).refusal(),
            (401, "signed_out".to_owned()),
            "at once where it was asked for"
        );
        std::thread::sleep((acknowledged + HEARD).saturating_duration_since(Instant::now()));
        for gateway in 0..3 {
            let told = serve(gateway, &first.access).refusal();
            assert_eq!(told, (401, "signed_out".to_owned()), "round {round}, gateway {gateway}, open connection");
            let told = gateways.connect(gateway).ask(get("/", Some(&first.access))).refusal();
            assert_eq!(told, (401, "signed_out".to_owned()), "round {round}, gateway {gateway}");
            assert_eq!(serve(gateway, &second.access).status, 200, "only that one");
        }

        let reply = Client::plain(gateways.admin((at + 2) % 3)).ask(admin::end_user(&user));
        let acknowledged = Instant::now();
        assert_eq!((reply.status, &reply.json()["ended"]), (200, &1.into()));
        std::thread::sleep((acknowledged + HEARD).saturating_duration_since(Instant::now()));
        for gateway in 0..3 {
            let told = serve(gateway, &second.access).refusal();
            assert_eq!(told, (401, "security_action".to_owned()), "round {round}, gateway {gateway}, open connection");
            let told = gateways.connect(gateway).ask(get("/", Some(&second.access))).refusal();
            assert_eq!(told, (401, "security_action".to_owned()), "round {round}, gateway {gateway}");
        }
    }
}
