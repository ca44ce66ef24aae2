//! ASVS 5.0 16.2.5: no secret in a log; nor in an answer, a metric, the shown configuration, or the store.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};

use super::watch::{Secrets, start, whole};
use crate::support::{
    ADMIN_TOKEN, Answer, Backend, Client, Process, Reply, Toml, Workplace, connect_http2, get, handshake, post, refresh,
};

const JSON: &str = "application/json";
const FORM: &str = "application/x-www-form-urlencoded";
const COOKIE: &str = "a-cookie-of-a-backend-0123456789";
const PASSWORD: &str = "ann:a-password-for-basic-auth";
const UPSTREAM_SECRET: &str = "what-the-upstream-asks-for-0123";

/// A path is logged as it is, without its query: what a client puts there is no secret any more before it gets here.
const ROUTES: &str = "[[route]]\npath = \"/\"\nupstream = \"app\"\n\
    request_headers = { set = { \"X-Upstream-Key\" = \"what-the-upstream-asks-for-0123\" } }\n\
    [[route]]\npath = \"/public\"\nupstream = \"app\"\nauth = \"public\"\n\
    [[route]]\npath = \"/away\"\nupstream = \"away\"\nauth = \"public\"\n\
    [[route]]\npath = \"/limited\"\nupstream = \"app\"\nrate_limit = [{ by = \"header:x-api-key\", rate = \"1/1h\" }]\n\
    [upstream.away]\nservers = [\"http://127.0.0.1:1\"]\nretries = \"never\"\n";

/// A scenario that gives every secret to every part of the gateway, well and badly, and remembers what was said.
struct Scenario {
    secrets: Secrets,
    process: Process,
    /// The header fields of every request that reached the backend.
    heard: Arc<Mutex<Vec<String>>>,
    _backend: Backend,
    /// To whom it may be told: what was asked, and the answer.
    told: Vec<(String, Vec<u8>)>,
}

impl Scenario {
    fn begin() -> Self {
        let place = Arc::new(Workplace::new());
        let secrets = Secrets::of(&place);
        let heard = Arc::<Mutex<Vec<String>>>::default();
        let hears = heard.clone();
        let backend = Backend::answering(move |seen| {
            hears.lock().unwrap().push(format!("{:?}", seen.headers));
            match seen.line.split(['/', ' ']).nth(2).unwrap_or_default() {
                "cut" => Answer::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\ncut".to_vec()),
                "garbage" => Answer::Bytes(b"garbage\r\n\r\n".to_vec()),
                _ => Answer::ok("fine"),
            }
        });
        let toml = Toml {
            session: "refresh_grace = \"1ms\"\nidle_timeout = \"1h\"\nmax_per_user = 50\n".into(),
            limits: "refreshes_per_session = \"20/1h\"\n".into(),
            rest: ROUTES.into(),
            ..Toml::default()
        };
        let process = start(&place, &toml, &[format!("http://{}", backend.address)]);
        Self { secrets, process, heard, _backend: backend, told: Vec::new() }
    }

    /// A pair of tokens, known as secrets from now on.
    fn sign_in(&mut self, user: &str) -> (String, String) {
        let pair = self.process.sign_in(user);
        self.secrets.add_token(&format!("access token of {user}"), &pair.0);
        self.secrets.add_token(&format!("refresh token of {user}"), &pair.1);
        pair
    }

    /// Asks, and remembers the answer as one that may hold no secret at all.
    fn ask(&mut self, request: impl AsRef<str>) -> Reply {
        let reply = self.process.connect().ask(request.as_ref());
        self.remember(request.as_ref(), &reply);
        reply
    }

    fn ask_admin(&mut self, request: impl AsRef<str>) -> Reply {
        let reply = Client::plain(self.process.admin).ask(request.as_ref());
        self.remember(request.as_ref(), &reply);
        reply
    }

    fn remember(&mut self, request: &str, reply: &Reply) {
        let line = request.lines().next().unwrap_or_default();
        let line = line.split('?').next().unwrap_or_default();
        self.told.push((format!("the answer {} to {line}", reply.status), whole(reply)));
    }

    /// Asks for a new pair, which is the one answer that holds secrets: these.
    fn refresh(&mut self, name: &str, token: &str) -> (String, String) {
        let reply = self.process.connect().ask(refresh(token));
        assert_eq!(reply.status, 200, "{}", reply.text());
        let text = |member: &str| reply.json()[member].as_str().unwrap().to_owned();
        let pair = (text("access_token"), text("refresh_token"));
        self.secrets.add_token(&format!("access token of {name}"), &pair.0);
        self.secrets.add_token(&format!("refresh token of {name}"), &pair.1);
        pair
    }
}

/// Another character at the end of the part before last: refused, and yet nearly the whole secret.
fn spoilt(token: &str) -> String {
    let at = token.len() - 10;
    let other = if &token[at..=at] == "A" { "B" } else { "A" };
    format!("{}{other}{}", &token[..at], &token[at + 1..])
}

fn requests(scenario: &mut Scenario) {
    let (access, first) = scenario.sign_in("ann");
    let (other, _) = scenario.sign_in("bob");
    scenario.secrets.add_token("spoilt access token", &spoilt(&access));
    scenario.secrets.add("cookie", COOKIE);
    scenario.secrets.add("password", PASSWORD);
    scenario.secrets.add("upstream's key", UPSTREAM_SECRET);
    let with = |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
    let bearer = |token: &str| format!("Authorization: Bearer {token}\r\n");
    let basic = BASE64_STANDARD.encode(PASSWORD);
    for (request, status) in [
        (get("/cold", Some(&access)), 200),
        (get("/cached", Some(&access)), 200),
        (get("/x", Some(&spoilt(&access))), 401),
        (get("/x", Some(access.rsplit_once('.').unwrap().0)), 401),
        (get("/x", Some(&first)), 401),
        (get("/x", Some(ADMIN_TOKEN)), 401),
        (with("/x", &format!("{}{}", bearer(&access), bearer(&other))), 401),
        (with("/x", &format!("Authorization: Token {access}\r\n")), 401),
        (with("/x", &format!("Authorization: Basic {basic}\r\n")), 401),
        (with("/x", &format!("{}Cookie: sid={COOKIE}\r\n", bearer(&access))), 200),
        (with(&format!("/x?access_token={access}"), ""), 401),
        (with(&format!("/public?access_token={access}&refresh_token={first}"), ""), 200),
        (with("/x", &format!("{}X-Long: {}\r\n", bearer(&access), "x".repeat(40_000))), 431),
        (with("/cut", &bearer(&access)), 200),
        (with("/garbage", &bearer(&access)), 502),
        (with("/away", &bearer(&access)), 502),
        (with("/limited", &format!("{}X-Api-Key: {COOKIE}\r\n", bearer(&access))), 200),
        (with("/limited", &format!("{}X-Api-Key: {COOKIE}\r\n", bearer(&access))), 429),
        (with("/x", &format!("{}Host: other\r\n", bearer(&access))), 400),
        (handshake("/x", Some(&access)), 200),
        (handshake("/x", Some(&spoilt(&access))), 401),
    ] {
        let mut client = scenario.process.connect();
        client.send(&request);
        match client.try_reply(false) {
            Ok(reply) => {
                assert_eq!(reply.status, status, "{}: {}", request.lines().next().unwrap(), reply.text());
                scenario.remember(&request, &reply);
            }
            // Cut short, as its server did.
            Err(_) => assert!(request.contains("/cut"), "no reply to {}", request.lines().next().unwrap()),
        }
    }
    over_http2(scenario, &access);
}

fn over_http2(scenario: &mut Scenario, access: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let root = scenario.process.place.path("cert.pem");
    for (token, status) in [(access.to_owned(), 200), (spoilt(access), 401)] {
        let (got, body) = runtime.block_on(async {
            let mut sender = connect_http2::<Full<Bytes>>(scenario.process.address, &root).await;
            let request = http::Request::get("https://localhost/h2")
                .header("authorization", format!("Bearer {token}"))
                .header("cookie", format!("sid={COOKIE}"))
                .body(Full::default());
            let response = sender.send_request(request.unwrap()).await.unwrap();
            (response.status().as_u16(), response.into_body().collect().await.unwrap().to_bytes())
        });
        assert_eq!(got, status);
        scenario.told.push(("an answer over HTTP/2".to_owned(), body.to_vec()));
    }
}

fn endpoints(scenario: &mut Scenario) {
    let (access, first) = scenario.sign_in("cid");
    let (_, second) = scenario.refresh("cid, refreshed", &first);
    let form = |token: &str| format!("grant_type=refresh_token&refresh_token={token}");
    for (name, request, status) in [
        ("wrong MAC", refresh(&spoilt(&second)), 400),
        ("another token", refresh(&access), 400),
        ("broken JSON", post("/auth/refresh", JSON, &format!("{{\"refresh_token\":\"{second}\"")), 400),
        (
            "twice in JSON",
            post("/auth/refresh", JSON, &format!("{{\"refresh_token\":\"{second}\",\"refresh_token\":\"{second}\"}}")),
            400,
        ),
        ("a list", post("/auth/refresh", JSON, &format!("{{\"refresh_token\":[\"{second}\"]}}")), 400),
        ("a key", post("/auth/refresh", JSON, &format!("{{\"{second}\":1}}")), 400),
        ("twice in a form", post("/auth/refresh", FORM, &format!("{}&{}", form(&second), form(&second))), 400),
        ("another grant", post("/auth/refresh", FORM, &form(&second).replacen("refresh_token", "password", 1)), 400),
        ("text", post("/auth/refresh", "text/plain", &second), 400),
        (
            "too long",
            post("/auth/refresh", JSON, &format!("{{\"refresh_token\":\"{second}{}\"}}", "x".repeat(20_000))),
            413,
        ),
        ("GET", get(&format!("/auth/refresh?refresh_token={second}"), Some(&access)), 405),
        ("unknown endpoint", get(&format!("/auth/x?token={second}"), None), 404),
        ("reused", refresh(&first), 400),
        ("ended", refresh(&second), 400),
        ("logout of the ended", post("/auth/logout", JSON, &format!("{{\"refresh_token\":\"{second}\"}}")), 204),
        (
            "logout, wrong MAC",
            post("/auth/logout", JSON, &format!("{{\"refresh_token\":\"{}\"}}", spoilt(&second))),
            400,
        ),
        ("revocation", post("/auth/logout", FORM, &format!("token={second}")), 200),
        ("revocation, unknown", post("/auth/logout", FORM, &format!("token={}", spoilt(&access))), 200),
        ("logout, wrong scope", post(&format!("/auth/logout?scope={second}"), FORM, &format!("token={second}")), 400),
        ("ended access token", get("/x", Some(&access)), 401),
        ("metadata", get("/.well-known/oauth-authorization-server", None), 200),
        ("keys", get("/.well-known/jwks.json", None), 200),
    ] {
        // The grace period is a millisecond.
        std::thread::sleep(Duration::from_millis(3));
        assert_eq!(scenario.ask(&request).status, status, "{name}");
    }
    let (_, mut token) = scenario.sign_in("dan");
    for _ in 0..20 {
        token = scenario.refresh("dan, refreshed", &token).1;
    }
    assert_eq!(scenario.ask(refresh(&token)).status, 429);
}

fn administration(scenario: &mut Scenario) {
    let guess = "an-admin-token-of-32-character!s";
    scenario.secrets.add("wrong admin token", guess);
    let (access, second) = scenario.sign_in("eve");
    let ask = |method: &str, path: &str, token: &str, body: &str| {
        format!(
            "{method} {path} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nContent-Type: {JSON}\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let right = |method: &str, path: &str, body: &str| ask(method, path, ADMIN_TOKEN, body);
    for (request, status) in [
        (ask("GET", "/v1/config", guess, ""), 401),
        (ask("GET", "/v1/config", &access, ""), 401),
        (ask("GET", &format!("/v1/sessions/{second}"), ADMIN_TOKEN, ""), 400),
        (ask("POST", "/v1/sessions", guess, "{\"user_id\":\"eve\"}"), 401),
        (right("POST", "/v1/sessions", &format!("{{\"user_id\":\"eve\",\"token\":\"{second}\"}}")), 400),
        (right("POST", "/v1/sessions", &format!("{{\"{second}")), 400),
        (right("POST", "/v1/revocations", &format!("{{\"session_id\":[\"{access}\"]}}")), 400),
        (right("GET", "/v1/sessions?user_id=eve", ""), 200),
        (right("GET", "/v1/config", ""), 200),
        (right("GET", "/v1/keys", ""), 200),
        (right("POST", "/v1/keys/rotate?force=true", ""), 200),
        (right("GET", &format!("/v1/{second}"), ""), 404),
        (right("GET", "/metrics", ""), 200),
        (right("GET", "/readyz", ""), 200),
        (right("GET", "/openapi.json", ""), 200),
        (right("DELETE", "/v1/users/eve/sessions", ""), 200),
    ] {
        let reply = scenario.ask_admin(&request);
        assert_eq!(reply.status, status, "{}: {}", request.lines().next().unwrap(), reply.text());
    }
    let shown = scenario.ask_admin(right("GET", "/v1/config", "")).text();
    assert!(shown.contains("[redacted]"), "nothing was hidden: {shown}");
}

/// Keys that the gateway made for itself; how many there are below `directory`.
fn own_keys(secrets: &mut Secrets, directory: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            count += own_keys(secrets, &path);
            continue;
        }
        match path.extension().and_then(|ending| ending.to_str()) {
            Some("pem") => secrets.add_pem("signing key", &path),
            Some("key") => secrets.add("MAC key", &BASE64_STANDARD.encode(std::fs::read(&path).unwrap())),
            _ => continue,
        }
        count += 1;
    }
    count
}

#[test]
fn no_secret_is_in_any_output_at_any_level_of_any_crate() {
    let mut scenario = Scenario::begin();
    requests(&mut scenario);
    endpoints(&mut scenario);
    administration(&mut scenario);
    let keys = scenario.process.place.path("data/keys");
    let count = own_keys(&mut scenario.secrets, &keys);
    assert!(count >= 3, "only {count} keys in {}", keys.display());

    let Scenario { secrets, process, heard, told, .. } = scenario;
    let mut found = Vec::new();
    let proc = format!("/proc/{}/cmdline", process.child.id());
    found.extend(secrets.found_in(&std::fs::read(&proc).unwrap(), &proc));
    for (what, answer) in &told {
        found.extend(secrets.found_in(answer, what));
    }
    // An upstream gets the client's cookie and the key that the route has for it, and no token of anybody's.
    let heard = heard.lock().unwrap().clone();
    assert!(heard.len() > 5, "{} requests reached the backend", heard.len());
    for headers in heard {
        let tokens = secrets.found_in(headers.as_bytes(), "a request to the upstream");
        found.extend(tokens.into_iter().filter(|name| !name.starts_with("cookie") && !name.starts_with("upstream's")));
    }
    let place = process.place.clone();
    assert!(process.stop().success());
    let log = std::fs::read_to_string(place.path("log")).unwrap();
    let origins: BTreeSet<&str> =
        log.lines().filter_map(|line| line.split_once("\"target\":\"")?.1.split(['"', ':']).next()).collect();
    // hyper is built without its events.
    for origin in ["portcullis", "h2", "fjall"] {
        assert!(origins.contains(origin), "nothing was heard of {origin}, only of {origins:?}");
    }
    assert!(log.contains("\"level\":\"TRACE\"") || log.contains("\"level\":\"DEBUG\""));
    assert!(std::fs::read_to_string(place.path("access")).unwrap().lines().count() > 40);
    found.extend(secrets.found_in_outputs(&place));
    // The store holds counters: what is in it buys nothing (the keys beside it do, and are their owner's alone).
    let files = secrets.found_below(&place.path("data"), &["keys"], &mut found);
    assert!(files > 5, "{files} files of the store");
    assert!(found.is_empty(), "{found:#?}");
    println!("secrets: {} kinds, {} answers, {files} files, {} bytes of log", secrets.len(), told.len(), log.len());
}
