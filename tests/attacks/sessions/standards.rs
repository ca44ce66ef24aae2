//! What the standards ask of sessions and their tokens, where no other test says it: the item first, then what holds.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use portcullis::revocation::EndReason;
use serde_json::json;

use crate::support::{ADMIN_TOKEN, Backend, Client, Gateway, Process, Reply, Toml, Workplace, get, post, refresh};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

fn gateway(session: &str) -> (Backend, Gateway) {
    let backend = Backend::start();
    let toml = Toml { session: session.into(), ..Toml::default() };
    let gateway = Gateway::with(&toml, &[backend.address]);
    (backend, gateway)
}

fn pair(reply: &Reply) -> (String, String) {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let text = |member: &str| reply.json()[member].as_str().unwrap().to_owned();
    (text("access_token"), text("refresh_token"))
}

/// `error` and `reason` of an answer of 400.
fn refused(reply: &Reply) -> (String, String) {
    assert_eq!((reply.status, reply.header("cache-control")), (400, Some("no-store")), "{}", reply.text());
    let text = |member: &str| reply.json()[member].as_str().unwrap().to_owned();
    (text("error"), text("reason"))
}

fn form(text: &str) -> String {
    post("/auth/refresh", FORM, text)
}

/// RFC 9700 §4.14.2 and ASVS 5.0 10.4.5: who of the two that have a token is the thief cannot be told, so both are out.
#[test]
fn rfc_9700_4_14_2_a_replayed_refresh_token_revokes_its_successor_and_the_access_tokens_of_the_session() {
    let (_backend, gateway) = gateway("refresh_grace = \"1ms\"\n");
    let first = gateway.sign_in("ann");
    let mut client = gateway.connect();
    let (access, second) = pair(&client.ask(refresh(&first.refresh_token)));
    let (_, third) = pair(&client.ask(refresh(&second)));
    std::thread::sleep(Duration::from_millis(5));
    let stolen = client.ask(refresh(&first.refresh_token));
    assert_eq!(refused(&stolen), ("invalid_grant".into(), "refresh_reused".into()));
    for token in [&second, &third] {
        assert_eq!(refused(&client.ask(refresh(token))).0, "invalid_grant");
    }
    for token in [&*first.access_token, &access] {
        assert_eq!(client.ask(get("/x", Some(token))).refusal(), (401, "refresh_reused".into()));
    }
    // The user's other sessions are nobody's business.
    let other = gateway.sign_in("ann");
    assert_eq!(client.ask(get("/x", Some(&other.access_token))).status, 200);
}

/// RFC 9700 §4.14.2: refresh tokens should expire when the client is not active; ASVS 5.0 7.3.1.
#[test]
fn rfc_9700_4_14_2_a_refresh_token_that_nobody_uses_expires() {
    let (_backend, gateway) = gateway("idle_timeout = \"1s\"\n");
    let unused = gateway.sign_in("ann");
    std::thread::sleep(Duration::from_millis(1200));
    let reply = gateway.connect().ask(refresh(&unused.refresh_token));
    assert_eq!(refused(&reply), ("invalid_grant".into(), "session_idle".into()));
}

/// RFC 9700 §4.14.2: revoked on logout and on a change of password; ASVS 5.0 7.4.1, 7.4.3.
#[test]
fn rfc_9700_4_14_2_logout_and_a_change_of_password_revoke_refresh_tokens_at_once() {
    let (_backend, gateway) = gateway("");
    for (reason, word) in [(EndReason::SignedOut, "signed_out"), (EndReason::SecurityAction, "security_action")] {
        let session = gateway.sign_in("ann");
        gateway.end(session.session, reason);
        let mut client = gateway.connect();
        assert_eq!(refused(&client.ask(refresh(&session.refresh_token))), ("invalid_grant".into(), word.into()));
        assert_eq!(client.ask(get("/x", Some(&session.access_token))).refusal(), (401, word.into()));
    }
}

/// RFC 6749 §6, RFC 9700 §4.14.2: what a refresh asks for beside its token is not granted; the claims are the sign-in's.
#[test]
fn rfc_6749_6_a_refresh_grants_no_more_than_the_sign_in_did() {
    let (_backend, gateway) = gateway("");
    let admin = |body: &serde_json::Value| {
        let body = body.to_string();
        Client::plain(gateway.app().admin().unwrap()).ask(format!(
            "POST /v1/sessions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\nContent-Type: {JSON}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    let reply = admin(&json!({ "user_id": "ann", "claims": { "scope": "read" } }));
    let token = reply.json()["refresh_token"].as_str().unwrap().to_owned();
    let more = format!("grant_type=refresh_token&refresh_token={token}&scope=read+admin&user_id=root&sub=root&aud=all");
    let (access, _) = pair(&gateway.connect().ask(form(&more)));
    let claims = claims(&access);
    assert_eq!((&claims["scope"], &claims["sub"], &claims["aud"]), (&json!("read"), &json!("ann"), &json!("app")));
}

fn claims(token: &str) -> serde_json::Value {
    use base64::Engine as _;
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
}

/// RFC 6749 §3.2: `POST` only; no parameter twice; unknown ones ignored; one without a value is as if it was not there.
#[test]
fn rfc_6749_3_2_the_token_endpoint_reads_its_parameters_as_it_must() {
    let (_backend, gateway) = gateway("refresh_grace = \"1m\"\n");
    let session = gateway.sign_in("ann");
    let good = format!("grant_type=refresh_token&refresh_token={}", &*session.refresh_token);
    let token = &*session.refresh_token;
    let cases: &[(&str, String, u16, &str)] = &[
        ("unknown parameters", format!("{good}&client_id=a&client_id=b&x"), 200, ""),
        ("no grant type", format!("refresh_token={token}"), 400, "invalid_request"),
        ("an empty grant type", format!("grant_type=&refresh_token={token}"), 400, "invalid_request"),
        ("a grant type without =", format!("grant_type&refresh_token={token}"), 400, "invalid_request"),
        ("another grant type", format!("grant_type=password&refresh_token={token}"), 400, "unsupported_grant_type"),
        (
            "grant type in capitals",
            format!("grant_type=REFRESH_TOKEN&refresh_token={token}"),
            400,
            "unsupported_grant_type",
        ),
        ("no token", "grant_type=refresh_token".into(), 400, "invalid_request"),
        ("an empty token", "grant_type=refresh_token&refresh_token=".into(), 400, "invalid_request"),
        ("the token twice", format!("{good}&refresh_token={token}"), 400, "invalid_request"),
        ("the token twice, once empty", format!("{good}&refresh_token="), 400, "invalid_request"),
        ("the grant type twice", format!("{good}&grant_type=refresh_token"), 400, "invalid_request"),
        ("the token with a space", format!("{good}+"), 400, "invalid_grant"),
        (
            "the token in another case",
            format!("grant_type=refresh_token&refresh_token={}", token.to_uppercase()),
            400,
            "invalid_grant",
        ),
    ];
    let mut failed = Vec::new();
    for (name, body, status, error) in cases {
        let reply = gateway.connect().ask(form(body));
        let got = if reply.status == 200 { String::new() } else { reply.json()["error"].as_str().unwrap().to_owned() };
        if (reply.status, got.as_str()) != (*status, *error) {
            failed.push(format!("{name}: {} {got}", reply.status));
        }
    }
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let line = format!("{method} /auth/refresh?{good} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        let reply =
            if method == "HEAD" { gateway.connect().send(line).head_reply() } else { gateway.connect().ask(line) };
        // ASVS 5.0 4.1.4, and RFC 9110 §15.5.6.
        if (reply.status, reply.header("allow")) != (405, Some("POST")) {
            failed.push(format!("{method}: {} {:?}", reply.status, reply.header("allow")));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    println!("token endpoint: {} cases", cases.len() + 6);
}

/// RFC 6749 §10.4 and ASVS 5.0 7.2.3: 128 bits of randomness, every one of them; 7.2.2, 7.2.4: a new session each time.
#[test]
fn asvs_7_2_3_session_ids_are_128_bits_of_randomness_and_new_with_each_sign_in() {
    const COUNT: usize = 128;
    let (_backend, gateway) = gateway("");
    let sessions: Vec<_> = (0..COUNT).map(|_| gateway.sign_in("ann")).collect();
    let ids: Vec<[u8; 16]> = sessions.iter().map(|pair| *pair.session.as_bytes()).collect();
    assert_eq!(ids.iter().collect::<HashSet<_>>().len(), COUNT);
    let tokens = sessions.iter().flat_map(|pair| [&*pair.refresh_token, &*pair.access_token]);
    assert_eq!(tokens.collect::<HashSet<_>>().len(), 2 * COUNT);
    for bit in 0..128 {
        // One that is stuck would be seen in any two; by chance all are alike once in 2^120 runs.
        let set = ids.iter().filter(|id| id[bit / 8] >> (bit % 8) & 1 == 1).count();
        assert!(set > 0 && set < COUNT, "bit {bit} is always the same");
    }
}

/// RFC 6750 §2.2, §2.3: tokens in the body or the address are none; with the header they do not count beside it.
#[test]
fn rfc_6750_2_a_token_is_taken_from_the_authorization_header_alone() {
    let (backend, gateway) = gateway("");
    let session = gateway.sign_in("ann");
    let token = &*session.access_token;
    let elsewhere = [
        ("query", get(&format!("/x?access_token={token}"), None)),
        ("body", post("/x", FORM, &format!("access_token={token}"))),
        (
            "cookie",
            format!("GET /x HTTP/1.1\r\nHost: a\r\nCookie: access_token={token}; Authorization=Bearer {token}\r\n\r\n"),
        ),
        ("another header", format!("GET /x HTTP/1.1\r\nHost: a\r\nX-Authorization: Bearer {token}\r\n\r\n")),
        ("for a proxy", format!("GET /x HTTP/1.1\r\nHost: a\r\nProxy-Authorization: Bearer {token}\r\n\r\n")),
    ];
    for (name, request) in &elsewhere {
        let reply = gateway.connect().ask(request);
        assert_eq!(reply.refusal(), (401, "missing_token".into()), "{name}");
        // §3.1: no error code for who brought nothing.
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{name}");
    }
    assert!(backend.saw_nothing());
    let beside = get(&format!("/x?access_token={token}x"), Some(token));
    assert_eq!(gateway.connect().ask(beside).status, 200);
}

/// RFC 7009 §2.1, §2.2: hints may be wrong, unknown tokens are no error, and an access token dies with its refresh token.
#[test]
fn rfc_7009_2_a_revoked_token_takes_the_others_of_its_session_along() {
    let (_backend, gateway) = gateway("");
    let cases: &[(&str, fn(&portcullis::session::TokenPair) -> String)] = &[
        ("by refresh token", |pair| format!("token={}", &*pair.refresh_token)),
        ("by access token", |pair| format!("token={}", &*pair.access_token)),
        ("with a hint", |pair| format!("token={}&token_type_hint=refresh_token", &*pair.refresh_token)),
        ("with a wrong hint", |pair| format!("token={}&token_type_hint=access_token", &*pair.refresh_token)),
        ("with an unknown hint", |pair| format!("token={}&token_type_hint=nonsense", &*pair.access_token)),
    ];
    for (name, body) in cases {
        let session = gateway.sign_in("ann");
        let mut client = gateway.connect();
        for _ in 0..2 {
            assert_eq!(client.ask(post("/auth/logout", FORM, &body(&session))).status, 200, "{name}");
        }
        assert_eq!(refused(&client.ask(refresh(&session.refresh_token))).1, "signed_out", "{name}");
        let reply = client.ask(get("/x", Some(&session.access_token)));
        assert_eq!(reply.refusal(), (401, "signed_out".into()), "{name}");
    }
    let mut client = gateway.connect();
    assert_eq!(client.ask(post("/auth/logout", FORM, "token=unknown&token_type_hint=refresh_token")).status, 200);
    assert_eq!(client.ask(get("/auth/logout?token=unknown", None)).status, 405);
}

/// ASVS 5.0 10.4.9, 7.4.5: an administrator ends a user's sessions; what that user had is refused, and others are not.
#[test]
fn asvs_7_4_5_an_administrator_ends_all_sessions_of_a_user_at_once() {
    let (_backend, gateway) = gateway("");
    let (ann, other, bob) = (gateway.sign_in("ann"), gateway.sign_in("ann"), gateway.sign_in("bob"));
    let reply = Client::plain(gateway.app().admin().unwrap()).ask(format!(
        "DELETE /v1/users/ann/sessions HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
    ));
    assert_eq!(reply.status, 200);
    for session in [&ann, &other] {
        let mut client = gateway.connect();
        assert_eq!(client.ask(get("/x", Some(&session.access_token))).refusal(), (401, "security_action".into()));
        assert_eq!(refused(&client.ask(refresh(&session.refresh_token))).0, "invalid_grant");
    }
    assert_eq!(gateway.connect().ask(get("/x", Some(&bob.access_token))).status, 200);
}

/// ASVS 5.0 16.4.1, 16.3.1, 16.3.2: each request is one line that reads as one, whatever the client wrote; a refusal has
/// its reason, and an identity only when it was verified.
#[test]
fn asvs_16_4_1_nothing_a_client_writes_makes_a_line_of_the_log_its_own() {
    let backend = Backend::start();
    let text = Toml::default().text(&[backend.address]);
    let text = text.replace("access = \"off\"", "access = \"all\"\nformat = \"json\"");
    let process = Process::start_with(&Arc::new(Workplace::new()), &text);
    let (access, _) = process.sign_in("ann");
    let forged = format!("{}.e30.{}", access.split('.').next().unwrap(), access.rsplit('.').next().unwrap());
    let fields = [
        "X-Request-Id: a\",\"user\":\"admin",
        "X-Request-Id: a\tb",
        "User-Agent: x\",\"status\":200}",
        "User-Agent: \u{9b}31m\u{85}{\"status\":200}",
        "traceparent: 00-\"-\"-01",
        "X-Forwarded-For: 1.2.3.4\",\"user\":\"admin",
        "Referer: \\u000a{\"status\":200}",
    ];
    let mut requests = Vec::new();
    for field in fields {
        requests.push((format!("GET /public HTTP/1.1\r\nHost: a\r\n{field}\r\n\r\n"), None));
        let bearer = format!("Authorization: Bearer {access}\r\n");
        requests.push((format!("GET /x HTTP/1.1\r\nHost: a\r\n{bearer}{field}\r\n\r\n"), Some("ann")));
        let bearer = format!("Authorization: Bearer {forged}\r\n");
        requests.push((format!("GET /x HTTP/1.1\r\nHost: a\r\n{bearer}{field}\r\n\r\n"), None));
    }
    for path in ["/public/%0d%0a%7b%22status%22:200%7d", "/public/\"}", "/public?a=\"},{\"", "/public/%e2%80%a8"] {
        requests.push((format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"), None));
    }
    for (request, _) in &requests {
        let mut client = process.connect();
        client.send(request);
        let _ = client.try_reply(false);
    }
    let place = process.place.clone();
    assert!(process.stop().success());
    let log = std::fs::read_to_string(place.path("access")).unwrap();
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect();
    // Those that are no HTTP may have none.
    assert!(lines.len() <= requests.len() && lines.len() >= requests.len() - 8, "{}", lines.len());
    let users = lines.iter().filter(|line| !line["user"].is_null()).collect::<Vec<_>>();
    assert!(users.iter().all(|line| line["user"] == "ann"), "{users:#?}");
    assert!(lines.iter().filter(|line| line["status"] == 401).all(|line| line["reason"].is_string()));
    assert!(log.chars().all(|c| c == '\n' || !c.is_control()), "control characters in the log");
    println!("log lines: {} requests", requests.len());
}
