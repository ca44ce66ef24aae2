use proptest::prelude::*;

use super::*;

const HOST: &str = "GET / HTTP/1.1\r\nHost: a\r\n";

/// What passes of `bytes` when all of them come at once, and why no more does.
fn judged(bytes: impl AsRef<[u8]>) -> (usize, Option<Malformed>) {
    let Judged { passes, fault } = Requests::new(HeadLimits { bytes: 400, fields: 5 }).judge(bytes.as_ref());
    (passes, fault)
}

/// The same when they come in pieces.
fn judged_in_pieces(bytes: &[u8], mut cuts: Vec<usize>) -> (usize, Option<Malformed>) {
    let mut requests = Requests::new(HeadLimits { bytes: 400, fields: 5 });
    cuts.push(bytes.len());
    cuts.sort_unstable();
    let mut passed = 0;
    for cut in cuts {
        let Judged { passes, fault } = requests.judge(&bytes[passed..cut.max(passed)]);
        passed += passes;
        if fault.is_some() {
            return (passed, fault);
        }
    }
    (passed, None)
}

#[test]
fn requests_pass_whole_and_one_after_the_other() {
    for good in [
        format!("{HOST}\r\n"),
        format!("{HOST}\r\n{HOST}\r\n"),
        format!("\r\n{HOST}\r\n\r\n{HOST}\r\n"),
        format!("{HOST}Content-Length: 5\r\n\r\nhello{HOST}\r\n"),
        format!("{HOST}content-length:\t0 \r\n\r\n{HOST}\r\n"),
        format!("{HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n{HOST}\r\n"),
        format!("{HOST}Transfer-Encoding: Chunked\r\n\r\nA;x=\"y\";z\r\n0123456789\r\n00\r\nA: b\r\n\r\n{HOST}\r\n"),
        format!("{HOST}Upgrade: h2c\r\nContent-Length: 5\r\n\r\nhello{HOST}\r\n"),
        "OPTIONS * HTTP/1.0\r\nUpgrade: x\r\n\r\nGET HTTP://a/?b HTTP/1.1\r\nX-Empty:\r\nX:\u{e9}\r\n\r\n".to_owned(),
    ] {
        assert_eq!(judged(&good), (good.len(), None), "{good:?}");
    }
}

#[test]
fn what_is_not_complete_is_held_back() {
    let whole = format!("{HOST}\r\n");
    for cut in 0..whole.len() {
        assert_eq!(judged(&whole[..cut]), (0, None), "{cut}");
    }
    let next = format!("{whole}GET /");
    assert_eq!(judged(&next), (whole.len(), None));
    let body = format!("{HOST}Content-Length: 5\r\n\r\nhel");
    assert_eq!(judged(&body), (body.len(), None), "bodies pass as they come");
}

#[test]
fn what_has_two_readings_is_refused_with_its_reason() {
    use Malformed::*;
    let fields: &[(&str, Malformed)] = &[
        ("A: b\nC: d\r\n", LineEnd),
        ("A: b\rC: d\r\n", LineEnd),
        ("A: b\r\r\n", LineEnd),
        ("A: b\r\n c\r\n", Field),
        ("A: b\r\n\tc\r\n", Field),
        (" A: b\r\n", Field),
        ("A : b\r\n", Field),
        ("A\t: b\r\n", Field),
        (": b\r\n", Field),
        ("A\r\n", Field),
        ("A: b\0\r\n", Field),
        ("A\u{e9}: b\r\n", Field),
        ("A(: b\r\n", Field),
        ("Content-Length: \r\n", Framing),
        ("Content-Length: +5\r\n", Framing),
        ("Content-Length: -0\r\n", Framing),
        ("Content-Length: 05\r\n", Framing),
        ("Content-Length: 5 5\r\n", Framing),
        ("Content-Length: 5,5\r\n", Framing),
        ("Content-Length: 0x5\r\n", Framing),
        ("Content-Length: 18446744073709551616\r\n", Framing),
        ("Content-Length: 18446744073709551615\r\n", Framing),
        ("Content-Length: 9223372036854775808\r\n", Framing),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Framing),
        ("Content-Length: 5\r\ncontent-length: 6\r\n", Framing),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Framing),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", Framing),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Framing),
        ("Transfer-Encoding: chunked, chunked\r\n", Framing),
        ("Transfer-Encoding: chunked, gzip\r\n", Framing),
        ("Transfer-Encoding: \x0bchunked\r\n", Field),
        ("Transfer-Encoding: xchunked\r\n", Framing),
        ("Transfer-Encoding: chunked;q=1\r\n", Framing),
        ("Transfer-Encoding: \"chunked\"\r\n", Framing),
        ("Transfer-Encoding: ,chunked\r\n", Framing),
        ("Transfer-Encoding: identity\r\n", Framing),
        ("Transfer-Encoding:\r\n", Framing),
        ("Transfer-Encoding: gzip, chunked\r\n", NotImplemented),
    ];
    for (text, fault) in fields {
        assert_eq!(judged(format!("{HOST}{text}\r\n")), (0, Some(*fault)), "{text:?}");
    }
    let lines: &[(&str, Malformed)] = &[
        ("GET  / HTTP/1.1", RequestLine),
        ("GET / HTTP/1.1 ", RequestLine),
        ("GET /  HTTP/1.1", RequestLine),
        (" GET / HTTP/1.1", RequestLine),
        ("GET\t/ HTTP/1.1", RequestLine),
        ("GET / a HTTP/1.1", RequestLine),
        ("GET /", RequestLine),
        ("GET / HTTP/0.9", RequestLine),
        ("GET / HTTP/1.2", RequestLine),
        ("GET / HTTP/2.0", RequestLine),
        ("GET / http/1.1", RequestLine),
        ("GET / HTTP/1.10", RequestLine),
        ("- / HTTP/1.1", RequestLine),
        ("G@T / HTTP/1.1", RequestLine),
        ("\r\n", RequestLine),
        ("GET /\u{e9} HTTP/1.1", Target),
        ("GET /a#b HTTP/1.1", Target),
        ("GET a HTTP/1.1", Target),
        ("GET a:80 HTTP/1.1", Target),
        ("GET ftp://a/ HTTP/1.1", Target),
        ("GET http:// HTTP/1.1", Target),
        ("GET http:///a HTTP/1.1", Target),
        ("GET http://a:1:2/ HTTP/1.1", Target),
        ("GET /<a> HTTP/1.1", Target),
        ("GET /a?\"b\" HTTP/1.1", Target),
        ("GET ** HTTP/1.1", Target),
        ("CONNECT a:80 HTTP/1.1", NotImplemented),
    ];
    for (line, fault) in lines {
        assert_eq!(judged(format!("{line}\r\nHost: a\r\n\r\n")), (0, Some(*fault)), "{line:?}");
    }
    let head = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_eq!(judged(head), (0, Some(Framing)), "a coding in HTTP/1.0");
}

#[test]
fn a_broken_chunk_ends_what_passes() {
    let chunks: &[(&str, &str)] = &[
        ("", "g\r\n"),
        ("", "\r\n"),
        ("", " 5\r\n"),
        ("5", " \r\n"),
        ("5", "\n"),
        ("5\r", "x"),
        ("", "-5\r\n"),
        ("", "+5\r\n"),
        ("0", "x5\r\n"),
        ("", ";a\r\n"),
        ("5;a", "\n"),
        ("5;", "\0\r\n"),
        ("5\r\nhello", "\n"),
        ("5\r\nhello\r", "x"),
        ("5\r\nhello", "x\r\n"),
        ("0000000000000000", "0\r\n"),
        ("7fffffffffffffff", "f\r\n"),
        ("800000000000000", "0\r\n"),
        ("0\r\n", "\n"),
        ("0\r\n\r", "x"),
        ("0\r\nA", " : b\r\n\r\n"),
        ("0\r\n", " A: b\r\n\r\n"),
        ("0\r\nA: b", "\n\r\n"),
        ("0\r\nA: b\r", "\r\n\r\n"),
        ("0\r\nContent-Length", ": 5\r\n\r\n"),
        ("0\r\nhost", ": b\r\n\r\n"),
        ("0\r\nTransfer-ENCODING", ": b\r\n\r\n"),
    ];
    for (good, bad) in chunks {
        let head = format!("{HOST}Transfer-Encoding: chunked\r\n\r\n{good}");
        assert_eq!(judged(format!("{head}{bad}")), (head.len(), Some(Malformed::Chunk)), "{good:?} {bad:?}");
    }
    let trailers =
        |line: &str, count| format!("{HOST}Transfer-Encoding: chunked\r\n\r\n0\r\n{}\r\n", line.repeat(count));
    assert_eq!(judged(trailers("A: b\r\n", 5)).1, None);
    assert_eq!(judged(trailers("A: b\r\n", 6)).1, Some(Malformed::TooLarge));
    assert_eq!(judged(trailers(&format!("A: {}\r\n", "b".repeat(200)), 3)).1, Some(Malformed::TooLarge));
    let extension = |length| format!("{HOST}Transfer-Encoding: chunked\r\n\r\n1;{}\r\n", "e".repeat(length));
    assert_eq!(judged(extension(256)).1, None);
    assert_eq!(judged(extension(257)).1, Some(Malformed::Chunk));
}

#[test]
fn a_head_is_bounded_before_it_is_complete() {
    assert_eq!(judged(format!("GET /{}", "a".repeat(400))), (0, Some(Malformed::TooLong)));
    assert_eq!(judged(format!("{HOST}A: {}", "a".repeat(400))), (0, Some(Malformed::TooLarge)));
    // Found by fuzzing: what is wrong beyond the bound is told like what is not, however it comes.
    let beyond = format!("GET /{}\0", "a".repeat(500));
    assert_eq!(judged(&beyond), judged_in_pieces(beyond.as_bytes(), (0..beyond.len()).collect()));
    assert_eq!(judged(format!("{HOST}{}\r\n", "A: b\r\n".repeat(4))).1, None);
    assert_eq!(judged(format!("{HOST}{}\r\n", "A: b\r\n".repeat(5))), (0, Some(Malformed::TooLarge)));
}

#[test]
fn nothing_passes_behind_a_request_for_another_protocol_until_it_is_answered() {
    let asks = format!("{HOST}Upgrade: websocket\r\nConnection: upgrade\r\n\r\n");
    let mut requests = Requests::default();
    assert_eq!(requests.judge(format!("{asks}{HOST}\r\n").as_bytes()).passes, asks.len());
    assert!(requests.is_undecided());
    assert_eq!(requests.judge(format!("{HOST}\r\n").as_bytes()).passes, 0);
    requests.decline();
    assert_eq!((requests.judge(format!("{HOST}\r\n").as_bytes()).passes, requests.heads()), (HOST.len() + 2, 2));
}

proptest! {
    /// However its bytes are cut, a connection is judged alike.
    #[test]
    fn cuts_change_nothing(
        pieces in prop::collection::vec(
            prop_oneof![
                Just("GET /a HTTP/1.1\r\nHost: a\r\n"),
                Just("POST / HTTP/1.1\r\n"),
                Just("Content-Length: 5\r\n"),
                Just("Transfer-Encoding: chunked\r\n"),
                Just("\r\n"),
                Just("hello"),
                Just("5\r\nhello\r\n"),
                Just("0\r\n"),
                Just("A:\tb\r\n"),
                Just("\n"),
                Just("\r"),
                Just("\0"),
            ],
            1..12,
        ),
        cuts in prop::collection::vec(0_usize..200, 0..8),
    ) {
        let bytes = pieces.concat().into_bytes();
        let cuts = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        prop_assert_eq!(judged_in_pieces(&bytes, cuts), judged(&bytes));
    }

    /// A byte of anything is no reason to panic, and never makes more pass than came.
    #[test]
    fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let chunked = [format!("{HOST}Transfer-Encoding: chunked\r\n\r\n").as_bytes(), &bytes].concat();
        prop_assert!(judged(&bytes).0 <= bytes.len());
        prop_assert!(judged(&chunked).0 <= chunked.len());
    }
}
