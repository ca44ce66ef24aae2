//! `strip_prefix` and `rewrite`: what the upstream is asked for, and that nothing else can be made of it.

use crate::support::{Answer, Backend, Gateway, Toml, get};

fn start(backend: &Backend) -> Gateway {
    let toml = Toml {
        rest: "[[route]]\npath = \"/api\"\nupstream = \"app\"\nauth = \"public\"\nstrip_prefix = true\n\
               allow_path = [\"empty_segment\"]\n\
               [[route]]\npath = \"/old\"\nupstream = \"app\"\nauth = \"public\"\nrewrite = \"/v2/api\"\n\
               [[route]]\npath = \"/mine\"\nupstream = \"app\"\nstrip_prefix = true\n"
            .into(),
        ..Toml::default()
    };
    Gateway::with(&toml, &[backend.address])
}

#[test]
fn the_upstream_gets_the_path_without_what_was_stripped_and_is_told_so() {
    let backend = Backend::answering(|_| {
        Answer::Bytes(b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n".to_vec())
    });
    let gateway = start(&backend);
    let mut client = gateway.connect();
    for (path, expected, prefix) in [
        ("/api", "/", Some("/api")),
        ("/api/", "/", Some("/api")),
        ("/api/x/caf%C3%A9?q=/api//..%2f", "/x/caf%C3%A9?q=/api//..%2f", Some("/api")),
        ("/api/a//b", "/a//b", Some("/api")),
        ("/old", "/v2/api", None),
        ("/old/x;v=1?q", "/v2/api/x;v=1?q", None),
    ] {
        let forged = "X-Forwarded-Prefix: /forged\r\n";
        let reply = client.ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{forged}\r\n"));
        // The upstream's own answers are not changed.
        assert_eq!((reply.status, reply.header("location")), (302, Some("/login")), "{path}");
        let seen = backend.next();
        assert_eq!(seen.line, format!("GET {expected} HTTP/1.1"));
        assert_eq!(seen.all("x-forwarded-prefix"), prefix.into_iter().collect::<Vec<_>>(), "{path}");
    }
    let absolute = client.ask("GET http://localhost/api/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((absolute.status, backend.next().line.as_str()), (302, "GET /x HTTP/1.1"));
}

#[test]
fn a_path_that_is_not_canonical_without_its_prefix_is_refused() {
    let backend = Backend::start();
    let gateway = start(&backend);
    for path in ["/api//evil.example/x", "/api//", "/api/../x", "/api/%2e%2e/x", "/api/a%2fb", "/old//x", "/old/a%5cb"]
    {
        assert_eq!(gateway.connect().ask(get(path, None)).status, 400, "{path}");
    }
    assert!(backend.saw_nothing());
}

#[test]
fn what_was_decided_holds_for_the_rewritten_path() {
    let backend = Backend::start();
    let gateway = start(&backend);
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    // `/mine/api/x` arrives as `/api/x`, which is public by that name: the identity that was asked for stays.
    assert_eq!(client.ask(get("/mine/api/x", None)).refusal(), (401, "missing_token".to_owned()));
    assert_eq!(client.ask(get("/mine/api/x", Some(&pair.access_token))).status, 200);
    let seen = backend.next();
    assert_eq!((seen.line.as_str(), seen.one("x-user-id")), ("GET /api/x HTTP/1.1", "ann"));
    // The other way round, a public route that leads to a protected name carries no identity.
    assert_eq!(client.ask(get("/api/mine", Some(&pair.access_token))).status, 200);
    let seen = backend.next();
    assert_eq!((seen.line.as_str(), seen.all("x-user-id")), ("GET /mine HTTP/1.1", vec![]));
}
