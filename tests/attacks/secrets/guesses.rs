//! Guessing: what is compared in constant time, how often it may be tried, and by whom that is counted.

use std::time::{Duration, Instant};

use crate::support::{ADMIN_TOKEN, Backend, Client, Gateway, Reply, Toml, get, post, refresh};

fn admin(gateway: &Gateway, token: &str) -> (Reply, Duration) {
    let mut client = Client::plain(gateway.app().admin().unwrap());
    let start = Instant::now();
    let reply = client.ask(format!("GET /v1/config HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\n\r\n"));
    (reply, start.elapsed())
}

fn logout(token: &str) -> String {
    post("/auth/logout", "application/json", &format!("{{\"refresh_token\":\"{token}\"}}"))
}

/// ASVS 5.0 6.3.1 for the one secret that people may have chosen.
#[test]
fn who_guesses_admin_tokens_waits_and_the_operator_at_the_same_address_is_slowed_and_not_shut_out() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    // Ten are free, and one more every six seconds: on a slow machine there are some more.
    let slow = (0..30).find(|number| {
        let (reply, took) = admin(&gateway, &format!("guess-number-{number}"));
        assert_eq!(reply.refusal(), (401, "wrong_token".to_owned()));
        took >= Duration::from_secs(1)
    });
    assert!(slow.is_some_and(|number| number >= 10), "{slow:?}");
    // From here on the answer takes a second, for a guess as for the token: who gives up earlier learns nothing.
    for (token, status) in [("another-guess-0000", 401), (ADMIN_TOKEN, 200)] {
        let (reply, took) = admin(&gateway, token);
        assert_eq!(reply.status, status, "{token}");
        assert!(took >= Duration::from_millis(900), "{token}: {took:?}");
    }
    // Probes and scrapers ask with no token, and never wait.
    let start = Instant::now();
    let probe = "GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(Client::plain(gateway.app().admin().unwrap()).ask(probe).status, 200);
    assert!(start.elapsed() < Duration::from_millis(900));
}

#[test]
fn a_missing_admin_token_is_no_guess() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let mut client = Client::plain(gateway.app().admin().unwrap());
    for _ in 0..15 {
        assert_eq!(client.ask("GET /v1/config HTTP/1.1\r\nHost: a\r\n\r\n").status, 401);
    }
    let (reply, took) = admin(&gateway, ADMIN_TOKEN);
    assert_eq!(reply.status, 200);
    assert!(took < Duration::from_millis(900), "{took:?}");
}

#[test]
fn refresh_guesses_of_an_address_are_limited_and_forwarding_headers_do_not_make_another_of_it() {
    let backend = Backend::start();
    let toml = Toml { limits: "refreshes_per_address = \"5/1h\"\n".into(), ..Toml::default() };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let mut client = gateway.connect();
    for number in 0..12 {
        let claims = format!(
            "Host: localhost\r\nX-Forwarded-For: 192.0.2.{number}\r\nForwarded: for=192.0.2.{number}\r\n\
             X-Real-Ip: 192.0.2.{number}\r\nX_Forwarded_For: 192.0.2.{number}\r\nTrue-Client-Ip: 192.0.2.{number}\r\n"
        );
        let reply = client.ask(refresh("pcr_guess").replacen("Host: localhost\r\n", &claims, 1));
        let expected = if number < 5 { (400, "invalid_grant") } else { (429, "too_many_refreshes") };
        assert_eq!(reply.refusal(), (expected.0, expected.1.to_owned()), "{number}");
    }
}

#[test]
fn behind_a_trusted_proxy_each_client_has_its_own_allowance_and_a_64_of_ipv6_is_one_client() {
    let backend = Backend::start();
    let toml = Toml {
        server: "workers = 1\ntrusted_proxies = [\"127.0.0.1\"]\n".into(),
        limits: "refreshes_per_address = \"3/1h\"\n".into(),
        ..Toml::default()
    };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let mut client = gateway.connect();
    let mut guess = |from: &str| {
        let claim = format!("Host: localhost\r\nX-Forwarded-For: {from}\r\n");
        client.ask(refresh("pcr_guess").replacen("Host: localhost\r\n", &claim, 1)).status
    };
    for (from, status) in [
        ("2001:db8::1", 400),
        ("2001:db8::2", 400),
        ("2001:db8::ffff:3", 400),
        ("2001:db8::4", 429),
        // The last address is the one that the proxy saw; what stands before it is the client's word.
        ("192.0.2.1, 2001:db8::5", 429),
        ("2001:db8:0:1::1", 400),
        ("192.0.2.1", 400),
        ("192.0.2.1", 400),
        ("::ffff:192.0.2.1", 400),
        ("::ffff:192.0.2.1", 429),
        ("192.0.2.2", 400),
    ] {
        assert_eq!(guess(from), status, "{from}");
    }
}

#[test]
fn logouts_with_tokens_that_are_none_of_ours_are_limited_and_keep_nobody_from_signing_out() {
    let backend = Backend::start();
    let toml = Toml { limits: "refreshes_per_address = \"6/1h\"\n".into(), ..Toml::default() };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    let form = "application/x-www-form-urlencoded";
    let bearer = |token: &str| {
        format!("POST /auth/logout HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Length: 0\r\n\r\n")
    };
    for _ in 0..2 {
        assert_eq!(client.ask(logout("pcr_guess")).status, 400);
        assert_eq!(client.ask(post("/auth/logout", form, "token=guess")).status, 200);
        assert_eq!(client.ask(bearer("guess")).status, 401);
    }
    for guess in [logout("pcr_guess"), post("/auth/logout", form, "token=guess"), bearer("guess")] {
        let reply = client.ask(guess);
        assert_eq!(reply.refusal(), (429, "too_many_logouts".to_owned()));
        assert!(reply.header("retry-after").unwrap().parse::<u32>().unwrap() >= 1);
    }
    assert_eq!(client.ask(refresh(&pair.refresh_token)).status, 200, "refreshes are counted apart");
    assert_eq!(client.ask(bearer(&pair.access_token)).status, 204, "the neighbour of who guesses signs out");
}

#[test]
fn logouts_of_one_session_are_limited_however_it_is_named() {
    let backend = Backend::start();
    let toml = Toml { limits: "refreshes_per_session = \"4/1h\"\n".into(), ..Toml::default() };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let (pair, other) = (gateway.sign_in("ann"), gateway.sign_in("ann"));
    let mut client = gateway.connect();
    let bearer = format!(
        "POST /auth/logout?scope=global HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\n\r\n",
        &*pair.access_token
    );
    for _ in 0..2 {
        assert_eq!(client.ask(&bearer).status, 204);
        assert_eq!(client.ask(logout(&pair.refresh_token)).status, 204);
    }
    assert_eq!(client.ask(&bearer).refusal(), (429, "too_many_logouts".to_owned()));
    assert_eq!(client.ask(logout(&pair.refresh_token)).refusal(), (429, "too_many_logouts".to_owned()));
    assert_eq!(client.ask(logout(&other.refresh_token)).status, 204, "another session has its own");
}

/// What a refusal takes and says depends on the MAC alone, and that on nothing that the store knows: with a wrong one the
/// session may live, be dead or never have been. So no timing of refusals tells anything of a session, and there is
/// nothing to measure: a forged token is refused without the store, which is away here.
#[test]
fn a_wrong_mac_is_refused_alike_for_a_live_a_dead_and_an_unknown_session_without_asking_the_store() {
    use base64::Engine as _;
    use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let (live, dead) = (gateway.sign_in("ann"), gateway.sign_in("ann"));
    assert_eq!(gateway.connect().ask(logout(&dead.refresh_token)).status, 204);
    let body = |token: &str| BASE64.decode(&token[4..]).unwrap();
    let mut unknown = body(&live.refresh_token);
    unknown[5..21].fill(0xab);
    let sessions = gateway.app().gateway().sessions.clone();
    gateway.app().block_on(async move { sessions.close(portcullis::clock::UnixTime::now()).await }).unwrap();

    let mut client = gateway.connect();
    assert_eq!(client.ask(refresh(&live.refresh_token)).status, 503, "a right MAC asks the store");
    let mut answers = std::collections::BTreeSet::new();
    let mut cases = 0;
    for bytes in [body(&live.refresh_token), body(&dead.refresh_token), unknown] {
        let whole = bytes.len();
        // Each byte of the MAC, so also one that differs at the first and one at the last; then counter and key id.
        for at in (whole - 32..whole).chain([1, 4, 21, 28]) {
            let mut forged = bytes.clone();
            forged[at] ^= 1;
            let reply = client.ask(refresh(&format!("pcr_{}", BASE64.encode(&forged))));
            let mut json = reply.json();
            json.as_object_mut().unwrap().remove("request_id").unwrap();
            answers.insert((reply.status, json.to_string()));
            cases += 1;
            // The limits of an address would be met otherwise.
            if cases % 100 == 0 {
                client = gateway.connect();
            }
        }
    }
    let expected = "{\"error\":\"invalid_grant\",\"reason\":\"invalid_grant\"}".to_owned();
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), [(400, expected)]);
    assert_eq!(client.ask(get("/x", Some(&live.access_token))).status, 200);
    println!("forged refresh tokens: {cases} cases");
}
