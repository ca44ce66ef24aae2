//! Pages of other origins: preflights answered at the edge, and answers that say who may read them.

use crate::support::{Answer, Backend, Gateway, Reply, Toml, post};

const ROUTES: &str = "[[route]]\npath = \"/api\"\nupstream = \"app\"\n\
    cors = { origins = [\"https://app.example\", \"https://*.app.example\"], credentials = true, expose = [\"X-Request-Id\"] }\n\
    rate_limit = [{ by = \"address\", rate = \"1000/1h\", burst = 4 }]\n\
    [[route]]\npath = \"/orders\"\nmethods = [\"GET\"]\nupstream = \"app\"\ncors = { origins = [\"*\"] }\n\
    [[route]]\npath = \"/orders\"\nmethods = [\"DELETE\"]\nupstream = \"app\"\ncors = { origins = [\"https://admin.example\"], max_age = \"5m\", headers = [\"X-Reason\"] }\n\
    [[route]]\npath = \"/own\"\nupstream = \"app\"\nauth = \"public\"\n";

const APP: &str = "https://app.example";

fn start(backend: &Backend) -> Gateway {
    let toml = Toml {
        store: "path = \"data\"\n[auth.cors]\norigins = [\"https://app.example\"]\nexpose = [\"Retry-After\"]\n".into(),
        rest: ROUTES.into(),
        ..Toml::default()
    };
    Gateway::with(&toml, &[backend.address])
}

fn preflight(path: &str, origin: &str, method: &str) -> String {
    format!(
        "OPTIONS {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\nAccess-Control-Request-Method: {method}\r\n\
         Access-Control-Request-Headers: authorization\r\n\r\n"
    )
}

fn from(origin: &str, path: &str, token: Option<&str>) -> String {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n{token}\r\n")
}

fn vary(reply: &Reply) -> String {
    let fields = reply.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("vary"));
    fields.map(|(_, value)| value.as_str()).collect::<Vec<_>>().join(", ").to_ascii_lowercase()
}

fn allowed(reply: &Reply) -> Option<&str> {
    reply.header("access-control-allow-origin")
}

#[test]
fn a_preflight_is_answered_at_the_edge_without_a_token() {
    let backend = Backend::start();
    let gateway = start(&backend);
    let mut client = gateway.connect();
    // More often than the route takes requests: a preflight is none.
    for origin in [APP, "https://a.b.app.example"].into_iter().cycle().take(10) {
        let reply = client.ask(preflight("/api/x?y", origin, "PUT"));
        assert_eq!((reply.status, allowed(&reply), reply.body.len()), (204, Some(origin), 0));
        let field = |name| reply.header(name).map(str::to_ascii_lowercase);
        assert_eq!(field("access-control-allow-methods").unwrap(), "get, head, post, put, patch, delete");
        assert_eq!(field("access-control-allow-headers").unwrap(), "authorization, content-type");
        assert_eq!(field("access-control-allow-credentials").as_deref(), Some("true"));
        assert_eq!(field("access-control-max-age").as_deref(), Some("3600"));
        assert_eq!((field("access-control-expose-headers"), field("ratelimit")), (None, None));
        assert!(vary(&reply).contains("origin") && vary(&reply).contains("access-control-request-method"));
    }
    assert!(backend.saw_nothing());
}

#[test]
fn a_preflight_takes_the_route_of_the_method_it_asks_for() {
    let backend = Backend::start();
    let gateway = start(&backend);
    let mut client = gateway.connect();
    let get = client.ask(preflight("/orders/1", APP, "GET"));
    assert_eq!((get.status, allowed(&get)), (204, Some("*")));
    assert_eq!(get.header("access-control-allow-methods"), Some("GET"));
    let delete = client.ask(preflight("/orders/1", "https://admin.example", "DELETE"));
    assert_eq!((delete.status, allowed(&delete)), (204, Some("https://admin.example")));
    assert_eq!(delete.header("access-control-max-age"), Some("300"));
    assert_eq!(delete.header("access-control-allow-headers"), Some("x-reason"));
    let delete = client.ask(preflight("/orders/1", APP, "DELETE"));
    assert_eq!(delete.refusal(), (403, "origin_not_allowed".to_owned()));
    let put = client.ask(preflight("/orders/1", APP, "PUT"));
    assert_eq!((put.refusal(), allowed(&put)), ((405, "method_not_allowed".to_owned()), None));
    for path in ["/orders/..", "/Api/x", "/orders%2f1"] {
        assert_ne!(gateway.connect().ask(preflight(path, APP, "GET")).status, 204, "{path}");
    }
    assert!(backend.saw_nothing());
}

#[test]
fn a_page_that_may_not_call_learns_nothing() {
    let backend = Backend::answering(|_| {
        Answer::Bytes(
            b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: *\r\nAccess-Control-Allow-Credentials: true\r\n\
              Vary: Accept\r\nContent-Length: 2\r\n\r\nok"
                .to_vec(),
        )
    });
    let gateway = start(&backend);
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    for origin in [
        "https://evil.example",
        "null",
        "http://app.example",
        "https://app.example.evil.example",
        "https://xapp.example",
        "https://app.example:8443",
        "HTTPS://APP.EXAMPLE",
        "https://app.example, https://app.example",
        "https://app.example\r\nOrigin: https://app.example",
    ] {
        let reply = client.ask(preflight("/api", origin, "GET"));
        assert_eq!(reply.refusal(), (403, "origin_not_allowed".to_owned()), "{origin}");
        assert!(!reply.headers.iter().any(|(name, _)| name.starts_with("access-control-")), "{origin}: {reply:?}");
        assert_eq!(vary(&reply), "origin");
    }
    // The request itself is no preflight's to stop; but the page may not read the answer, whatever the upstream says.
    let reply = client.ask(from("https://evil.example", "/api", Some(&pair.access_token)));
    assert_eq!((reply.status, vary(&reply).as_str()), (200, "accept, origin"));
    assert!(!reply.headers.iter().any(|(name, _)| name.starts_with("access-control-")), "{reply:?}");
}

#[test]
fn answers_and_refusals_alike_can_be_read_by_the_page() {
    let backend = Backend::answering(|_| {
        Answer::Bytes(
            b"HTTP/1.1 200 OK\r\nAccess-Control-Allow-Origin: https://other.example\r\nContent-Length: 2\r\n\r\nok"
                .to_vec(),
        )
    });
    let gateway = start(&backend);
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    let good = client.ask(from(APP, "/api", Some(&pair.access_token)));
    let missing = client.ask(from(APP, "/api", None));
    let bad = client.ask(from(APP, "/api", Some("x.y.z")));
    drop(client.ask(from(APP, "/api", None)));
    let limited = client.ask(from(APP, "/api", Some(&pair.access_token)));
    for (reply, status) in [(good, 200), (missing, 401), (bad, 401), (limited, 429)] {
        assert_eq!((reply.status, allowed(&reply), vary(&reply).as_str()), (status, Some(APP), "origin"));
        assert_eq!(reply.header("access-control-allow-credentials"), Some("true"));
        assert_eq!(reply.header("access-control-expose-headers"), Some("x-request-id"));
    }
    // Also without an origin: a cache must know that the answer depends on it.
    let plain = client.ask("GET /orders HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((plain.status, vary(&plain).as_str()), (401, "origin"));
}

#[test]
fn an_upstream_gone_is_readable_too() {
    let backend = Backend::start();
    let gateway = start(&backend);
    let pair = gateway.sign_in("ann");
    drop(backend);
    std::thread::sleep(std::time::Duration::from_millis(100));
    let reply = gateway.connect().ask(from(APP, "/api", Some(&pair.access_token)));
    assert_eq!((reply.status, allowed(&reply)), (502, Some(APP)));
}

#[test]
fn a_route_without_cors_leaves_it_to_the_upstream() {
    let backend = Backend::answering(|_| {
        Answer::Bytes(
            b"HTTP/1.1 204 No Content\r\nAccess-Control-Allow-Origin: https://theirs.example\r\n\r\n".to_vec(),
        )
    });
    let gateway = start(&backend);
    let reply = gateway.connect().ask(preflight("/own", APP, "GET"));
    assert_eq!((reply.status, allowed(&reply), vary(&reply).as_str()), (204, Some("https://theirs.example"), ""));
    assert_eq!(backend.next().line, "OPTIONS /own HTTP/1.1");
    // Not a preflight: the route's own business, token and all.
    let options = format!("OPTIONS /api HTTP/1.1\r\nHost: localhost\r\nOrigin: {APP}\r\n\r\n");
    assert_eq!(gateway.connect().ask(options).refusal(), (401, "missing_token".to_owned()));
}

#[test]
fn the_public_endpoints_can_be_called_by_a_page() {
    let backend = Backend::start();
    let gateway = start(&backend);
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    for path in ["/auth/refresh", "/auth/logout"] {
        let reply = client.ask(preflight(path, APP, "POST"));
        assert_eq!((reply.status, allowed(&reply)), (204, Some(APP)), "{path}");
        assert_eq!(reply.header("access-control-allow-methods"), Some("GET, HEAD, POST"));
        assert_eq!(client.ask(preflight(path, "https://evil.example", "POST")).status, 403, "{path}");
    }
    assert_eq!(client.ask(preflight("/auth/else", APP, "POST")).status, 404);
    let body = format!("grant_type=refresh_token&refresh_token={}", &*pair.refresh_token);
    let request = post("/auth/refresh", "application/x-www-form-urlencoded", &body);
    let page = |origin: &str| request.replacen("Host:", &format!("Origin: {origin}\r\nHost:"), 1);
    let reply = client.ask(page(APP));
    assert_eq!((reply.status, allowed(&reply), vary(&reply).as_str()), (200, Some(APP), "origin"));
    assert_eq!(reply.header("access-control-expose-headers"), Some("retry-after"));
    let reply = client.ask(page("https://evil.example"));
    assert_eq!((reply.status, allowed(&reply)), (200, None));
    let bad = post("/auth/refresh", "application/x-www-form-urlencoded", "grant_type=refresh_token&refresh_token=x");
    let reply = client.ask(bad.replacen("Host:", &format!("Origin: {APP}\r\nHost:"), 1));
    assert_eq!((reply.status, allowed(&reply)), (400, Some(APP)));
}
