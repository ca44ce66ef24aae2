//! What is not one request and one response: expectations, interim responses, pipelines, trailers, bodies that are
//! none.

use std::time::{Duration, Instant};

use crate::plain_http2::{self, exchange};
use crate::support::{Answer, Backend, Gateway, Toml};

fn plain(backend: &Backend, limits: &str) -> Gateway {
    let toml = Toml { server: "workers = 1\n".into(), limits: limits.into(), tls: false, ..Toml::default() };
    Gateway::with(&toml, &[backend.address])
}

#[test]
fn a_refusal_comes_instead_of_100_and_ends_the_connection() {
    let backend = Backend::start();
    let gateway = plain(&backend, "body_bytes = \"1KiB\"\n");
    let closed = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let nobody = Gateway::with(&Toml { tls: false, ..Toml::default() }, &[closed]);
    for (gateway, path, length, status) in [
        (&gateway, "/", "3", 401),
        (&gateway, "/public", "1025", 413),
        (&gateway, "/public/..%2f", "3", 400),
        (&nobody, "/public", "3", 502),
    ] {
        let mut client = gateway.connect();
        client.send(format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\nExpect: 100-continue\r\n\r\n"
        ));
        // The connection ends: whether the body still comes is for the client to say, and no request may be read from
        // it.
        let answer = String::from_utf8(client.drained().expect("closed")).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
        assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{answer}");
    }
    assert!(backend.saw_nothing());
}

#[test]
fn a_client_that_waits_for_100_gets_it_and_one_that_does_not_needs_none() {
    let backend = Backend::answering(|seen| Answer::ok(&String::from_utf8_lossy(&seen.body)));
    let gateway = plain(&backend, "");
    let mut client = gateway.connect();
    for framing in ["Content-Length: 3", "Transfer-Encoding: chunked"] {
        let start = Instant::now();
        client.send(format!("PUT /public HTTP/1.1\r\nHost: a\r\n{framing}\r\nExpect: 100-Continue\r\n\r\n"));
        assert_eq!(client.until(b"\r\n\r\n").unwrap(), b"HTTP/1.1 100 Continue\r\n\r\n");
        assert!(start.elapsed() < Duration::from_secs(2));
        let body = if framing.starts_with('C') { "abc" } else { "3\r\nabc\r\n0\r\n\r\n" };
        assert_eq!(client.ask(body).text(), "abc");
    }
    // Curl sends after a second whatever comes.
    client.send("PUT /public HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc");
    assert_eq!(client.reply().text(), "abc");
    // Nothing to wait for.
    let reply = client.ask("POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(reply.status, 200);
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let backend = Backend::answering(|seen| {
        let path = seen.line.split(' ').nth(1).unwrap().to_owned();
        // The first takes longest.
        let wait = if path.ends_with("/0") { 150 } else { 0 };
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
        Answer::Slowly(vec![(Duration::from_millis(wait), answer.into_bytes())])
    });
    let gateway = plain(&backend, "");
    let mut client = gateway.connect();
    let requests: Vec<String> = (0..40)
        .map(|number| match number % 4 {
            0 => format!("GET /public/{number} HTTP/1.1\r\nHost: a\r\n\r\n"),
            1 => format!("POST /public/{number} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"),
            2 => format!(
                "POST /public/{number} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n"
            ),
            // A refusal among them.
            _ => format!("GET /{number} HTTP/1.1\r\nHost: a\r\n\r\n"),
        })
        .collect();
    client.send(requests.concat());
    for number in 0..40 {
        let reply = client.reply();
        if number % 4 == 3 {
            assert_eq!(reply.status, 401);
        } else {
            assert_eq!((reply.status, reply.text()), (200, format!("/public/{number}")));
        }
    }
}

#[test]
fn head_204_and_304_have_no_body_in_any_version() {
    let backend = Backend::answering(|seen| {
        let path = seen.line.split(' ').nth(1).unwrap();
        Answer::Bytes(
            match path.rsplit('/').next().unwrap() {
                "length" => "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n",
                "chunked" => "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                "unsaid" => "HTTP/1.1 200 OK\r\nX-A: b\r\n\r\n",
                "204" => "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n",
                _ => "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\nContent-Length: 5\r\n\r\n",
            }
            .into(),
        )
    });
    let gateway = plain(&backend, "");
    let mut client = gateway.connect();
    let mut previous = None;
    for (method, path, status, length) in [
        ("HEAD", "length", 200, Some("12345")),
        ("HEAD", "chunked", 200, None),
        ("HEAD", "unsaid", 200, None),
        ("HEAD", "304", 304, Some("5")),
        ("HEAD", "204", 204, None),
        ("GET", "204", 204, None),
        // hyper leaves it out of HTTP/1.1, which is allowed: nothing is sent that it would be the length of.
        ("GET", "304", 304, None),
        ("POST", "204", 204, None),
    ] {
        let body = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        let request = |version| format!("{method} /public/{path} HTTP/{version}\r\nHost: a\r\n{body}\r\n");
        let reply = client.send(request("1.1")).head_reply();
        assert_eq!((reply.status, reply.header("content-length")), (status, length), "{method} {path}");
        // The next reply begins where this one ends: the connection is in step.
        assert_ne!(previous.replace((method, path)), Some((method, path)));

        let mut old = gateway.connect();
        old.send(request("1.0"));
        let answer = String::from_utf8(old.drained().expect("closed")).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.0 {status} ")) && answer.ends_with("\r\n\r\n"), "{answer}");

        let (response, body, _) = exchange(gateway.address, &format!("/public/{path}"), method);
        let found = response.headers().get("content-length").map(|value| value.to_str().unwrap());
        assert_eq!((response.status().as_u16(), body.len()), (status, 0), "{method} {path}");
        assert!(found == length || path == "304", "{found:?}");
    }
}

#[test]
fn very_many_small_chunks_pass_in_both_directions() {
    const COUNT: usize = 20_000;
    let backend = Backend::answering(|seen| {
        assert_eq!(seen.body.len(), COUNT);
        let mut answer = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        (0..COUNT).for_each(|_| answer.extend(b"1\r\nx\r\n"));
        answer.extend(b"0\r\n\r\n");
        Answer::Bytes(answer)
    });
    let gateway = plain(&backend, "");
    let mut request = b"POST /public HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    (0..COUNT).for_each(|_| request.extend(b"1\r\ny\r\n"));
    request.extend(b"0\r\n\r\n");
    let reply = gateway.connect().ask(request);
    assert_eq!((reply.status, reply.body), (200, vec![b'x'; COUNT]));
    let (_, body, _) = plain_http2::exchange_pieces(gateway.address, "/public", COUNT);
    assert_eq!(body.len(), COUNT);
}

#[test]
fn trailers_pass_in_both_directions_and_in_both_versions() {
    let backend = Backend::answering(|_| {
        Answer::Bytes(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum, X-User-Id\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\nConnection: x\r\n\r\n"
                .to_vec(),
        )
    });
    let gateway = plain(&backend, "");
    let mut client = gateway.connect();
    let reply = client.ask(
        "POST /public HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTrailer: X-Check, X-User-Id\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nabc\r\n0\r\nX-Check: 1\r\nX-User-Id: forged\r\n\r\n",
    );
    assert_eq!((reply.text().as_str(), &reply.trailers[..]), ("abc", &[("x-sum".to_owned(), "7".to_owned())][..]));
    let seen = backend.next();
    assert_eq!(seen.trailers, [("x-check".to_owned(), "1".to_owned())]);

    let (response, body, trailers) = plain_http2::exchange_trailers(
        gateway.address,
        "/public",
        // Named in `Trailer` by the client: others are left out on the way to HTTP/1.1.
        &[("x-check", "1"), ("x-more", "2"), ("x-user-id", "forged"), ("x_user_id", "forged")],
    );
    assert_eq!((response.status().as_u16(), &body[..]), (200, &b"abc"[..]));
    let trailers = trailers.expect("trailers");
    assert_eq!((trailers.len(), &trailers["x-sum"]), (1, &http::HeaderValue::from_static("7")));
    let seen = backend.next();
    assert_eq!(seen.trailers, [("x-check".to_owned(), "1".to_owned())], "{seen:?}");
}

/// Two routes, one of them with hints.
fn with_hints(backend: &Backend, server: &str) -> Gateway {
    let route = |path, more| format!("[[route]]\npath = \"{path}\"\nupstream = \"app\"\nauth = \"public\"\n{more}\n");
    let rest = route("/hints", "early_hints = true") + &route("/", "");
    let toml = Toml { server: format!("workers = 1\n{server}"), rest, tls: false, ..Toml::default() };
    Gateway::with(&toml, &[backend.address])
}

/// A backend that sends `interim`, waits, and answers with the path.
fn hinting(interim: Vec<u8>) -> Backend {
    Backend::answering(move |seen| {
        let path = seen.line.split(' ').nth(1).unwrap();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}", path.len());
        let wait = Duration::from_millis(300);
        Answer::Slowly(vec![(Duration::ZERO, interim.clone()), (wait, answer.into_bytes())])
    })
}

const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nConnection: x-own\r\nX-Own: 1\r\n\r\n";
const PASSED: &str = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n";

#[test]
fn hints_reach_the_client_before_the_response_is_there() {
    let backend = hinting(HINTS.into());
    let gateway = with_hints(&backend, "");
    let mut client = gateway.connect();
    for number in 0..3 {
        let start = Instant::now();
        client.send(format!("GET /hints/{number} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(String::from_utf8(client.until(b"\r\n\r\n").unwrap()).unwrap(), PASSED);
        assert!(start.elapsed() < Duration::from_millis(250), "{:?}", start.elapsed());
        let reply = client.reply();
        assert_eq!((reply.status, reply.text()), (200, format!("/hints/{number}")));
    }
    // Pipelined: each before its own response.
    let two =
        ["GET /hints/a HTTP/1.1\r\nHost: a\r\n\r\n", "GET /hints/b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"];
    client.send(two.concat());
    let all = String::from_utf8(client.drained().unwrap()).unwrap();
    let heads: Vec<&str> = all.match_indices("HTTP/1.1 ").map(|(at, _)| &all[at + 9..at + 12]).collect();
    assert_eq!(heads, ["103", "200", "103", "200"], "{all}");
    assert!(all.find("/hints/a") < all.rfind("HTTP/1.1 103"), "{all}");
}

#[test]
fn hints_pass_only_where_they_are_asked_for_and_understood() {
    let backend = hinting(HINTS.into());
    let gateway = with_hints(&backend, "");
    for request in
        ["GET /other HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET /hints HTTP/1.0\r\nHost: a\r\n\r\n"]
    {
        let mut client = gateway.connect();
        client.send(request);
        let answer = String::from_utf8(client.drained().unwrap()).unwrap();
        assert!(answer[8..].starts_with(" 200 ") && !answer.contains("103"), "{answer}");
    }
    let (response, body, _) = exchange(gateway.address, "/hints", "GET");
    assert_eq!((response.status().as_u16(), &body[..]), (200, &b"/hints"[..]));
}

#[test]
fn interim_responses_are_bounded_and_100_is_not_passed_on() {
    let many = format!("HTTP/1.1 100 Continue\r\n\r\n{}", HINTS.repeat(50));
    let backend = hinting(many.into_bytes());
    let gateway = with_hints(&backend, "");
    let mut client = gateway.connect();
    client.send("GET /hints HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    let all = String::from_utf8(client.drained().unwrap()).unwrap();
    assert_eq!((all.matches("HTTP/1.1 103").count(), all.matches("HTTP/1.1 100").count()), (8, 0), "{all}");
    assert!(all.ends_with("/hints"));
}

#[test]
fn hints_that_come_with_the_response_never_stand_behind_its_head() {
    let answer = format!("{HINTS}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    let backend = Backend::answering(move |_| Answer::Bytes(answer.clone().into_bytes()));
    let gateway = with_hints(&backend, "");
    for _ in 0..20 {
        let mut client = gateway.connect();
        client.send("GET /hints HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        // In a wrong place it would be taken for a body, or for the beginning of the next response.
        let all = String::from_utf8(client.drained().unwrap()).unwrap();
        let last = all.rfind("HTTP/1.1 ").unwrap();
        assert!(all[last..].starts_with("HTTP/1.1 200 OK") && all.ends_with("\r\n\r\nok"), "{all}");
    }
}
