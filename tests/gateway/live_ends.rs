//! What is open ends with its session, soon.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use portcullis::clock::{LEEWAY, UnixTime};
use portcullis::ids::UserId;
use portcullis::revocation::EndReason;
use portcullis::session::NewSession;

use crate::support::{Answer, Backend, Client, Gateway, Switching, Toml, connect_http2, get, handshake, refresh};
use crate::upgrades::text_frame;

/// How soon. It takes two looks, 0.4 s, on a machine that does nothing else; here other tests run at the same time.
const SOON: Duration = Duration::from_secs(3);
/// Longer than anything here would be left open by mistake for.
const A_WHILE: Duration = Duration::from_millis(1500);

fn open(gateway: &Gateway, path: &str, token: &str) -> Client {
    let mut client = gateway.connect();
    let reply = client.ask(handshake(path, Some(token)));
    assert_eq!(reply.status, 101, "{}", reply.text());
    client
}

/// The close frame that is the last the client gets, and how long after `start` the connection was closed.
fn closed(client: &mut Client, start: Instant) -> (String, Duration) {
    let bytes = client.drained().expect("closed");
    let Some([0x88, length, 0x03, 0xf0, reason @ ..]) = bytes.get(..) else { panic!("no close frame 1008: {bytes:?}") };
    assert_eq!(usize::from(*length), 2 + reason.len());
    (String::from_utf8(reason.to_vec()).unwrap(), start.elapsed())
}

fn still_open(client: &mut Client) {
    client.send(text_frame("still"));
    assert_eq!(client.until(b"still").unwrap(), text_frame("still"));
}

#[test]
fn a_websocket_is_closed_with_the_reason_its_session_ended_for_and_no_other_is() {
    let backend = Switching::start();
    let gateway = Gateway::with(&Toml::default(), &[backend.address]);
    let [mine, other, same_user] = ["ann", "bob", "ann"].map(|user| gateway.sign_in(user));
    let mut websocket = open(&gateway, "/echo", &mine.access_token);
    let mut others = [&other, &same_user].map(|pair| open(&gateway, "/echo", &pair.access_token));

    // A refresh is no end.
    let reply = gateway.connect().ask(refresh(&mine.refresh_token));
    assert_eq!(reply.status, 200);
    std::thread::sleep(A_WHILE);
    still_open(&mut websocket);

    let token = reply.json()["access_token"].as_str().unwrap().to_owned();
    let start = Instant::now();
    let logout = format!(
        "POST /auth/logout HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(gateway.connect().ask(logout).status, 204);
    let (reason, after) = closed(&mut websocket, start);
    assert_eq!(reason, "signed_out");
    assert!(after < SOON, "{after:?}");
    others.iter_mut().for_each(still_open);

    let start = Instant::now();
    gateway.end(same_user.session, EndReason::SecurityAction);
    let (reason, after) = closed(&mut others[1], start);
    assert_eq!(reason, "security_action");
    assert!(after < SOON, "{after:?}");
    still_open(&mut others[0]);
    // The gauge is written a few times a second.
    let start = Instant::now();
    while gateway.app().gateway().metrics.open_streams() != 1 {
        assert!(start.elapsed() < SOON, "a stream that has ended keeps its place");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_websocket_is_closed_when_its_session_is_replaced_idle_or_too_old() {
    let backend = Switching::start();
    let toml = |session: &str| Toml { session: session.into(), ..Toml::default() };

    let gateway = Gateway::with(&toml("max_per_user = 1\n"), &[backend.address]);
    let first = gateway.sign_in("ann");
    let mut websocket = open(&gateway, "/echo", &first.access_token);
    let start = Instant::now();
    gateway.sign_in("ann");
    let (reason, after) = closed(&mut websocket, start);
    assert_eq!(reason, "signed_in_elsewhere");
    assert!(after < SOON, "{after:?}");

    // Requests keep it alive, traffic in the WebSocket does not.
    let gateway = Gateway::with(&toml("idle_timeout = \"2s\"\n"), &[backend.address]);
    let pair = gateway.sign_in("ann");
    let mut websocket = open(&gateway, "/echo", &pair.access_token);
    for _ in 0..3 {
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(gateway.connect().ask(get("/plain", Some(&pair.access_token))).status, 200);
        still_open(&mut websocket);
    }
    let start = Instant::now();
    let (reason, after) = closed(&mut websocket, start);
    assert_eq!(reason, "session_idle");
    assert!(after > Duration::from_millis(1500) && after < Duration::from_secs(2) + SOON, "{after:?}");

    let gateway = Gateway::with(&toml("max_lifetime = \"2s\"\n"), &[backend.address]);
    let start = Instant::now();
    let pair = gateway.sign_in("ann");
    let mut websocket = open(&gateway, "/echo", &pair.access_token);
    let (reason, after) = closed(&mut websocket, start);
    assert_eq!(reason, "session_max_age");
    assert!(after >= Duration::from_secs(2) && after < Duration::from_secs(2) + SOON, "{after:?}");
}

#[test]
fn an_expired_token_closes_what_it_opened_unless_the_route_keeps_it() {
    let backend = Switching::start();
    let toml = Toml {
        rest: Toml::default().rest + "[[route]]\npath = \"/keep\"\nupstream = \"app\"\non_token_expiry = \"keep\"\n",
        ..Toml::default()
    };
    let gateway = Gateway::with(&toml, &[backend.address]);
    // Its token expires, leeway included, in about 2 s.
    let long_ago = UnixTime::now().minus(Duration::from_secs(3600) + LEEWAY - Duration::from_secs(2));
    let sessions = gateway.app().gateway().sessions.clone();
    let new = NewSession { user: UserId::parse("ann").unwrap(), label: None, claims: None };
    let pair = gateway.app().block_on(async move { sessions.sign_in(new, long_ago).await }).unwrap();
    let mut closing = open(&gateway, "/echo", &pair.access_token);
    let mut kept = open(&gateway, "/keep/echo", &pair.access_token);
    let start = Instant::now();
    let (reason, after) = closed(&mut closing, start);
    assert_eq!(reason, "token_expired");
    assert!(after > Duration::from_millis(900) && after < Duration::from_secs(3) + SOON, "{after:?}");
    std::thread::sleep(A_WHILE);
    still_open(&mut kept);
    // The end of the session is another matter.
    let start = Instant::now();
    gateway.end(pair.session, EndReason::SignedOut);
    assert_eq!(closed(&mut kept, start).0, "signed_out");
}

#[test]
fn a_close_frame_never_stands_within_a_frame() {
    let backend = Switching::start();
    let gateway = Gateway::with(&Toml::default(), &[backend.address]);
    let pair = gateway.sign_in("ann");
    let mut flooded = open(&gateway, "/flood", &pair.access_token);
    let mut half = open(&gateway, "/half", &pair.access_token);
    assert_eq!(half.until(b"9").unwrap(), b"\x82\x640123456789");
    let reader = std::thread::spawn(move || flooded.drained().expect("closed"));
    std::thread::sleep(Duration::from_millis(100));
    let start = Instant::now();
    gateway.end(pair.session, EndReason::SignedOut);
    let bytes = reader.join().unwrap();
    let (frames, rest) = bytes.as_chunks::<4100>();
    assert!(
        frames.iter().all(|frame| frame.starts_with(b"\x82\x7e\x10\x00") && frame[4..].iter().all(|byte| *byte == 7))
    );
    assert_eq!(rest, b"\x88\x0c\x03\xf0signed_out");
    // The rest of this frame never comes: the connection just ends.
    assert_eq!(half.drained().expect("closed"), b"");
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

/// An event every 50 ms, 100 MB as fast as they are taken, an answer after a while, or at once.
fn lasting() -> Backend {
    Backend::answering(|seen| {
        let head =
            |kind: &str| format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n");
        let chunk = |bytes: &[u8]| [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat();
        if seen.line.contains("/events") {
            let event = (Duration::from_millis(50), chunk(b"data: x\n\n"));
            let first = (Duration::ZERO, head("text/event-stream").into_bytes());
            Answer::Slowly(std::iter::once(first).chain(std::iter::repeat_n(event, 200)).collect())
        } else if seen.line.contains("/download") {
            let megabyte = (Duration::ZERO, chunk(&[7; 1 << 20]));
            let first = (Duration::ZERO, head("application/octet-stream").into_bytes());
            Answer::Slowly(std::iter::once(first).chain(std::iter::repeat_n(megabyte, 100)).collect())
        } else if seen.line.starts_with("POST") {
            // The body comes a little after its header, as of many servers.
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n".to_vec();
            Answer::Slowly(vec![(Duration::from_millis(1500), head), (Duration::from_millis(250), b"changed".to_vec())])
        } else if seen.line.contains("/late") {
            let Answer::Bytes(late) = Answer::ok("late") else { unreachable!() };
            Answer::Slowly(vec![(Duration::from_millis(1500), late)])
        } else {
            Answer::ok("now")
        }
    })
}

#[test]
fn event_streams_and_downloads_are_cut_and_can_be_told_from_whole_ones() {
    let backend = lasting();
    let gateway = Gateway::start(&backend);
    let (pair, other) = (gateway.sign_in("ann"), gateway.sign_in("bob"));
    let open = |path: &str, token: &str| {
        let mut client = gateway.connect();
        client.send(get(path, Some(token)));
        client.until(b"\r\n\r\n").unwrap();
        client
    };
    let mut events = open("/events", &pair.access_token);
    let mut download = open("/download", &pair.access_token);
    let mut others = open("/events", &other.access_token);
    std::thread::sleep(Duration::from_millis(600));
    let start = Instant::now();
    gateway.end(pair.session, EndReason::SignedOut);
    let got = events.drained().expect("closed");
    let after = start.elapsed();
    assert!(after < SOON, "{after:?}");
    assert!(!got.ends_with(b"0\r\n\r\n"), "it must not look whole");
    // It read nothing until now: what the system had taken is all that comes.
    let got = download.drained().expect("closed");
    assert!(got.len() < 50 << 20, "{}", got.len());
    // Bob's goes on.
    for _ in 0..25 {
        others.until(b"data: x\n\n").unwrap();
    }
}

#[test]
fn streams_of_an_http2_connection_are_cut_one_by_one() {
    let backend = lasting();
    let gateway = Gateway::start(&backend);
    let (pair, other) = (gateway.sign_in("ann"), gateway.sign_in("bob"));
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut sender = connect_http2(gateway.address, &gateway.place.path("cert.pem")).await;
        let mut ask = async |path: &str, token: &str| {
            let request = Request::get(format!("https://localhost{path}"))
                .header("authorization", format!("Bearer {token}"))
                .body(Empty::<Bytes>::new())
                .unwrap();
            sender.send_request(request).await.unwrap()
        };
        let mut events = ask("/events", &pair.access_token).await.into_body();
        // Its window fills and nobody opens it again.
        let mut download = ask("/download", &pair.access_token).await.into_body();
        let mut others = ask("/events", &other.access_token).await.into_body();
        tokio::time::sleep(Duration::from_millis(600)).await;
        let start = Instant::now();
        let sessions = gateway.app().gateway().sessions.clone();
        let id = pair.session;
        let end = async move { sessions.end(id, EndReason::SignedOut, UnixTime::now()).await };
        assert!(gateway.app().gateway().control.spawn(end).await.unwrap().unwrap());
        let error = loop {
            if let Err(error) = events.frame().await.expect("an error before its end") {
                break error;
            }
        };
        assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");
        assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
        let mut got = 0;
        let error = loop {
            match download.frame().await.expect("an error before its end") {
                Ok(frame) => got += frame.data_ref().map_or(0, Bytes::len),
                Err(error) => break error,
            }
        };
        assert!(format!("{error:?}").contains("CANCEL"), "{error:?}");
        assert!(got < 50 << 20, "{got}");
        for _ in 0..25 {
            others.frame().await.unwrap().unwrap();
        }
        assert_eq!(ask("/now", &other.access_token).await.status(), 200);
        assert_eq!(ask("/now", &pair.access_token).await.status(), 401);
    });
}

#[test]
fn a_long_poll_that_outlasts_its_session_gets_a_refusal_and_a_change_its_answer() {
    let backend = lasting();
    let gateway = Gateway::start(&backend);
    let pair = gateway.sign_in("ann");
    let (mut poll, mut change) = (gateway.connect(), gateway.connect());
    poll.send(get("/late", Some(&pair.access_token)));
    // Such as a change of the password, whose backend ends the user's sessions.
    change.send(get("/password", Some(&pair.access_token)).replace("GET", "POST"));
    backend.next();
    backend.next();
    gateway.end(pair.session, EndReason::SecurityAction);
    assert_eq!(poll.reply().refusal(), (401, "security_action".to_owned()));
    assert_eq!(change.reply().text(), "changed");
    // What was found of one request of a connection says nothing of the next one's user.
    let other = gateway.sign_in("bob");
    assert_eq!(poll.ask(get("/late", Some(&other.access_token))).text(), "late");
}

#[test]
fn an_upload_that_is_not_whole_when_its_session_ends_is_refused() {
    // It reads all of a body before it answers.
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    for pieces_go_on in [false, true] {
        let pair = gateway.sign_in("ann");
        let mut upload = gateway.connect();
        let head = "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n";
        upload.send(format!("{head}Authorization: Bearer {}\r\n\r\n4\r\nhalf\r\n", &*pair.access_token));
        std::thread::sleep(Duration::from_millis(100));
        let start = Instant::now();
        gateway.end(pair.session, EndReason::SignedOut);
        // The gateway may close before the last of them.
        while pieces_go_on && start.elapsed() < SOON && upload.try_send("4\r\nmore\r\n").is_ok() {
            std::thread::sleep(Duration::from_millis(5));
        }
        if !pieces_go_on {
            assert_eq!(upload.reply().refusal(), (401, "signed_out".to_owned()));
        }
        assert!(upload.drained().is_some() && start.elapsed() < SOON, "{:?}", start.elapsed());
    }
    assert!(backend.saw_nothing(), "neither was whole");
}
