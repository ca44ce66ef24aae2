use crate::support::{Backend, Gateway, Toml, get};

/// Every spelling of an identity header that some backend reads as one.
const SPELLINGS: [&str; 14] = [
    "X-User-Id",
    "x-user-id",
    "X-USER-ID",
    "X_User_Id",
    "X-User_Id",
    "x_user-id",
    "X.User.Id",
    "X~User~Id",
    "X-Session-Id",
    "X_SESSION_ID",
    "x-session_id",
    "X'User'Id",
    "X*User*Id",
    "X|User|Id",
];

fn folded(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect()
}

#[test]
fn client_x_user_id_never_reaches_upstream() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    for path in ["/", "/public", "/optional"] {
        for spelling in SPELLINGS {
            let token = match path {
                "/" => format!("Authorization: Bearer {}\r\n", &*pair.access_token),
                _ => String::new(),
            };
            let request = format!(
                "GET {path} HTTP/1.1\r\nHost: localhost\r\n{spelling}: forged\r\nConnection: {spelling}\r\n{token}{spelling}: twice\r\n\r\n"
            );
            assert_eq!(client.ask(request).status, 200, "{path} {spelling}");
            let seen = backend.next();
            for (name, value) in &seen.headers {
                assert!(value != "forged" && value != "twice", "{path} {spelling}: {seen:?}");
                if folded(name) == "x-user-id" {
                    assert_eq!((path, value.as_str()), ("/", "ann"));
                }
            }
        }
    }
}

#[test]
fn the_upstream_is_told_who_calls_and_gets_no_token() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let pair = gateway.sign_in("ann@example.com");
    let reply = gateway.connect().ask(get("/x?y=1", Some(&pair.access_token)));
    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
    let seen = backend.next();
    assert_eq!(seen.line, "GET /x?y=1 HTTP/1.1");
    assert_eq!(seen.one("x-user-id"), "ann@example.com");
    assert_eq!(seen.one("x-session-id"), pair.session.to_string());
    assert_eq!(seen.one("host"), "localhost");
    assert_eq!(seen.one("x-forwarded-for"), "127.0.0.1");
    assert_eq!(seen.one("x-forwarded-proto"), "https");
    assert_eq!(seen.one("x-forwarded-host"), "localhost");
    assert_eq!(seen.one("forwarded"), "for=127.0.0.1;proto=https");
    assert_eq!(seen.one("via"), "1.1 portcullis");
    assert_eq!(seen.one("x-request-id").len(), 32);
    assert_eq!(seen.one("traceparent").len(), 55);
    assert!(seen.all("authorization").is_empty());
}

#[test]
fn an_identity_header_in_trailers_is_dropped() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let pair = gateway.sign_in("ann");
    let request = format!(
        "POST /x HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nTransfer-Encoding: chunked\r\n\
         Trailer: X-User-Id, X-Checksum, X_Session_Id\r\n\r\n3\r\nabc\r\n0\r\nX-User-Id: forged\r\nX-Checksum: 1\r\nX_Session_Id: forged\r\n\r\n",
        &*pair.access_token
    );
    assert_eq!(gateway.connect().ask(request).status, 200);
    let seen = backend.next();
    assert_eq!(seen.body, b"abc");
    assert_eq!(seen.one("trailer"), "X-Checksum");
    assert_eq!(seen.trailers, [("x-checksum".to_owned(), "1".to_owned())]);
    assert_eq!(seen.one("x-user-id"), "ann");
}

#[test]
fn configured_names_are_written_and_stripped_instead() {
    let backend = Backend::start();
    let toml = Toml {
        rest: "[auth]\nuser_header = \"X-Remote-User\"\nsession_header = \"X-Sid\"\nstrip_headers = [\"X-Roles\"]\n\
               [[route]]\npath = \"/\"\nupstream = \"app\"\nforward_token = true\n"
            .into(),
        ..Toml::default()
    };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let pair = gateway.sign_in("ann");
    let request = format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nX-Remote_User: root\r\nX-Roles: admin\r\n\r\n",
        &*pair.access_token
    );
    assert_eq!(gateway.connect().ask(request).status, 200);
    let seen = backend.next();
    assert_eq!(seen.one("x-remote-user"), "ann");
    assert_eq!(seen.one("x-sid"), pair.session.to_string());
    assert_eq!(seen.one("authorization"), format!("Bearer {}", &*pair.access_token));
    assert!(seen.all("x-roles").is_empty() && seen.all("x-remote_user").is_empty() && seen.all("x-user-id").is_empty());
}

#[test]
fn a_trusted_proxy_is_believed_and_a_stranger_is_not() {
    let backend = Backend::start();
    let trusting = Toml { server: "trusted_proxies = [\"127.0.0.0/8\"]\n".into(), ..Toml::default() };
    let request = "GET /public HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Prefix: /a\r\n\r\n";
    for (toml, chain, proto) in [(trusting, "203.0.113.9, 127.0.0.1", "http"), (Toml::default(), "127.0.0.1", "https")]
    {
        let gateway = Gateway::with(&toml, &[backend.address]);
        assert_eq!(gateway.connect().ask(request).status, 200);
        let seen = backend.next();
        assert_eq!((seen.one("x-forwarded-for"), seen.one("x-forwarded-proto")), (chain, proto));
        assert!(seen.all("x-forwarded-prefix").is_empty());
    }
}
