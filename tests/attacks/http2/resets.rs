//! Streams that are reset once a server has their request (CVE-2023-44487): none of the library's counts sees them.

use std::time::Duration;

use super::client::*;
use super::floods::backend;
use crate::support::{Answer, Backend, Gateway, Toml, eventually, frame, metric};

const PATIENCE: Duration = Duration::from_secs(10);

fn toml(limits: &str) -> Toml {
    Toml { server: "workers = 1\n".into(), tls: false, limits: limits.into(), ..Toml::default() }
}

fn cancel(stream: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes())
}

#[test]
fn streams_reset_while_a_server_works_for_them_end_the_connection() {
    let backend = backend();
    let gateway = Gateway::with(&toml("http2_resets = 40\n"), &[backend.address]);
    let mut client = Raw::connect(gateway.address, None);
    client.greet(&[]);
    let mut sent = 0_u32;
    let end = loop {
        // Ten at a time, each with its server before it is reset.
        let streams = (0..10).map(|at| 2 * (sent + at) + 1);
        let _ = client.send(&streams.clone().flat_map(|stream| get(stream, "/public/hang")).collect::<Vec<_>>());
        for _ in 0..10 {
            backend.next();
        }
        let _ = client.send(&streams.flat_map(cancel).collect::<Vec<_>>());
        sent += 10;
        // Each has been counted before the ping is read.
        eventually("given up", || metric(&gateway, "portcullis_upstream_requests_in_flight") == 0.0);
        let _ = client.send(&frame(PING, 0, 0, b"are you?"));
        if let Some(end) = client.until(PATIENCE, |came| matches!(came, Came::GoAway(_) | Came::Other(PING))) {
            if end != Came::Other(PING) {
                break end;
            }
        } else {
            break Came::Closed;
        }
        assert!(sent < 100, "still open after {sent} resets");
    };
    assert!(sent > 40, "closed after {sent}");
    assert_eq!(end, Came::GoAway(ENHANCE_YOUR_CALM));
    eventually("closed by its limit", || metric_of(&gateway, "http2_resets") == 1.0);
    eventually("nothing is left", || metric(&gateway, "portcullis_upstream_requests_in_flight") == 0.0);
}

fn metric_of(gateway: &Gateway, limit: &str) -> f64 {
    let text = portcullis::telemetry::metrics::encode(&gateway.app().gateway().metrics).unwrap();
    let start = format!("portcullis_connections_closed_total{{limit=\"{limit}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)).unwrap().parse().unwrap()
}

#[test]
fn a_client_that_lets_most_of_its_requests_be_answered_may_reset_others_for_ever() {
    let backend = backend();
    let gateway = Gateway::with(&toml("http2_resets = 10\n"), &[backend.address]);
    let mut client = Raw::connect(gateway.address, None);
    client.greet(&[]);
    for round in 0..40 {
        let (answered, given_up) = (4 * round + 1, 4 * round + 3);
        client.send(&[get(answered, "/public/x"), get(given_up, "/public/hang")].concat()).unwrap();
        client.until(PATIENCE, |came| *came == Came::Data(answered, 5)).expect("an answer");
        backend.next();
        backend.next();
        client.send(&cancel(given_up)).unwrap();
    }
    client.send(&get(1001, "/public/x")).unwrap();
    assert!(client.until(PATIENCE, |came| *came == Came::Head(1001, 200)).is_some());
    assert_eq!(metric_of(&gateway, "http2_resets"), 0.0);
}

/// A client that opens a window for every little piece, as some do, is no flood: it takes what it asked for.
#[test]
fn windows_that_are_opened_for_what_was_sent_are_not_counted() {
    let backend = Backend::answering(|_| {
        let piece = (Duration::ZERO, b"1\r\nx\r\n".to_vec());
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        let pieces = (0..400).flat_map(|_| [piece.clone(), (Duration::from_millis(1), Vec::new())]);
        Answer::Slowly([(Duration::ZERO, head)].into_iter().chain(pieces).collect())
    });
    let gateway = Gateway::with(&toml("http2_control_frames = \"100/1h\"\n"), &[backend.address]);
    let mut client = Raw::connect(gateway.address, None);
    client.greet(&[]);
    client.send(&get(1, "/public/events")).unwrap();
    let mut got = 0;
    while got < 400 {
        match client.next(PATIENCE) {
            Some(Came::Data(1, length)) => {
                got += length;
                let by = u32::try_from(length.max(1)).unwrap().to_be_bytes();
                client.send(&[frame(WINDOW_UPDATE, 0, 0, &by), frame(WINDOW_UPDATE, 0, 1, &by)].concat()).unwrap();
            }
            Some(Came::GoAway(_) | Came::Closed | Came::Reset(..)) | None => panic!("ended after {got} bytes"),
            Some(_) => {}
        }
    }
    assert_eq!(metric_of(&gateway, "http2_control_frames"), 0.0);
}

#[test]
fn frames_beyond_the_limit_end_the_connection_with_a_word_and_unlimited_means_so() {
    let backend = backend();
    for (limit, ends) in [("\"100/1h\"", true), ("\"unlimited\"", false)] {
        let mut pings = 0;
        let gateway = Gateway::with(&toml(&format!("http2_control_frames = {limit}\n")), &[backend.address]);
        let mut client = Raw::connect(gateway.address, None);
        client.greet(&[]);
        client.send(&get(1, "/public/x")).unwrap();
        client.until(PATIENCE, |came| matches!(came, Came::Data(1, _))).expect("an answer");
        for number in 0..200_u64 {
            if client.send(&frame(PING, 0, 0, &number.to_be_bytes())).is_err() {
                break;
            }
            // Each is answered before the next: nothing is waiting to be written when the limit is crossed.
            let answer = client.until(PATIENCE, |came| matches!(came, Came::Other(PING) | Came::GoAway(_)));
            if answer != Some(Came::Other(PING)) {
                assert_eq!(answer, Some(Came::GoAway(ENHANCE_YOUR_CALM)));
                break;
            }
            pings += 1;
        }
        assert!(if ends { (80..120).contains(&pings) } else { pings == 200 }, "{limit}: {pings}");
        let closed = if ends { 1.0 } else { 0.0 };
        eventually("closed by its limit", || metric_of(&gateway, "http2_control_frames") == closed);
    }
}
