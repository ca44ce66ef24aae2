//! Who gets through: routes' access rules, tokens good and bad, ends.

use crate::support::{Answer, Backend, Gateway, get};

#[test]
fn each_access_rule_asks_for_what_it_says() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let pair = gateway.sign_in("ann");
    let good = pair.access_token.as_str();
    let mut client = gateway.connect();
    for (path, token, status, user) in [
        ("/", Some(good), 200, Some("ann")),
        ("/", None, 401, None),
        ("/", Some("garbage"), 401, None),
        ("/optional", Some(good), 200, Some("ann")),
        ("/optional", None, 200, None),
        ("/optional", Some("garbage"), 401, None),
        ("/public", Some(good), 200, None),
        ("/public", None, 200, None),
        ("/public", Some("garbage"), 200, None),
    ] {
        assert_eq!(client.ask(get(path, token)).status, status, "{path} {token:?}");
        if status == 200 {
            assert_eq!(backend.next().all("x-user-id"), Vec::from_iter(user), "{path} {token:?}");
        }
    }
    assert!(backend.saw_nothing());
}

#[test]
fn a_refusal_says_why_and_challenges() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let reply = gateway.connect().ask(get("/", None));
    assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some("Bearer")));
    assert_eq!(reply.json()["reason"], "missing_token");
    assert_eq!(reply.header("x-request-id"), reply.json()["request_id"].as_str());
    assert_eq!(reply.header("cache-control"), Some("no-store"));

    let reply = gateway.connect().ask(get("/", Some("a.b.c")));
    let challenge = "Bearer error=\"invalid_token\", error_description=\"malformed_token\"";
    assert_eq!((reply.status, reply.header("www-authenticate")), (401, Some(challenge)));
    assert_eq!((&reply.json()["error"], &reply.json()["reason"]), (&"invalid_token".into(), &"malformed_token".into()));
    assert!(backend.saw_nothing());
}

#[test]
fn only_exactly_one_bearer_header_is_taken() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let pair = gateway.sign_in("ann");
    let token = &*pair.access_token;
    let mut client = gateway.connect();
    for (headers, outcome) in [
        (format!("Authorization: Bearer {token}\r\nAuthorization: Bearer {token}\r\n"), "malformed_authorization"),
        (format!("Authorization: Bearer {token}, Bearer {token}\r\n"), "malformed_authorization"),
        (format!("Authorization: Basic {token}\r\n"), "malformed_authorization"),
        (format!("Authorization: Bearer\t{token}\r\n"), "malformed_authorization"),
        (format!("Authorization: Bearer {token} x\r\n"), "malformed_authorization"),
        ("Authorization: Bearer\r\n".to_owned(), "malformed_authorization"),
        ("Authorization:\r\n".to_owned(), "malformed_authorization"),
        (format!("Authorization: {token}\r\n"), "malformed_authorization"),
        (format!("Authorization_: Bearer {token}\r\n"), "missing_token"),
        (format!("Authorization: Bearer {}\r\n", "a".repeat(9000)), "token_too_large"),
        (format!("Authorization: Bearer {token}.\r\n"), "malformed_token"),
        (format!("Authorization: Bearer {}\r\n", &token[..token.len() - 2]), "bad_signature"),
        (format!("Authorization: Bearer {}=\r\n", &token[..token.len() - 1]), "malformed_token"),
        (format!("Authorization: Bearer {}AAAA\r\n", &token[..token.len() - 4]), "bad_signature"),
    ] {
        let reply = client.ask(format!("GET / HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n"));
        assert_eq!(reply.refusal(), (401, outcome.to_owned()), "{headers}");
    }
    let reply = client.ask(format!("GET /?access_token={token} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert_eq!(reply.refusal(), (401, "missing_token".to_owned()));
    for scheme in ["bearer", "BEARER", "BeArEr"] {
        let reply =
            client.ask(format!("GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: {scheme}  {token}\r\n\r\n"));
        assert_eq!(reply.status, 200, "{scheme}");
        backend.next();
    }
    assert!(backend.saw_nothing());
}

#[test]
fn another_gateways_token_is_refused() {
    let backend = Backend::start();
    let (ours, theirs) = (Gateway::start(&backend), Gateway::start(&backend));
    let pair = theirs.sign_in("ann");
    let reply = ours.connect().ask(get("/", Some(&pair.access_token)));
    assert_eq!(reply.refusal(), (401, "unknown_key".to_owned()));
}

#[test]
fn revoked_session_is_refused_on_an_open_connection() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let (pair, other) = (gateway.sign_in("ann"), gateway.sign_in("ann"));
    // On more connections than there are workers, each with the token in its cache.
    let mut clients: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
    for client in &mut clients {
        assert_eq!(client.ask(get("/", Some(&pair.access_token))).status, 200);
    }
    let logout = format!(
        "POST /auth/logout HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\n\r\n",
        &*pair.access_token
    );
    assert_eq!(gateway.connect().ask(logout).status, 204);
    for client in &mut clients {
        let reply = client.ask(get("/", Some(&pair.access_token)));
        assert_eq!(reply.refusal(), (401, "signed_out".to_owned()));
        assert_eq!(client.ask(get("/", Some(&other.access_token))).status, 200);
    }
}

#[test]
fn a_route_takes_only_the_issuers_it_names() {
    let backend = Backend::answering(|_| Answer::ok(""));
    let toml = crate::support::Toml {
        rest: "[[trusted_issuer]]\nissuer = \"https://other.test\"\naudience = [\"app\"]\njwks_file = \"jwks.json\"\n\
               [[route]]\npath = \"/\"\nupstream = \"app\"\n\
               [[route]]\npath = \"/other\"\nupstream = \"app\"\nissuers = [\"https://other.test\"]\n"
            .into(),
        ..crate::support::Toml::default()
    };
    let place = std::sync::Arc::new(crate::support::Workplace::new());
    // Somebody else's key, so that the issuer has one.
    let jwks = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    std::fs::write(place.path("jwks.json"), jwks).unwrap();
    let gateway = Gateway::at(place, &toml, &[backend.address]);
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    assert_eq!(client.ask(get("/", Some(&pair.access_token))).status, 200);
    assert_eq!(client.ask(get("/other", Some(&pair.access_token))).refusal(), (401, "unknown_issuer".to_owned()));
}
