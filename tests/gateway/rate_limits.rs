//! `rate_limit`: who is counted as what, and how it is told.

use crate::support::{Backend, Gateway, Reply, Toml, get};

fn start(backend: &Backend, routes: &str) -> Gateway {
    let toml = Toml {
        server: "workers = 2\ntrusted_proxies = [\"127.0.0.1\"]\n".into(),
        rest: routes.into(),
        tls: false,
        ..Toml::default()
    };
    Gateway::with(&toml, &[backend.address])
}

/// A request of the client `address`, which a trusted proxy tells of.
fn from(address: &str, path: &str, fields: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {address}\r\n{fields}\r\n")
}

fn limited(reply: &Reply) -> bool {
    if reply.status == 429 {
        assert_eq!(reply.refusal().1, "rate_limited");
        assert!(reply.header("retry-after").is_some());
    }
    reply.status == 429
}

#[test]
fn users_sessions_and_addresses_have_allowances_of_their_own() {
    let backend = Backend::start();
    let gateway = start(
        &backend,
        "[[route]]\npath = \"/user\"\nupstream = \"app\"\nrate_limit = [{ by = \"user\", rate = \"2/1h\" }]\n\
         [[route]]\npath = \"/session\"\nupstream = \"app\"\nrate_limit = [{ by = \"session\", rate = \"2/1h\" }]\n\
         [[route]]\npath = \"/address\"\nupstream = \"app\"\nauth = \"public\"\nrate_limit = [{ by = \"address\", rate = \"2/1h\" }]\n\
         [[route]]\npath = \"/route\"\nupstream = \"app\"\nauth = \"public\"\nrate_limit = [{ by = \"route\", rate = \"100/1h\", burst = 3 }]\n",
    );
    let (ann, ann2, bob) = (gateway.sign_in("ann"), gateway.sign_in("ann"), gateway.sign_in("bob"));
    // A connection each: both workers count together.
    let ask = |path: &str, token: &str| gateway.connect().ask(get(path, Some(token)));
    assert!(!limited(&ask("/user", &ann.access_token)) && !limited(&ask("/user", &ann2.access_token)));
    for _ in 0..4 {
        assert!(limited(&ask("/user", &ann.access_token)) && limited(&ask("/user", &ann2.access_token)));
    }
    assert!(!limited(&ask("/user", &bob.access_token)));
    for token in [&ann.access_token, &ann2.access_token] {
        assert!(
            !limited(&ask("/session", token)) && !limited(&ask("/session", token)) && limited(&ask("/session", token))
        );
    }
    let mut client = gateway.connect();
    let mut by_address = |address: &str| limited(&client.ask(from(address, "/address", "")));
    assert!(
        !by_address("192.0.2.1") && !by_address("192.0.2.1") && by_address("192.0.2.1") && !by_address("192.0.2.2")
    );
    // One household: the same /64.
    assert!(!by_address("2001:db8::1") && !by_address("2001:db8::2") && by_address("2001:db8::3"));
    assert!(!by_address("2001:db8:0:1::1"));
    let passed = (0..9).filter(|n| !limited(&client.ask(from(&format!("192.0.2.{n}"), "/route", "")))).count();
    assert_eq!(passed, 3);
}

#[test]
fn without_the_value_a_request_is_counted_by_its_address() {
    let backend = Backend::start();
    let gateway = start(
        &backend,
        "[[route]]\npath = \"/key\"\nupstream = \"app\"\nauth = \"public\"\nrate_limit = [{ by = \"header:X-Api-Key\", rate = \"1/1h\" }]\n\
         [[route]]\npath = \"/user\"\nupstream = \"app\"\nauth = \"public\"\nrate_limit = [{ by = \"user\", rate = \"1/1h\" }]\n",
    );
    let mut client = gateway.connect();
    let mut key = |address: &str, fields: &str| limited(&client.ask(from(address, "/key", fields)));
    assert!(!key("192.0.2.1", "X-Api-Key: a\r\n") && key("192.0.2.2", "X-Api-Key: a\r\n"));
    assert!(!key("192.0.2.2", "X-Api-Key: b\r\n"));
    assert!(!key("192.0.2.1", "") && key("192.0.2.1", "") && key("192.0.2.1", "X-Api-Key: c\r\nX-Api-Key: d\r\n"));
    // The upstream does not see the key, so that any other would do as well.
    assert!(key("192.0.2.1", "Connection: keep-alive, x-api-key\r\nX-Api-Key: e\r\n"));
    let mut user = |address: &str| limited(&client.ask(from(address, "/user", "")));
    assert!(!user("192.0.2.1") && user("192.0.2.1") && !user("192.0.2.2"));
}

#[test]
fn a_limit_is_told_on_every_answer() {
    let backend = Backend::start();
    let gateway = start(
        &backend,
        "[[route]]\npath = \"/\"\nupstream = \"app\"\n\
         rate_limit = [{ by = \"user\", rate = \"2/1m\" }, { by = \"address\", rate = \"100/1h\", burst = 10 }]\n",
    );
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    let policy = Some("\"address\";q=100;w=3600, \"user\";q=2;w=60");
    let first = client.ask(get("/", Some(&pair.access_token)));
    assert_eq!((first.status, first.header("ratelimit-policy")), (200, policy));
    assert_eq!(first.header("ratelimit"), Some("\"address\";r=9;t=36, \"user\";r=1;t=30"));
    assert_eq!(client.ask(get("/", Some(&pair.access_token))).status, 200);
    let refused = client.ask(get("/", Some(&pair.access_token)));
    assert!(limited(&refused));
    assert_eq!(refused.header("ratelimit-policy"), policy);
    assert!(refused.header("ratelimit").unwrap().ends_with(", \"user\";r=0;t=60"), "{refused:?}");
    assert_eq!(refused.header("retry-after"), Some("30"));
    let nobody = client.ask(get("/", None));
    assert_eq!((nobody.status, nobody.header("ratelimit-policy")), (401, policy));
    assert!(nobody.header("ratelimit").unwrap().starts_with("\"address\";r=6;"), "{nobody:?}");
}

#[test]
fn a_flood_of_bad_tokens_is_limited_before_any_is_verified() {
    let backend = Backend::start();
    let gateway = start(
        &backend,
        "[[route]]\npath = \"/\"\nupstream = \"app\"\nrate_limit = [{ by = \"address\", rate = \"3/1h\" }]\n",
    );
    let pair = gateway.sign_in("ann");
    let forged = format!("{}AAAA", &pair.access_token[..pair.access_token.len() - 4]);
    let mut client = gateway.connect();
    let reasons: Vec<_> = (0..5).map(|_| client.ask(get("/", Some(&forged))).refusal().1).collect();
    assert_eq!(reasons, ["bad_signature", "bad_signature", "bad_signature", "rate_limited", "rate_limited"]);
    assert!(backend.saw_nothing());
}

#[test]
fn another_spelling_is_no_way_around_a_limit() {
    let backend = Backend::start();
    let gateway = start(
        &backend,
        "[[route]]\npath = \"/\"\nupstream = \"app\"\nauth = \"public\"\n\
         [[route]]\npath = \"/login\"\nupstream = \"app\"\nauth = \"public\"\nrate_limit = [{ by = \"address\", rate = \"1/1h\" }]\n",
    );
    let mut client = gateway.connect();
    assert!(!limited(&client.ask(get("/login", None))) && limited(&client.ask(get("/login/", None))));
    for path in ["/Login", "/login;x", "/login."] {
        assert_eq!(client.ask(get(path, None)).refusal(), (400, "ambiguous_path".to_owned()), "{path}");
    }
}
