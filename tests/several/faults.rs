//! What breaks while three gateways are under load: the answers stay right, and afterwards all is as before.

use std::time::{Duration, Instant};

use crate::support::{
    Client, Cluster, Disturbance, Gateways, Keep, Load, Relay, Server, Toml, admin, get, in_turn, logout, refresh,
    shared,
};

/// Before a fault, and again afterwards.
const CALM: Duration = Duration::from_secs(2);

/// How long something is away; with `PORTCULLIS_LONG_FAULTS` in the environment, 20 s.
fn outage() -> Duration {
    Duration::from_secs(if std::env::var_os("PORTCULLIS_LONG_FAULTS").is_some() { 20 } else { 8 })
}

/// Three gateways. A refresh that was carried out unanswered is asked for again when the store is back, so the grace period
/// is longer than that takes.
fn gateways(store: &str) -> Gateways {
    let toml = shared(&format!("{store}\nmax_revocation_lag = \"2s\"\ntimeout = \"1s\""));
    Gateways::start(3, &Toml { session: "refresh_grace = \"60s\"\n".into(), ..toml })
}

fn url(redis: &Server) -> String {
    format!("redis = \"redis://{}\"", redis.address)
}

/// Waits until the gateways have heard of everything, then lets the load go on for a while.
fn recover(gateways: &Gateways, load: &Load) {
    gateways.wait_until_fresh();
    load.calm();
    std::thread::sleep(CALM);
}

#[test]
fn redis_away_for_a_while_and_back_with_its_data() {
    let _turn = in_turn();
    let mut redis = Server::start(Keep::Always);
    let gateways = gateways(&url(&redis));
    let load = Load::start(&gateways);
    std::thread::sleep(CALM);
    load.disturb(Disturbance::Store);
    redis.stop();
    std::thread::sleep(outage());
    for gateway in 0..3 {
        assert_eq!(gateways.metric(gateway, "portcullis_store_reachable"), Some(0.0));
        let lag = gateways.metric(gateway, "portcullis_revocation_lag_seconds").unwrap();
        assert!(lag > outage().as_secs_f64() - 2.0, "{lag}");
    }
    redis.start_again();
    recover(&gateways, &load);
    let stale = load.count("strict", "503 revocations_stale");
    load.finish("redis stopped and started");
    assert!(stale > 0, "no request was refused for what the gateways could not know");
}

#[test]
fn redis_away_for_a_while_and_back_without_its_data() {
    let _turn = in_turn();
    let mut redis = Server::start(Keep::Nothing);
    let mut gateways = gateways(&url(&redis));
    let load = Load::start(&gateways);
    let (before, lost) = (gateways.sign_in(0, "ann"), gateways.sign_in(1, "ann"));
    assert_eq!(gateways.connect(0).ask(logout(&before.access)).status, 204);
    std::thread::sleep(CALM);
    load.disturb(Disturbance::StoreLost);
    redis.stop();
    std::thread::sleep(outage() / 2);
    redis.lose_data();
    redis.start_again();
    recover(&gateways, &load);

    let reply = gateways.connect(2).ask(refresh(&lost.refresh));
    assert_eq!(reply.refusal(), (400, "session_ended".to_owned()), "{}", reply.text());
    // The revocations were put back: one that starts now knows them too, though it has lived through nothing.
    load.disturb(Disturbance::Gateway(1));
    gateways.kill(1);
    gateways.start_again(1);
    for path in ["/", "/strict"] {
        let told = gateways.connect(1).ask(get(path, Some(&before.access))).refusal();
        assert_eq!(told, (401, "signed_out".to_owned()), "{path}");
    }
    recover(&gateways, &load);
    load.finish("redis started without its data");
}

#[test]
fn connections_to_redis_cut_before_and_in_the_middle_of_replies() {
    let _turn = in_turn();
    let redis = Server::start(Keep::EverySecond);
    let relay = Relay::start(redis.address);
    let gateways = gateways(&format!("redis = \"redis://{}\"", relay.address));
    let load = Load::start(&gateways);
    std::thread::sleep(CALM);
    load.disturb(Disturbance::Store);
    let start = Instant::now();
    while start.elapsed() < outage() {
        relay.cut_replies(3);
        std::thread::sleep(Duration::from_millis(60));
    }
    relay.cut_replies(0);
    // Then every connection at once.
    relay.cut_all();
    recover(&gateways, &load);
    println!("{} replies cut", relay.cut());
    assert!(relay.cut() > 100, "hardly anything was cut: {}", relay.cut());
    load.finish("connections cut");
}

#[test]
fn redis_behind_a_network_that_loses_everything_for_a_while() {
    let _turn = in_turn();
    let redis = Server::start(Keep::EverySecond);
    let relay = Relay::start(redis.address);
    let gateways = gateways(&format!("redis = \"redis://{}\"", relay.address));
    let load = Load::start(&gateways);
    relay.delay(Duration::from_millis(5));
    std::thread::sleep(CALM);
    load.disturb(Disturbance::Store);
    relay.mute(true);
    std::thread::sleep(outage() / 2);
    relay.mute(false);
    relay.delay(Duration::ZERO);
    recover(&gateways, &load);
    load.finish("nothing got through");
}

#[test]
fn redis_standing_still_for_a_while() {
    let _turn = in_turn();
    let redis = Server::start(Keep::EverySecond);
    let gateways = gateways(&url(&redis));
    let load = Load::start(&gateways);
    std::thread::sleep(CALM);
    load.disturb(Disturbance::Store);
    redis.pause();
    std::thread::sleep(outage());
    redis.resume();
    recover(&gateways, &load);
    let stale = load.count("strict", "503 revocations_stale");
    load.finish("redis stood still");
    assert!(stale > 0, "no request was refused for what the gateways could not know");
}

#[test]
fn a_gateway_that_stood_still_accepts_nothing_that_ended_meanwhile() {
    const ASLEEP: usize = 1;
    let _turn = in_turn();
    let redis = Server::start(Keep::EverySecond);
    let gateways = gateways(&url(&redis));
    let load = Load::start(&gateways);
    let sessions: Vec<_> = (0..8).map(|number| gateways.sign_in(number % 3, "ann")).collect();
    let mut open: Vec<_> = sessions
        .iter()
        .map(|tokens| {
            let mut client = gateways.connect(ASLEEP);
            assert_eq!(client.ask(get("/strict", Some(&tokens.access))).status, 200);
            client
        })
        .collect();
    std::thread::sleep(CALM);
    load.disturb(Disturbance::Gateway(ASLEEP));
    // Let the chains finish what they have asked of it: a client that gave up, went on elsewhere and whose request is then
    // carried out after all looks like a thief.
    std::thread::sleep(Duration::from_millis(300));
    gateways.pause(ASLEEP);
    std::thread::sleep(outage() / 2);
    for tokens in &sessions {
        assert_eq!(gateways.connect(0).ask(logout(&tokens.access)).status, 204);
    }
    std::thread::sleep(outage() / 2);
    // They wait in its sockets, and are the first it sees.
    for (client, tokens) in open.iter_mut().zip(&sessions) {
        client.send(get("/strict", Some(&tokens.access)));
    }
    gateways.resume(ASLEEP);
    for client in &mut open {
        let refusal = client.reply().refusal();
        let right =
            [(401, "signed_out"), (503, "revocations_stale")].map(|(status, reason)| (status, reason.to_owned()));
        assert!(right.contains(&refusal), "{refusal:?}");
    }
    recover(&gateways, &load);
    load.finish("a gateway stood still");
}

#[test]
fn a_gateway_killed_and_started_again() {
    const KILLED: usize = 2;
    let _turn = in_turn();
    let redis = Server::start(Keep::EverySecond);
    let mut gateways = gateways(&url(&redis));
    let load = Load::start(&gateways);
    for _ in 0..3 {
        std::thread::sleep(CALM);
        load.disturb(Disturbance::Gateway(KILLED));
        gateways.kill(KILLED);
        let ended = load.end_one(0);
        std::thread::sleep(Duration::from_millis(500));
        gateways.start_again(KILLED);
        // It is ready when it knows all that ended, also while it was away.
        let told = gateways.connect(KILLED).ask(get("/", Some(&ended))).refusal();
        assert!(told.0 == 401, "{told:?}");
        recover(&gateways, &load);
    }
    load.finish("a gateway killed");
}

#[test]
fn a_cluster_loses_a_primary_while_sessions_rotate() {
    let _turn = in_turn();
    let mut cluster = Cluster::start();
    let seeds: Vec<_> = cluster.addresses().iter().map(|node| format!("\"redis://{node}\"")).collect();
    let gateways = gateways(&format!("redis = [{}]\ntopology = \"cluster\"\nreplicas = 1", seeds.join(", ")));
    let load = Load::start(&gateways);
    std::thread::sleep(CALM);
    load.disturb(Disturbance::Store);
    let start = Instant::now();
    let gone = cluster.fail_over();
    println!("a replica was promoted after {:.1?}", start.elapsed());
    // It comes back as the replica that its successor needs for `replicas = 1`.
    cluster.nodes[gone].start_again();
    cluster.wait_until_whole();
    recover(&gateways, &load);
    load.finish("a primary of the cluster killed");
}

#[test]
fn a_gateway_starts_only_once_it_knows_what_has_ended() {
    let _turn = in_turn();
    let mut redis = Server::start(Keep::Always);
    let mut gateways = gateways(&url(&redis));
    let ended = gateways.sign_in(0, "ann");
    assert_eq!(Client::plain(gateways.admin(0)).ask(admin::end(&ended.session)).status, 204);
    gateways.kill(1);
    redis.stop();

    let start = Instant::now();
    let text = gateways.fails_to_start(&shared(&url(&redis)), &[]);
    assert!(text.contains(&redis.address.to_string()), "it says where it looked: {text}");
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());

    redis.start_again();
    gateways.start_again(1);
    for path in ["/", "/strict"] {
        assert_eq!(gateways.connect(1).ask(get(path, Some(&ended.access))).refusal().1, "security_action", "{path}");
    }
}
