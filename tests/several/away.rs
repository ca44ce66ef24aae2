//! The store is away: who is served, what readiness says, and how fast.

use std::time::{Duration, Instant};

use crate::support::{Client, Gateways, Keep, Server, Toml, admin, eventually, get, in_turn, refresh, shared};

fn ready(gateways: &Gateways) -> (u16, serde_json::Value) {
    let reply = Client::plain(gateways.admin(0)).ask("GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n");
    (reply.status, reply.json())
}

#[test]
fn what_memory_has_nothing_against_is_served_and_what_only_the_store_knows_is_503() {
    let _turn = in_turn();
    let mut redis = Server::start(Keep::EverySecond);
    let toml = shared(&format!("redis = \"redis://{}\"\nmax_revocation_lag = \"1s\"", redis.address));
    let gateways = Gateways::start(2, &Toml { session: "idle_timeout = \"1h\"\n".into(), ..toml });
    // Never seen by the second gateway until the store is gone.
    let [ann, eve] = ["ann", "eve"].map(|user| gateways.sign_in(0, user));
    let (status, json) = ready(&gateways);
    assert_eq!((status, &json["status"]), (200, &"ready".into()));
    assert!(json["revocation_lag_seconds"].as_f64().is_some_and(|lag| lag < 2.0), "{json}");

    redis.kill();
    let mut second = gateways.connect(1);
    eventually("the lag passes its limit", Duration::from_secs(10), || {
        (second.ask(get("/strict", Some(&ann.access))).refusal() == (503, "revocations_stale".to_owned())).then_some(())
    });
    assert_eq!(second.ask(get("/", Some(&eve.access))).status, 200);
    assert_eq!(second.ask(get("/public", None)).status, 200);
    // A forged or missing token is what it was.
    assert_eq!(second.ask(get("/strict", None)).status, 401);
    for request in [refresh(&ann.refresh), crate::support::logout(&ann.access)] {
        let start = Instant::now();
        let reply = second.ask(request);
        assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{}", reply.text());
        assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    }
    let reply = Client::plain(gateways.admin(1)).ask(admin::sign_in("zoe"));
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("1")), "{}", reply.text());
    let json = eventually("readiness tells", Duration::from_secs(10), || {
        let (status, json) = ready(&gateways);
        (status == 200 && json["status"] == "degraded" && json["warnings"].as_array()?.len() == 2).then_some(json)
    });
    assert!(json["warnings"][0].as_str().unwrap().starts_with("store: cannot reach the session store"), "{json}");

    redis.start_again();
    gateways.wait_until_fresh();
    assert_eq!(second.ask(get("/strict", Some(&ann.access))).status, 200);
    assert_eq!(ready(&gateways).1["status"], "ready");
}

#[test]
fn a_gateway_whose_every_route_refuses_is_not_ready_while_the_store_is_away() {
    let _turn = in_turn();
    let mut redis = Server::start(Keep::EverySecond);
    let toml = shared(&format!("redis = \"redis://{}\"\nmax_revocation_lag = \"1s\"", redis.address));
    let strict = "[[route]]\npath = \"/\"\nupstream = \"app\"\nwhen_stale = \"refuse\"\n";
    let gateways = Gateways::start(1, &Toml { rest: strict.into(), ..toml });
    assert_eq!(ready(&gateways).0, 200);
    redis.kill();
    let json = eventually("it is not ready", Duration::from_secs(15), || {
        let (status, json) = ready(&gateways);
        (status == 503 && json["faults"].as_array()?.len() == 1).then_some(json)
    });
    assert_eq!(json["status"], "not_ready");
    redis.start_again();
    eventually("it is ready again", Duration::from_secs(15), || (ready(&gateways).0 == 200).then_some(()));
}
