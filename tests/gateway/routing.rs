//! Hosts, paths, methods and framing: what is refused before anyone is asked who they are.

use crate::support::{Backend, Gateway, Toml};

fn public(rest: &str) -> Toml {
    Toml { rest: rest.to_owned(), ..Toml::default() }
}

#[test]
fn a_request_with_a_doubtful_host_is_refused() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    for (target, host) in [
        ("/public", ""),
        ("/public", "Host: a\r\nHost: a\r\n"),
        ("/public", "Host: a\r\nHost: b\r\n"),
        ("/public", "Host:\r\n"),
        ("/public", "Host: a b\r\n"),
        ("/public", "Host: user@a\r\n"),
        ("/public", "Host: a:99999\r\n"),
        ("http://b/public", "Host: a\r\n"),
    ] {
        let reply = gateway.connect().ask(format!("GET {target} HTTP/1.1\r\n{host}\r\n"));
        assert_eq!(reply.refusal(), (400, "bad_host".to_owned()), "{target} {host:?}");
    }
    assert!(backend.saw_nothing());
    let reply = gateway.connect().ask("GET http://Localhost:1/public?q HTTP/1.1\r\nHost: localhost:1\r\n\r\n");
    assert_eq!(reply.status, 200);
    let seen = backend.next();
    assert_eq!((seen.line.as_str(), seen.one("host")), ("GET /public?q HTTP/1.1", "localhost:1"));
}

#[test]
fn a_path_with_two_readings_is_refused() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    for path in [
        "//",
        "/public//x",
        "/public/../x",
        "/public/./x",
        "/public/%2e%2e/x",
        "/public/..%2fx",
        "/public/%2Fx",
        "/public/%5cx",
        "/public/%2ex",
        "/public/%25x",
        "/public/%00",
        "/public/%0d%0ax",
        "/public/%3bx",
        "/public/%3fx",
        "/public/%23x",
        "/public/%7f",
        "/public/%61",
        "/public;x/y",
        "/public/..;/x",
        "/public/%zz",
        "/public/%",
        "/public/%e9",
        "/public/%ef%bc%8f",
        "/public/%c0%af",
        "/public\\x",
    ] {
        let reply = gateway.connect().ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(reply.status, 400, "{path}");
    }
    assert!(backend.saw_nothing());
    for path in ["/public/caf%C3%A9/a%20b", "/public/", "/public/v1.2/x;v=1?a=//..%2f", "/public/~a_b-c"] {
        let reply = gateway.connect().ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(reply.status, 200, "{path}");
        assert_eq!(backend.next().line, format!("GET {path} HTTP/1.1"));
    }
}

#[test]
fn routes_are_found_by_host_prefix_and_method() {
    let (shop, other) = (Backend::start(), Backend::start());
    let toml = public(&format!(
        "[upstream.other]\nservers = [\"http://{}\"]\n\
         [[route]]\nhost = \"shop.example\"\npath = \"/orders\"\nupstream = \"app\"\nauth = \"public\"\nmethods = [\"GET\", \"HEAD\"]\n\
         [[route]]\nhost = \"shop.example\"\npath = \"/orders/new\"\nupstream = \"other\"\nauth = \"public\"\n",
        other.address
    ));
    let gateway = Gateway::with(&toml, &[shop.address]);
    let mut client = gateway.connect();
    let mut ask = |method: &str, host: &str, path: &str| {
        client.ask(format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nX-HTTP-Method-Override: DELETE\r\n\r\n"))
    };
    assert_eq!(ask("GET", "SHOP.example.:443", "/orders/17").status, 200);
    assert!(shop.next().all("x-http-method-override").is_empty());
    assert_eq!(ask("POST", "shop.example", "/orders/new/x").status, 200);
    assert_eq!(other.next().one("content-length"), "0");
    let refused = ask("POST", "shop.example", "/orders/17");
    assert_eq!(
        (refused.refusal(), refused.header("allow")),
        ((405, "method_not_allowed".to_owned()), Some("GET, HEAD"))
    );
    assert_eq!(ask("GET", "other.example", "/orders").refusal(), (404, "no_route".to_owned()));
    assert_eq!(ask("GET", "shop.example", "/orders2").refusal(), (404, "no_route".to_owned()));
    assert_eq!(ask("TRACE", "shop.example", "/orders").refusal(), (501, "not_implemented".to_owned()));
    assert!(shop.saw_nothing() && other.saw_nothing());
}

#[test]
fn framing_that_two_readers_could_take_differently_never_leaves() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    for headers in [
        "Content-Length: 3\r\nContent-Length: 4\r\n",
        "Content-Length: 3, 3\r\n",
        // What RFC 9112 §6.3 would let us repair is refused as well: others may repair it in another way.
        "Content-Length: 3\r\nContent-Length: 3\r\n",
        "Content-Length: 9\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 9\r\n",
        "Content-Length: 003\r\n",
        "Content-Length: +3\r\n",
        "Content-Length: -3\r\n",
        "Content-Length: 0x3\r\n",
        "Content-Length: 18446744073709551619\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding : chunked\r\n",
    ] {
        let request = format!("POST /public HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n3\r\nabc\r\n0\r\n\r\n");
        let mut client = gateway.connect();
        let reply = client.ask(request);
        assert!(matches!(reply.status, 400 | 501), "{headers:?}: {reply:?}");
        assert_eq!(client.drained(), Some(Vec::new()), "{headers:?}: the connection ends");
    }
    let reply = gateway
        .connect()
        .ask("POST /public HTTP/1.0\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    assert_eq!(reply.status, 400);
    assert!(backend.saw_nothing());
}

#[test]
fn a_header_that_is_too_large_is_refused() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let uri = format!("GET /public/{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "a".repeat(8200));
    assert_eq!(gateway.connect().ask(uri).refusal(), (414, "uri_too_long".to_owned()));
    let fields = format!("GET /public HTTP/1.1\r\nHost: localhost\r\n{}\r\n", "A: b\r\n".repeat(150));
    assert_eq!(gateway.connect().ask(fields).status, 431);
    let bytes = format!("GET /public HTTP/1.1\r\nHost: localhost\r\nA: {}\r\n\r\n", "b".repeat(40_000));
    assert_eq!(gateway.connect().ask(bytes).status, 431);
    assert!(backend.saw_nothing());
}
