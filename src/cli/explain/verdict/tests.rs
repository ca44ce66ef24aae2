use std::path::Path;

use serde_json::json;

use super::super::request;
use super::*;
use crate::app;
use crate::ids::SessionId;
use crate::token::OWN_ISSUER;
use crate::token::mint::{self, AccessClaims};
use crate::token::signing::SigningKeys;

const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);

const CONFIG: &str = r#"[server]
listen = ["127.0.0.1:8080"]
trusted_proxies = ["10.0.0.0/8"]
[session]
issuer = "https://shop.example.com"
audience = "shop"
[upstream.shop]
servers = ["http://10.0.0.5:8080", "http://[fd00::5]:8080"]
[[route]]
path = "/"
upstream = "shop"
[[route]]
path = "/public"
upstream = "shop"
auth = "public"
[[route]]
host = ["api.example", "*.api.example"]
path = "/v1"
upstream = "shop"
strip_prefix = true
mode = "observe"
request_headers = { remove = ["X-Debug"], set = { "X-Tenant" = "blue" } }
response_headers = { add = { "X-Frame-Options" = "DENY" } }
cors = { origins = ["https://*.app.example"] }
rate_limit = [{ by = "user", rate = "100/1m", burst = 20 }]
[[route]]
path = "/old"
redirect = "https://new.example"
auth = "public"
[[route]]
path = "/down"
auth = "public"
respond = { status = 503, body = "later" }
[[route]]
path = "/irc"
upstream = "shop"
auth = "public"
upgrades = ["irc"]
[[route]]
path = "/grpc"
upstream = "grpc"
auth = "public"
[upstream.grpc]
servers = ["http://10.0.0.6:8080"]
protocol = "http2"
[[server.listener]]
address = "127.0.0.1:8081"
redirect_to_https = 8443
"#;

/// What becomes of a request of `client`; with a good token of user ann when `signed_in`.
fn explained(method: &str, url: &str, headers: &[&str], signed_in: bool, client: &str) -> Explained {
    let dir = tempfile::tempdir().unwrap();
    let config = Config::parse(CONFIG, "p.toml", Path::new("")).unwrap();
    let keys = SigningKeys::open_managed(dir.path(), NOW).unwrap();
    let verifier = app::verifier(&config);
    verifier.swap_keys(OWN_ISSUER, keys.key_set());
    let user = crate::ids::UserId::parse("ann").unwrap();
    let claims = AccessClaims {
        issuer: "https://shop.example.com",
        audience: "shop",
        user: &user,
        session: SessionId::from_bytes([7; 16]),
        issued_at: NOW,
        expires_at: NOW.plus(std::time::Duration::from_secs(3600)),
        extra: None,
    };
    let token = mint::mint(&keys, &claims);
    let headers: Vec<String> = headers.iter().map(|text| (*text).to_owned()).collect();
    let token = signed_in.then_some(token.as_str());
    let asked = request::asked(method.parse().unwrap(), url, &headers, token).unwrap();
    explain(&config, &verifier, asked, client.parse().unwrap(), NOW, Vec::new())
}

fn header<'e>(explained: &'e Explained, name: &str) -> Vec<&'e str> {
    explained.headers.iter().filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).collect()
}

#[test]
fn a_good_token_becomes_identity_headers_and_a_forged_one_goes() {
    let explained = explained("GET", "https://a.example/x", &["X-User-Id: admin", "X_User_Id: admin"], true, "::1");
    assert!(explained.forwarded && !explained.refused());
    assert_eq!(header(&explained, "x-user-id"), ["ann"]);
    assert_eq!(header(&explained, "x-session-id"), ["07070707070707070707070707070707"]);
    assert!(header(&explained, "x_user_id").is_empty() && header(&explained, "authorization").is_empty());
    assert_eq!(header(&explained, "host"), ["a.example"]);
    let text = explained.human("GET https://a.example/x", NOW);
    for part in [
        "route     / (p.toml:9)",
        "user ann",
        "in 60 min",
        "forwarded to upstream shop: http://10.0.0.5:8080, http://[fd00::5]:8080",
        "  x-user-id: ann",
        "known to the running gateway only",
    ] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
}

#[test]
fn a_refusal_has_its_status_and_word() {
    for (method, url, headers, status, reason) in [
        ("GET", "https://a/x", &[][..], 401, "missing_token"),
        ("GET", "https://a/x", &["Authorization: Basic x"], 401, "malformed_authorization"),
        ("GET", "https://a/x", &["Authorization: Bearer x"], 401, "malformed_token"),
        ("GET", "https://a/public%2fx", &[], 400, "ambiguous_path"),
        ("GET", "https://a/auth/else", &[], 404, "no_route"),
        ("TRACE", "https://a/x", &[], 501, "not_implemented"),
        ("POST", "https://a/x", &["Content-Length: 1", "Transfer-Encoding: chunked"], 400, "bad_framing"),
    ] {
        let explained = explained(method, url, headers, false, "::1");
        assert_eq!((explained.status, explained.reason), (Some(status), Some(reason)), "{method} {url} {headers:?}");
        assert!(explained.headers.is_empty() && !explained.forwarded);
    }
}

#[test]
fn a_public_route_and_an_own_endpoint_need_no_token() {
    let public = explained("GET", "https://a/public/x", &["X-User-Id: admin"], false, "::1");
    assert!(public.forwarded && header(&public, "x-user-id").is_empty());
    assert!(public.human("", NOW).contains("nobody known"));
    let own = explained("POST", "https://a/auth/refresh", &[], false, "::1");
    assert!(!own.refused() && !own.forwarded);
    assert_eq!(serde_json::to_value(&own).unwrap()["endpoint"], json!("/auth/refresh"));
}

#[test]
fn a_trusted_proxy_is_believed() {
    let via = |client| explained("GET", "http://a/public", &["X-Forwarded-For: 192.0.2.7"], false, client);
    assert_eq!(header(&via("10.1.1.1"), "x-forwarded-for"), ["192.0.2.7, 10.1.1.1"]);
    assert_eq!(header(&via("192.0.2.1"), "x-forwarded-for"), ["192.0.2.1"]);
}

#[test]
fn all_that_a_route_says_is_told() {
    let explained = explained("GET", "https://eu.API.example/v1/x?q", &["X-Debug: 1"], false, "::1");
    assert!(explained.forwarded && !explained.refused());
    assert_eq!((header(&explained, "x-tenant"), header(&explained, "x-debug")), (vec!["blue"], vec![]));
    assert_eq!(header(&explained, "x-forwarded-prefix"), ["/v1"]);
    let text = explained.human("", NOW);
    for line in [
        "rule      auth = \"required\", mode = \"observe\"",
        "hosts     api.example; *.api.example",
        "request   removes x-debug; sets x-tenant",
        "answer    adds x-frame-options",
        "cors      https://*.app.example",
        "limits    100/1m by user, 20 at once",
        "observed  would be refused, reason missing_token",
        "          as /x?q",
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    let json = serde_json::to_value(&explained).unwrap();
    assert_eq!((&json["would_refuse"], &json["upstream"]["target"]), (&json!("missing_token"), &json!("/x?q")));
}

#[test]
fn what_the_gateway_answers_in_the_upstreams_place_is_told() {
    let moved = explained("GET", "https://a/old/x?y", &[], false, "::1");
    assert!(!moved.refused() && !moved.forwarded);
    assert!(moved.human("", NOW).contains("redirected: 308 Permanent Redirect, to https://new.example/old/x?y"));
    let down = explained("GET", "https://a/down", &[], false, "::1");
    assert!(!down.refused() && down.human("", NOW).contains("itself: 503 Service Unavailable, 5 bytes"));
    let asked = ["Access-Control-Request-Method: PUT", "Origin: https://x.app.example"];
    let preflight = explained("OPTIONS", "https://api.example/v1/x", &asked, false, "::1");
    assert!(!preflight.refused() && preflight.human("", NOW).contains("204 No Content"));
    assert!(preflight.human("", NOW).contains("  access-control-allow-origin: https://x.app.example"));
    let asked = ["Access-Control-Request-Method: PUT", "Origin: https://evil.example"];
    let preflight = explained("OPTIONS", "https://api.example/v1/x", &asked, false, "::1");
    assert_eq!((preflight.status, preflight.reason), (Some(403), Some("origin_not_allowed")));
}

#[test]
fn the_method_of_an_own_endpoint_is_judged() {
    for (method, url, allow) in [
        ("GET", "https://a/auth/refresh", Some("POST")),
        ("DELETE", "https://a/auth/logout", Some("POST")),
        ("POST", "https://a/.well-known/jwks.json", Some("GET, HEAD")),
        ("HEAD", "https://a/.well-known/oauth-authorization-server", None),
        ("POST", "https://a/auth/logout", None),
    ] {
        let explained = explained(method, url, &[], false, "::1");
        assert_eq!(explained.allow.as_deref(), allow, "{method} {url}");
        let refused = allow.map(|_| (405, "method_not_allowed"));
        assert_eq!(explained.status.zip(explained.reason), refused, "{method} {url}");
        if let Some(allow) = allow {
            let text = explained.human("", NOW);
            assert!(text.contains(&format!("reason method_not_allowed\n          Allow: {allow}")), "{text}");
        }
    }
}

#[test]
fn a_websocket_handshake_is_passed_on_with_its_two_fields_or_told_why_not() {
    let handshake = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"];
    let passed = explained("GET", "https://a/public", &handshake, false, "::1");
    assert_eq!(header(&passed, "connection"), ["upgrade"]);
    assert_eq!(header(&passed, "upgrade"), ["websocket"]);
    let text = passed.human("", NOW);
    assert!(text.contains("upgrade   to websocket is passed on"), "{text}");
    let json = serde_json::to_value(&passed).unwrap();
    assert_eq!(json["upgrade"], json!({ "protocol": "websocket", "passed_on": true }));

    let named = "Connection: upgrade";
    for (url, headers, why) in [
        ("https://a/irc", &[named, "Upgrade: websocket"][..], "upgrades of the route do not have it"),
        ("https://a/grpc", &[named, "Upgrade: websocket"], "HTTP/2, which upstream grpc speaks, has no Upgrade"),
        ("https://a/public", &[named, "Upgrade: h2c"], "it would carry HTTP again"),
        ("https://a/irc", &[named, "Upgrade: h2c"], "it would carry HTTP again"),
        ("https://a/public", &[named, "Upgrade: websocket, irc"], "it is not one protocol"),
        ("https://a/public", &[named, "Upgrade: websocket", "Upgrade: irc"], "it is not one protocol"),
        ("https://a/public", &["Upgrade: websocket"], "Connection does not name Upgrade"),
        ("https://a/public", &[named, "Upgrade: websocket", "Content-Length: 3"], "the request has a body"),
    ] {
        let explained = explained("GET", url, headers, false, "::1");
        assert!(explained.forwarded, "{url} {headers:?}");
        assert!(header(&explained, "upgrade").is_empty() && header(&explained, "connection").is_empty());
        let text = explained.human("", NOW);
        assert!(text.contains(&format!("is not passed on: {why}")), "{why}:\n{text}");
    }
    let plain = explained("GET", "https://a/public", &[], false, "::1");
    assert!(plain.upgrade.is_none() && !plain.human("", NOW).contains("upgrade"));
}

#[test]
fn the_scheme_of_the_url_is_what_the_upstream_is_told() {
    let (secure, plain) = ("https://a/public", "http://a/public");
    for (url, scheme) in [(secure, "https"), (plain, "http")] {
        let explained = explained("GET", url, &[], false, "::1");
        assert_eq!(header(&explained, "x-forwarded-proto"), [scheme]);
        let redirects = "note: over the listener 127.0.0.1:8081 it would be redirected to https at port 8443";
        assert_eq!(explained.human("", NOW).contains(redirects), url == plain, "{url}");
    }
}
