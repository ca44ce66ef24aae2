//! Refresh, logout and every way a session ends, through the public endpoints.

use std::sync::Arc;
use std::time::Duration;

use portcullis::clock::UnixTime;
use portcullis::revocation::EndReason;

use crate::support::{Backend, Gateway, Reply, Toml, Workplace, get, post, refresh};

fn tokens(reply: &Reply) -> (String, String) {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let json = reply.json();
    let text = |name: &str| json[name].as_str().unwrap_or_else(|| panic!("{name} in {json}")).to_owned();
    (text("access_token"), text("refresh_token"))
}

fn invalid_grant(reply: &Reply) -> String {
    let json = reply.json();
    assert_eq!((reply.status, json["error"].as_str()), (400, Some("invalid_grant")), "{json}");
    json["reason"].as_str().unwrap_or("-").to_owned()
}

fn logout(token: &str, query: &str) -> String {
    format!(
        "POST /auth/logout{query} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n"
    )
}

#[test]
fn a_refresh_gives_a_new_pair_as_rfc_6749_says() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    let reply = client.ask(refresh(&pair.refresh_token));
    let (access, next) = tokens(&reply);
    assert_ne!(next, *pair.refresh_token);
    let json = reply.json();
    assert_eq!((&json["token_type"], &json["expires_in"]), (&"Bearer".into(), &3600.into()));
    assert_eq!((reply.header("cache-control"), reply.header("pragma")), (Some("no-store"), Some("no-cache")));
    assert_eq!(client.ask(get("/", Some(&access))).status, 200);
    assert_eq!(backend.next().one("x-session-id"), pair.session.to_string());
    // The form of a standard client, with parameters nobody knows.
    let form = format!("grant_type=refresh_token&client_id=web&scope=&refresh_token={next}");
    let (_, third) =
        tokens(&client.ask(post("/auth/refresh", "application/x-www-form-urlencoded; charset=utf-8", &form)));
    assert_ne!(third, next);
}

#[test]
fn a_malformed_refresh_is_told_apart_from_a_dead_one() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let pair = gateway.sign_in("ann");
    let token = &*pair.refresh_token;
    let mut client = gateway.connect();
    let form = "application/x-www-form-urlencoded";
    for (kind, body, error) in [
        (form, String::new(), "invalid_request"),
        (form, format!("refresh_token={token}"), "invalid_request"),
        (form, "grant_type=refresh_token".to_owned(), "invalid_request"),
        (form, format!("grant_type=refresh_token&refresh_token={token}&refresh_token={token}"), "invalid_request"),
        (form, format!("grant_type=password&refresh_token={token}"), "unsupported_grant_type"),
        ("application/json", "{".to_owned(), "invalid_request"),
        (
            "application/json",
            format!("{{\"refresh_token\":\"{token}\",\"refresh_token\":\"{token}\"}}"),
            "invalid_request",
        ),
        ("application/json", "{\"refresh_token\":17}".to_owned(), "invalid_request"),
        ("text/plain", format!("grant_type=refresh_token&refresh_token={token}"), "invalid_request"),
        ("application/json", "{\"refresh_token\":\"pcr_AAAA\"}".to_owned(), "invalid_grant"),
        ("application/json", format!("{{\"refresh_token\":\"{}A\"}}", &token[..token.len() - 1]), "invalid_grant"),
        ("application/json", format!("{{\"refresh_token\":\"{token}x\"}}"), "invalid_grant"),
        ("application/json", format!("{{\"refresh_token\":\" {token}\"}}"), "invalid_grant"),
    ] {
        let reply = client.ask(post("/auth/refresh", kind, &body));
        if body.contains(&format!("{}A\"", &token[..token.len() - 1])) && token.ends_with('A') {
            continue;
        }
        assert_eq!((reply.status, reply.json()["error"].as_str()), (400, Some(error)), "{kind} {body}");
    }
    let large = client.ask(post("/auth/refresh", "application/json", &format!("{{\"x\":\"{}\"}}", "x".repeat(20_000))));
    assert_eq!(large.status, 413);
    let mut client = gateway.connect();
    let other = client.ask("GET /auth/refresh HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((other.status, other.header("allow")), (405, Some("POST")));
    assert_eq!(client.ask("GET /auth/other HTTP/1.1\r\nHost: a\r\n\r\n").status, 404);
    // None of it spent the token.
    tokens(&client.ask(refresh(token)));
    assert!(backend.saw_nothing());
}

#[test]
fn a_retry_within_the_grace_gets_the_same_successor_and_an_old_token_ends_the_session() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    let (_, second) = tokens(&client.ask(refresh(&pair.refresh_token)));
    let (access, again) = tokens(&client.ask(refresh(&pair.refresh_token)));
    assert_eq!(second, again);
    let (_, third) = tokens(&client.ask(refresh(&second)));
    // Two behind: stolen or replayed, whatever the grace.
    assert_eq!(invalid_grant(&client.ask(refresh(&pair.refresh_token))), "refresh_reused");
    assert_eq!(invalid_grant(&client.ask(refresh(&third))), "refresh_reused");
    assert_eq!(client.ask(get("/", Some(&access))).refusal(), (401, "refresh_reused".to_owned()));
}

#[test]
fn after_the_grace_a_spent_token_ends_the_session() {
    let backend = Backend::start();
    let gateway =
        Gateway::with(&Toml { session: "refresh_grace = \"1ms\"\n".into(), ..Toml::default() }, &[backend.address]);
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    let (access, second) = tokens(&client.ask(refresh(&pair.refresh_token)));
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(invalid_grant(&client.ask(refresh(&pair.refresh_token))), "refresh_reused");
    assert_eq!(invalid_grant(&client.ask(refresh(&second))), "refresh_reused");
    assert_eq!(client.ask(get("/", Some(&access))).refusal().1, "refresh_reused");
}

#[test]
fn logout_ends_this_session_the_others_or_all() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let mut client = gateway.connect();
    let mut status = |token: &str| client.ask(get("/", Some(token))).status;
    let sessions: Vec<_> = (0..4).map(|_| gateway.sign_in("ann")).collect();
    let other_user = gateway.sign_in("bob");
    let mut auth = gateway.connect();

    assert_eq!(auth.ask(logout(&sessions[0].access_token, "")).status, 204);
    assert_eq!(auth.ask(logout(&sessions[0].access_token, "?scope=local")).status, 204, "twice is harmless");
    let alive = |status: &mut dyn FnMut(&str) -> u16| {
        sessions.iter().map(|pair| status(&pair.access_token)).collect::<Vec<_>>()
    };
    assert_eq!(alive(&mut status), [401, 200, 200, 200]);
    assert_eq!(invalid_grant(&auth.ask(refresh(&sessions[0].refresh_token))), "signed_out");

    assert_eq!(auth.ask(logout(&sessions[1].access_token, "?scope=others")).status, 204);
    assert_eq!(alive(&mut status), [401, 200, 401, 401]);
    assert_eq!(invalid_grant(&auth.ask(refresh(&sessions[2].refresh_token))), "signed_out");
    tokens(&auth.ask(refresh(&sessions[1].refresh_token)));

    assert_eq!(auth.ask(logout(&sessions[1].access_token, "?scope=global")).status, 204);
    assert_eq!(alive(&mut status), [401, 401, 401, 401]);
    assert_eq!(status(&other_user.access_token), 200);
    // Signing in again right after is not caught by it.
    let again = gateway.sign_in("ann");
    assert_eq!(status(&again.access_token), 200);

    // The token of a session that is over ends no other, as when the answer to the first time was lost.
    for scope in ["?scope=global", "?scope=others"] {
        assert_eq!(auth.ask(logout(&sessions[1].access_token, scope)).status, 204);
        assert_eq!(status(&again.access_token), 200, "{scope}");
    }

    assert_eq!(auth.ask(logout(&again.access_token, "?scope=everything")).status, 400);
    assert_eq!(auth.ask(logout("garbage", "")).refusal(), (401, "malformed_token".to_owned()));
    let nobody = auth.ask("POST /auth/logout HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(nobody.refusal(), (401, "missing_token".to_owned()));
}

#[test]
fn logout_by_refresh_token_and_by_the_form_of_rfc_7009() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let mut client = gateway.connect();
    let form = "application/x-www-form-urlencoded";

    let pair = gateway.sign_in("ann");
    let body = format!("{{\"refresh_token\":\"{}\"}}", &*pair.refresh_token);
    assert_eq!(client.ask(post("/auth/logout", "application/json", &body)).status, 204);
    assert_eq!(client.ask(get("/", Some(&pair.access_token))).refusal().1, "signed_out");

    for hint in ["", "&token_type_hint=refresh_token", "&token_type_hint=access_token", "&token_type_hint=other"] {
        for access in [false, true] {
            let pair = gateway.sign_in("ann");
            let token = if access { &pair.access_token } else { &pair.refresh_token };
            let reply = client.ask(post("/auth/logout", form, &format!("token={}{hint}", &**token)));
            assert_eq!(reply.status, 200, "{hint}");
            assert_eq!(client.ask(get("/", Some(&pair.access_token))).refusal().1, "signed_out", "{hint}");
        }
    }
    // RFC 7009 §2.2: an invalid token is no error.
    assert_eq!(client.ask(post("/auth/logout", form, "token=nonsense")).status, 200);
    assert_eq!(client.ask(post("/auth/logout", form, "token=a&token=b")).status, 400);
}

#[test]
fn an_expired_access_token_still_signs_its_own_session_out() {
    let backend = Backend::start();
    let toml = Toml { session: "access_token_ttl = \"1s\"\nrefresh_grace = \"1ms\"\n".into(), ..Toml::default() };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let pair = gateway.sign_in("ann");
    // The leeway is 30 s: an expired token is made instead of waited for.
    let expired = {
        use portcullis::clock::UnixTime;
        use portcullis::token::mint::{AccessClaims, mint};
        use portcullis::token::signing::SigningKeys;
        let keys = SigningKeys::read_only(&gateway.place.path("data/keys")).unwrap();
        let then = UnixTime::now().minus(Duration::from_secs(600));
        mint(
            &keys,
            &AccessClaims {
                issuer: "https://id.test",
                audience: "app",
                user: &pair.user,
                session: pair.session,
                issued_at: then,
                expires_at: then.plus(Duration::from_secs(60)),
                extra: None,
            },
        )
    };
    let mut client = gateway.connect();
    assert_eq!(client.ask(get("/", Some(&expired))).refusal(), (401, "token_expired".to_owned()));
    assert_eq!(client.ask(logout(&expired, "")).status, 204);
    assert_eq!(invalid_grant(&client.ask(refresh(&pair.refresh_token))), "signed_out");
}

#[test]
fn an_idle_session_ends_by_requests_not_by_refreshes_also_right_after_a_restart() {
    let backend = Backend::start();
    let toml = Toml { session: "idle_timeout = \"1s\"\n".into(), ..Toml::default() };
    let place = Arc::new(Workplace::new());
    let gateway = Gateway::at(place.clone(), &toml, &[backend.address]);
    let (busy, idle, refreshing) = (gateway.sign_in("ann"), gateway.sign_in("ann"), gateway.sign_in("ann"));
    let mut client = gateway.connect();
    let mut token = refreshing.refresh_token.to_string();
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(client.ask(get("/", Some(&busy.access_token))).status, 200);
        if let Some(next) = client.ask(refresh(&token)).json()["refresh_token"].as_str() {
            token = next.to_owned();
        }
    }
    assert_eq!(client.ask(get("/", Some(&idle.access_token))).refusal(), (401, "session_idle".to_owned()));
    assert_eq!(invalid_grant(&client.ask(refresh(&idle.refresh_token))), "session_idle");
    assert_eq!(invalid_grant(&client.ask(refresh(&token))), "session_idle");
    let left = gateway.sign_in("ann");
    drop(client);
    gateway.stop();

    let gateway = Gateway::at(place.clone(), &toml, &[backend.address]);
    let mut client = gateway.connect();
    assert_eq!(client.ask(get("/", Some(&busy.access_token))).status, 200, "active until the restart");
    drop(client);
    gateway.stop();
    std::thread::sleep(Duration::from_millis(1300));
    let gateway = Gateway::at(place, &toml, &[backend.address]);
    let mut client = gateway.connect();
    assert_eq!(client.ask(get("/", Some(&left.access_token))).refusal(), (401, "session_idle".to_owned()));
    assert_eq!(client.ask(get("/", Some(&busy.access_token))).refusal(), (401, "session_idle".to_owned()));
}

#[test]
fn a_session_past_its_maximum_lifetime_ends_and_no_token_outlives_it() {
    let backend = Backend::start();
    let toml = Toml { session: "max_lifetime = \"2s\"\nrefresh_grace = \"1ms\"\n".into(), ..Toml::default() };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let pair = gateway.sign_in("ann");
    assert!(pair.expires_in <= Duration::from_secs(2), "{:?}", pair.expires_in);
    let mut client = gateway.connect();
    let reply = client.ask(refresh(&pair.refresh_token));
    assert!(reply.json()["expires_in"].as_u64().unwrap() <= 2);
    let (_, second) = tokens(&reply);
    std::thread::sleep(Duration::from_millis(2100));
    assert_eq!(invalid_grant(&client.ask(refresh(&second))), "session_max_age");
    assert_eq!(client.ask(get("/", Some(&pair.access_token))).refusal(), (401, "session_max_age".to_owned()));
}

#[test]
fn signing_in_elsewhere_ends_the_oldest() {
    let backend = Backend::start();
    let gateway = Gateway::with(&Toml { session: "max_per_user = 2\n".into(), ..Toml::default() }, &[backend.address]);
    let first = gateway.sign_in("ann");
    let mut client = gateway.connect();
    assert_eq!(client.ask(get("/", Some(&first.access_token))).status, 200);
    std::thread::sleep(Duration::from_millis(5));
    let (second, third) = (gateway.sign_in("ann"), gateway.sign_in("ann"));
    assert_eq!(client.ask(get("/", Some(&first.access_token))).refusal(), (401, "signed_in_elsewhere".to_owned()));
    assert_eq!(invalid_grant(&client.ask(refresh(&first.refresh_token))), "signed_in_elsewhere");
    for pair in [second, third] {
        assert_eq!(client.ask(get("/", Some(&pair.access_token))).status, 200);
    }
}

#[test]
fn ends_and_sessions_survive_a_restart() {
    let backend = Backend::start();
    let place = Arc::new(Workplace::new());
    let gateway = Gateway::at(place.clone(), &Toml::default(), &[backend.address]);
    let (kept, ended) = (gateway.sign_in("ann"), gateway.sign_in("ann"));
    let global = gateway.sign_in("bob");
    let mut client = gateway.connect();
    assert_eq!(client.ask(logout(&ended.access_token, "")).status, 204);
    assert_eq!(client.ask(logout(&global.access_token, "?scope=global")).status, 204);
    drop(client);
    gateway.stop();
    let gateway = Gateway::at(place, &Toml::default(), &[backend.address]);
    let mut client = gateway.connect();
    assert_eq!(client.ask(get("/", Some(&ended.access_token))).refusal().1, "signed_out");
    assert_eq!(client.ask(get("/", Some(&global.access_token))).refusal().1, "signed_out");
    assert_eq!(client.ask(get("/", Some(&kept.access_token))).status, 200);
    tokens(&client.ask(refresh(&kept.refresh_token)));
}

#[test]
fn keys_and_metadata_are_published() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let mut client = gateway.connect();
    let jwks = client.ask("GET /.well-known/jwks.json HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((jwks.status, jwks.header("cache-control")), (200, Some("public, max-age=300")));
    let keys = jwks.json()["keys"].as_array().unwrap().clone();
    assert_eq!(keys.len(), 2, "current and next");
    for key in keys {
        assert_eq!(
            (&key["kty"], &key["crv"], &key["alg"], &key["use"]),
            (&"EC".into(), &"P-256".into(), &"ES256".into(), &"sig".into())
        );
        assert!(key["d"].is_null() && key["kid"].is_string());
    }
    let metadata =
        client.ask("GET /.well-known/oauth-authorization-server HTTP/1.1\r\nHost: id.test:8443\r\n\r\n").json();
    assert_eq!(metadata["issuer"], "https://id.test");
    assert_eq!(metadata["token_endpoint"], "https://id.test:8443/auth/refresh");
    assert_eq!(metadata["revocation_endpoint"], "https://id.test:8443/auth/logout");
    assert_eq!(metadata["jwks_uri"], "https://id.test:8443/.well-known/jwks.json");
    assert_eq!(client.ask("POST /.well-known/jwks.json HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").status, 405);
    assert!(backend.saw_nothing());
}

#[test]
fn too_many_refreshes_are_told_to_wait() {
    let backend = Backend::start();
    let toml = Toml {
        limits: "refreshes_per_session = \"3/1m\"\nrefreshes_per_address = \"10/1m\"\n".into(),
        ..Toml::default()
    };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    let mut token = pair.refresh_token.to_string();
    for _ in 0..3 {
        token = tokens(&client.ask(refresh(&token))).1;
    }
    let reply = client.ask(refresh(&token));
    assert_eq!((reply.status, reply.json()["reason"].as_str()), (429, Some("too_many_refreshes")));
    assert!(reply.header("retry-after").unwrap().parse::<u32>().unwrap() <= 21);
    for _ in 0..6 {
        client.ask(refresh("pcr_guess"));
    }
    assert_eq!(client.ask(refresh("pcr_guess")).status, 429);
}

/// As when the clock was ahead while expired entries were dropped, and is put right then.
#[test]
fn a_token_of_an_ended_session_is_refused_when_the_clock_was_set_back_behind_a_purge() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let (live, dead) = (gateway.sign_in("ann"), gateway.sign_in("eve"));
    let mut client = gateway.connect();
    // One that the workers have in their caches, and one that they have never seen.
    assert_eq!(client.ask(get("/", Some(&dead.access_token))).status, 200);
    backend.next();
    let unseen = gateway.sign_in("eve");
    gateway.end(dead.session, EndReason::SignedOut);
    gateway.end(unseen.session, EndReason::SignedOut);
    let sessions = gateway.app().gateway().sessions.clone();
    let later = UnixTime::now().plus(Duration::from_secs(2 * 3600));
    assert_eq!(gateway.app().block_on(sessions.purge_revocations(later)).unwrap(), 2);
    assert!(sessions.revocations().is_empty());
    for pair in [&dead, &unseen] {
        for _ in 0..3 {
            let reply = client.ask(get("/", Some(&pair.access_token)));
            assert_eq!(reply.refusal(), (401, "session_ended".to_owned()));
        }
    }
    assert!(backend.saw_nothing());
    for _ in 0..3 {
        assert_eq!(client.ask(get("/", Some(&live.access_token))).status, 200);
        assert_eq!(backend.next().one("x-user-id"), "ann");
    }
}
