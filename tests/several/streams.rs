//! What is open at one gateway ends with its session, whichever gateway the session was ended at.

use std::time::{Duration, Instant};

use crate::support::{Client, Gateways, Keep, Server, Switching, Toml, admin, alone, handshake, logout, shared};

/// Feed, two looks, and what else the machine does.
const SOON: Duration = Duration::from_secs(3);

#[test]
fn a_websocket_is_closed_when_its_session_is_ended_at_another_gateway() {
    let _turn = alone();
    let redis = Server::start(Keep::EverySecond);
    let backend = Switching::start();
    let toml = shared(&format!("redis = \"redis://{}\"", redis.address));
    let websockets = format!(
        "[upstream.websockets]\nservers = [\"http://{}\"]\n[[route]]\npath = \"/chat\"\nupstream = \"websockets\"\n",
        backend.address
    );
    let gateways = Gateways::start(3, &Toml { rest: toml.rest.clone() + &websockets, ..toml });
    let first = gateways.sign_in(0, "ann");
    let second = gateways.sign_in(1, "ann");
    let open = |gateway: usize, access: &str| {
        let mut client = gateways.connect(gateway);
        assert_eq!(client.ask(handshake("/chat/echo", Some(access))).status, 101);
        client
    };
    let mut of_first: Vec<_> = (0..3).map(|gateway| open(gateway, &first.access)).collect();
    let mut of_second: Vec<_> = (0..3).map(|gateway| open(gateway, &second.access)).collect();

    let start = Instant::now();
    assert_eq!(gateways.connect(0).ask(logout(&first.access)).status, 204);
    for client in &mut of_first {
        assert_eq!(client.drained().expect("closed"), b"\x88\x0c\x03\xf0signed_out");
    }
    println!("closed at 3 gateways within {:?} of the logout at one", start.elapsed());
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());

    for client in &mut of_second {
        client.send(b"\x81\x80\0\0\0\0");
        assert_eq!(client.until(b"\x81\x80\0\0\0\0").unwrap().len(), 6, "only that session's");
    }
    let start = Instant::now();
    assert_eq!(Client::plain(gateways.admin(2)).ask(admin::end_user("ann")).status, 200);
    for client in &mut of_second {
        assert_eq!(client.drained().expect("closed"), b"\x88\x11\x03\xf0security_action");
    }
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}
