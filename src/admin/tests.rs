use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::app::App;
use crate::clock::UnixTime;
use crate::config::{Config, JwksSource, TrustedIssuer};
use crate::ids::{SessionId, SessionName, UserId};
use crate::reject::Reason;
use crate::revocation::EndReason;
use crate::token::OWN_ISSUER;
use crate::token::signing::KeyState;

pub(crate) const TOKEN: &str = "correct-horse-battery-staple";

/// A gateway with an admin listener, in a directory of its own.
pub(crate) struct Fixture {
    pub(crate) app: App,
    // After the gateway, which writes into it.
    dir: TempDir,
}

fn config(dir: &std::path::Path) -> Config {
    std::fs::write(dir.join("admin-token"), TOKEN).unwrap();
    let text = "[server]\nlisten = [\"127.0.0.1:0\"]\nworkers = 1\n\
                [admin]\nlisten = \"127.0.0.1:0\"\ntoken = \"file:admin-token\"\n\
                [session]\nissuer = \"https://id.example\"\naudience = \"app\"\n\
                [log]\naccess = \"off\"\n\
                [upstream.app]\nservers = [\"http://127.0.0.1:1\"]\n\
                [[route]]\npath = \"/\"\nupstream = \"app\"\n";
    Config::parse(text, "test.toml", dir).unwrap()
}

fn trusted_issuer(max_token_lifetime: Duration) -> TrustedIssuer {
    TrustedIssuer {
        issuer: "https://other.example".to_owned(),
        audience: vec!["app".to_owned()],
        jwks: JwksSource::File("/nowhere".into()),
        algorithms: vec![jsonwebtoken::Algorithm::ES256],
        session_claim: "sid".to_owned(),
        max_token_lifetime,
        refresh_interval: Duration::from_secs(300),
        cooldown: Duration::from_secs(10),
    }
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Config)) -> Self {
        let dir = TempDir::new().unwrap();
        let mut config = config(dir.path());
        change(&mut config);
        Self { app: App::start(config).unwrap(), dir }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.app.admin().unwrap()
    }

    /// With the admin token.
    pub(crate) fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let body = body.map(Value::to_string);
        self.send(method, path, &format!("Authorization: Bearer {TOKEN}\r\n"), body.as_deref())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, None)
    }

    fn post(&self, path: &str, body: Value) -> Answer {
        self.ask("POST", path, Some(&body))
    }

    fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, None)
    }

    /// With these header lines.
    fn send(&self, method: &str, path: &str, headers: &str, body: Option<&str>) -> Answer {
        exchange(self.address(), method, path, headers, body)
    }

    pub(crate) fn sign_in(&self, user: &str) -> Value {
        let answer = self.post("/v1/sessions", json!({ "user_id": user }));
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()
    }

    fn accepts(&self, token: &str) -> bool {
        self.app.gateway().verifier.verify(token, UnixTime::now()).is_ok()
    }

    fn revoked(&self, session: &str, user: &str) -> Option<EndReason> {
        let (session, user) = (SessionName::parse(session).unwrap(), UserId::parse(user).unwrap());
        self.app.gateway().revocations.check(&session, &user, UnixTime::now())
    }

    fn metric(&self, line: &str) -> bool {
        self.send("GET", "/metrics", "", None).body.lines().any(|one| one == line)
    }
}

fn exchange(address: SocketAddr, method: &str, path: &str, headers: &str, body: Option<&str>) -> Answer {
    let body = match body {
        Some(body) => format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()),
        None => "\r\n".to_owned(),
    };
    raw(address, &format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}{body}"))
}

fn raw(address: SocketAddr, request: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // The answer may come, and the connection close, before all of a refused body is written.
    drop(stream.write_all(request.as_bytes()));
    let mut text = Vec::new();
    drop(stream.read_to_end(&mut text));
    Answer::parse(&String::from_utf8(text).unwrap())
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(": ").unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        Self { status, headers, body: body.to_owned() }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        assert_eq!(self.header("cache-control"), Some("no-store"), "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    /// It is this refusal; returns the message.
    #[track_caller]
    fn refused(&self, reason: AdminReason) -> String {
        let body = self.json();
        assert_eq!(
            (self.status, body["reason"].as_str()),
            (reason.status().as_u16(), Some(reason.as_str())),
            "{self:?}"
        );
        assert!(body["error"].is_string(), "{self:?}");
        assert_eq!(self.header("retry-after").is_some(), self.status == 503, "{self:?}");
        assert_eq!(self.header("www-authenticate").is_some(), self.status == 401, "{self:?}");
        body["message"].as_str().unwrap_or_default().to_owned()
    }
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("no {name} in {value}"))
}

// --- Who may ask ---

#[test]
fn only_the_whole_admin_token_in_one_header_opens() {
    let f = Fixture::new();
    let ask = |headers: &str| f.send("GET", "/v1/keys", headers, None);
    for good in ["Authorization: Bearer ", "authorization: bEaReR   "] {
        assert_eq!(ask(&format!("{good}{TOKEN}\r\n")).status, 200, "{good}");
    }
    ask("").refused(AdminReason::MissingToken);
    assert_eq!(ask("").header("www-authenticate"), Some("Bearer"));
    let prefix = &TOKEN[..TOKEN.len() - 1];
    for wrong in [prefix, &format!("{TOKEN}x"), "x", &TOKEN.to_uppercase(), &format!("{TOKEN} {TOKEN}")] {
        let answer = ask(&format!("Authorization: Bearer {wrong}\r\n"));
        answer.refused(AdminReason::WrongToken);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer error=\"invalid_token\""));
    }
    let good = format!("Authorization: Bearer {TOKEN}\r\n");
    for malformed in [
        format!("{good}{good}"),
        format!("{good}Authorization: Basic eDp5\r\n"),
        format!("Authorization: Bearer\r\n{good}"),
        format!("Authorization: {TOKEN}\r\n"),
        format!("Authorization: Bearer{TOKEN}\r\n"),
        format!("Authorization: Basic {TOKEN}\r\n"),
        "Authorization: Bearer \r\n".to_owned(),
        "Authorization:\r\n".to_owned(),
    ] {
        ask(&malformed).refused(AdminReason::MalformedAuthorization);
    }
    // Not in the query either.
    f.send("GET", &format!("/v1/keys?access_token={TOKEN}"), "", None).refused(AdminReason::MissingToken);
}

#[test]
fn four_paths_need_no_token_and_no_other_spelling_of_them() {
    let f = Fixture::new();
    for path in ["/healthz", "/readyz", "/metrics", "/openapi.json"] {
        let answer = f.send("GET", path, "", None);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(f.send("HEAD", path, "", None).body, "", "{path}");
    }
    for path in ["/healthz/", "//healthz", "/healthz/../v1/keys", "/%68ealthz", "/HEALTHZ", "/", "/v1", "/v1/nothing"] {
        f.send("GET", path, "", None).refused(AdminReason::MissingToken);
        f.get(path).refused(AdminReason::NoSuchPath);
    }
}

#[test]
fn another_method_is_named_and_so_are_those_that_would_do() {
    let f = Fixture::new();
    for (method, path, allow) in [
        ("PUT", "/v1/sessions", "POST,GET,HEAD"),
        ("POST", "/v1/sessions/8f14e45fceea167a5a36dedd4bea2543", "GET,HEAD,DELETE"),
        ("GET", "/v1/revocations", "POST"),
        ("GET", "/v1/keys/rotate", "POST"),
        ("DELETE", "/v1/keys", "GET,HEAD"),
        ("OPTIONS", "/v1/keys", "GET,HEAD"),
        ("POST", "/healthz", "GET,HEAD"),
    ] {
        let answer = f.ask(method, path, None);
        answer.refused(AdminReason::MethodNotAllowed);
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
}

// --- Sessions ---

#[test]
fn a_sign_in_gives_a_session_and_tokens_that_work() {
    let f = Fixture::new();
    let claims = json!({ "role": "editor", "teams": [1, 2] });
    let answer =
        f.post("/v1/sessions", json!({ "user_id": "ann@example.com", "label": "Zoë's phone", "claims": claims }));
    assert_eq!(answer.status, 201, "{answer:?}");
    let made = answer.json();
    let id = text(&made, "session_id");
    assert_eq!(answer.header("location"), Some(format!("/v1/sessions/{id}").as_str()));
    assert_eq!(made.as_object().unwrap().len(), 6);
    assert_eq!((text(&made, "user_id"), text(&made, "token_type")), ("ann@example.com", "Bearer"));
    assert_eq!(made["expires_in"], 3600);
    assert!(text(&made, "refresh_token").starts_with("pcr_"));
    let identity = f.app.gateway().verifier.verify(text(&made, "access_token"), UnixTime::now()).unwrap();
    assert_eq!((identity.user.as_str(), identity.session.to_string().as_str()), ("ann@example.com", id));
    assert!(f.metric("portcullis_sign_ins_total 1"));

    let shown = f.get(&format!("/v1/sessions/{id}"));
    assert_eq!(shown.status, 200);
    let shown = shown.json();
    assert_eq!(shown.as_object().unwrap().len(), 8);
    assert_eq!(shown["claims"], claims);
    assert_eq!((text(&shown, "label"), &shown["refreshes"]), ("Zoë's phone", &json!(0)));
    for time in ["created_at", "last_seen", "access_expires_at"] {
        assert!(humantime::parse_rfc3339(text(&shown, time)).is_ok(), "{time}");
    }

    let refreshed = f.app.block_on(f.app.gateway().sessions.refresh(text(&made, "refresh_token"), UnixTime::now()));
    assert!(refreshed.is_ok());
    assert_eq!(f.get(&format!("/v1/sessions/{id}")).json()["refreshes"], 1);
}

#[test]
fn a_sign_in_that_is_not_understood_is_refused_by_the_name_of_its_fault() {
    let f = Fixture::new();
    let deep = "[".repeat(6) + &"]".repeat(6);
    for (body, reason, named) in [
        ("", AdminReason::InvalidField, "body: "),
        ("[]", AdminReason::InvalidField, "body: "),
        ("{", AdminReason::MalformedJson, "body: "),
        ("{}x", AdminReason::MalformedJson, "body: "),
        ("\u{feff}{}", AdminReason::InvalidField, "body: "),
        ("{}", AdminReason::InvalidField, "user_id"),
        (r#"{"user_id":1}"#, AdminReason::InvalidField, "user_id: "),
        (r#"{"user_id":null}"#, AdminReason::InvalidField, "user_id: "),
        (r#"{"user_id":""}"#, AdminReason::InvalidField, "user_id: is empty"),
        (r#"{"user_id":" a"}"#, AdminReason::InvalidField, "user_id: "),
        (r#"{"user_id":"a\nb"}"#, AdminReason::InvalidField, "user_id: "),
        (r#"{"user_id":"a","user_id":"b"}"#, AdminReason::MalformedJson, "body: two members"),
        (r#"{"user_id":"a","claims":{"x":1,"x":2}}"#, AdminReason::MalformedJson, "body: two members"),
        (r#"{"user_id":"a","role":"admin"}"#, AdminReason::InvalidField, "role"),
        (r#"{"user_id":"a","label":""}"#, AdminReason::InvalidField, "label: "),
        (r#"{"user_id":"a","label":[]}"#, AdminReason::InvalidField, "label: "),
        (r#"{"user_id":"a","claims":[]}"#, AdminReason::InvalidField, "claims: "),
        (r#"{"user_id":"a","claims":{"sub":"b"}}"#, AdminReason::InvalidField, "claims: claim \"sub\""),
        (&format!(r#"{{"user_id":"a","claims":{{"x":{deep}}}}}"#), AdminReason::InvalidField, "claims: "),
        (&format!(r#"{{"user_id":"{}"}}"#, "a".repeat(256)), AdminReason::InvalidField, "user_id: "),
    ] {
        let answer = f.send("POST", "/v1/sessions", &format!("Authorization: Bearer {TOKEN}\r\n"), Some(body));
        let message = answer.refused(reason);
        assert!(message.contains(named), "{body}: {message}");
    }
    assert!(f.metric("portcullis_sign_ins_total 0"));
}

#[test]
fn a_body_must_be_json_and_no_longer_than_64_kib() {
    let f = Fixture::new();
    let auth = format!("Authorization: Bearer {TOKEN}\r\n");
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/x-www-form-urlencoded\r\n"] {
        let body = r#"{"user_id":"a"}"#;
        let request = format!(
            "POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{auth}{kind}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        raw(f.address(), &request).refused(AdminReason::NotJson);
    }
    let twice = format!("{auth}Content-Type: application/json\r\n");
    f.send("POST", "/v1/sessions", &twice, Some(r#"{"user_id":"a"}"#)).refused(AdminReason::NotJson);

    let padded = |bytes: usize| format!("{{\"user_id\":\"a\"{}}}", " ".repeat(bytes - 15));
    let limit = input::MAX_BODY_BYTES;
    assert_eq!(f.send("POST", "/v1/sessions", &auth, Some(&padded(limit))).status, 201);
    f.send("POST", "/v1/sessions", &auth, Some(&padded(limit + 1))).refused(AdminReason::BodyTooLarge);
    let chunk = padded(limit + 1);
    let chunked = format!(
        "POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{auth}Content-Type: application/json; charset=utf-8\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{chunk}\r\n0\r\n\r\n",
        chunk.len()
    );
    raw(f.address(), &chunked).refused(AdminReason::BodyTooLarge);
}

#[test]
fn a_list_is_read_page_by_page() {
    let f = Fixture::new();
    let made: Vec<String> = (0..5).map(|_| text(&f.sign_in("ann"), "session_id").to_owned()).collect();
    f.sign_in("bob");
    let whole = f.get("/v1/sessions?user_id=ann").json();
    assert_eq!((whole["sessions"].as_array().unwrap().len(), &whole["next_cursor"]), (5, &Value::Null));

    let (mut seen, mut path, mut pages) = (Vec::new(), "/v1/sessions?user_id=ann&limit=2".to_owned(), 0);
    loop {
        let page = f.get(&path).json();
        seen.extend(page["sessions"].as_array().unwrap().iter().map(|one| text(one, "session_id").to_owned()));
        pages += 1;
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/sessions?user_id=ann&limit=2&cursor={cursor}");
    }
    assert_eq!(pages, 3);
    // Sessions of one millisecond stand in the order of their ids.
    seen.sort();
    let mut wanted = made;
    wanted.sort();
    assert_eq!(seen, wanted);
    assert_eq!(f.get("/v1/sessions?user_id=nobody").json(), json!({ "sessions": [], "next_cursor": null }));

    for (query, named) in [
        ("", "user_id"),
        ("?user_id=", "user_id: is empty"),
        ("?user_id=a%0Ab", "user_id: "),
        ("?user_id=%ff", "user_id: "),
        ("?user_id=a&user_id=b", "user_id"),
        ("?user_id=a&limit=0", "limit: "),
        ("?user_id=a&limit=1001", "limit: "),
        ("?user_id=a&limit=-1", "limit: "),
        ("?user_id=a&limit=", "limit: "),
        ("?user_id=a&cursor=x", "cursor: "),
        ("?user_id=a&offset=1", "offset"),
    ] {
        let message = f.get(&format!("/v1/sessions{query}")).refused(AdminReason::InvalidParameter);
        assert!(message.contains(named), "{query}: {message}");
    }
    assert_eq!(f.get("/v1/sessions?user_id=a&limit=1000").status, 200);
}

#[test]
fn an_ended_session_is_refused_at_once_and_may_be_ended_again() {
    let f = Fixture::new();
    let made = f.sign_in("ann");
    let id = text(&made, "session_id");
    let path = format!("/v1/sessions/{id}");
    assert_eq!(f.revoked(id, "ann"), None);
    let answer = f.delete(&path);
    assert_eq!((answer.status, answer.body.as_str()), (204, ""));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert_eq!(f.revoked(id, "ann"), Some(EndReason::SecurityAction));
    f.get(&path).refused(AdminReason::NoSuchSession);
    assert_eq!(f.delete(&format!("{path}?reason=signed_out")).status, 204);
    assert_eq!(f.revoked(id, "ann"), Some(EndReason::SecurityAction));
    assert!(f.metric("portcullis_sessions_ended_total{reason=\"security_action\"} 1"));
    assert!(f.metric("portcullis_sessions_ended_total{reason=\"signed_out\"} 0"));

    let other = f.sign_in("ann");
    let id = text(&other, "session_id");
    assert_eq!(f.delete(&format!("/v1/sessions/{id}?reason=signed_out")).status, 204);
    assert_eq!(f.revoked(id, "ann"), Some(EndReason::SignedOut));

    for query in ["?reason=session_idle", "?reason=", "?because=x"] {
        f.delete(&format!("{path}{query}")).refused(AdminReason::InvalidParameter);
    }
    for id in [&id.to_uppercase(), "x", &id[1..], "%ff"] {
        let message = f.delete(&format!("/v1/sessions/{id}")).refused(AdminReason::InvalidParameter);
        assert!(!message.is_empty(), "{id}");
        f.get(&format!("/v1/sessions/{id}")).refused(AdminReason::InvalidParameter);
    }
}

#[test]
fn all_sessions_of_a_user_end_but_the_excepted_one() {
    let f = Fixture::new();
    let user = "ann lee/e?";
    let encoded = "ann%20lee%2Fe%3F";
    let made: Vec<Value> = (0..3).map(|_| f.sign_in(user)).collect();
    let bystander = f.sign_in("bob");
    let kept = text(&made[1], "session_id");
    let ended = f.delete(&format!("/v1/users/{encoded}/sessions?except={kept}"));
    assert_eq!((ended.status, ended.json()), (200, json!({ "ended": 2 })));
    assert_eq!(f.revoked(text(&made[0], "session_id"), user), Some(EndReason::SecurityAction));
    assert_eq!(f.revoked(kept, user), None);
    assert_eq!(f.revoked(text(&bystander, "session_id"), "bob"), None);
    assert_eq!(f.delete(&format!("/v1/users/{encoded}/sessions")).json(), json!({ "ended": 1 }));
    assert_eq!(f.delete(&format!("/v1/users/{encoded}/sessions")).json(), json!({ "ended": 0 }));
    assert!(f.metric("portcullis_sessions_ended_total{reason=\"security_action\"} 3"));
    // Whoever signs in right after is in.
    let again = f.sign_in(user);
    assert_eq!(f.get(&format!("/v1/sessions/{}", text(&again, "session_id"))).status, 200);

    for path in ["/v1/users/%20a/sessions", "/v1/users/%C3%A9/sessions", "/v1/users/%ff/sessions"] {
        f.delete(path).refused(AdminReason::InvalidParameter);
    }
    for query in ["?except=x", "?except=", "?expect=8f14e45fceea167a5a36dedd4bea2543"] {
        f.delete(&format!("/v1/users/ann/sessions{query}")).refused(AdminReason::InvalidParameter);
    }
}

#[test]
fn without_a_session_section_nobody_is_signed_in_and_no_key_rotated() {
    let f = Fixture::with(|config| config.session = None);
    f.post("/v1/sessions", json!({ "user_id": "ann" })).refused(AdminReason::NoSessionSection);
    f.ask("POST", "/v1/keys/rotate?force=true", None).refused(AdminReason::NoSessionSection);
    assert_eq!(f.post("/v1/revocations", json!({ "user_id": "ann" })).status, 204);
}

// --- Revocations ---

#[test]
fn a_revocation_names_one_session_or_one_user() {
    let f = Fixture::new();
    let made = f.sign_in("ann");
    let own = text(&made, "session_id");
    assert_eq!(f.post("/v1/revocations", json!({ "session_id": own, "reason": "signed_out" })).status, 204);
    assert_eq!(f.revoked(own, "ann"), Some(EndReason::SignedOut));
    // Not only refused: ended, with its refresh tokens.
    f.get(&format!("/v1/sessions/{own}")).refused(AdminReason::NoSuchSession);
    assert!(f.metric("portcullis_sessions_ended_total{reason=\"signed_out\"} 1"));

    assert_eq!(f.post("/v1/revocations", json!({ "session_id": "their session!" })).status, 204);
    assert_eq!(f.revoked("their session!", "x"), Some(EndReason::SecurityAction));

    let made = f.sign_in("bob");
    assert_eq!(f.post("/v1/revocations", json!({ "user_id": "bob" })).status, 204);
    assert_eq!(f.revoked(text(&made, "session_id"), "bob"), Some(EndReason::SecurityAction));
    assert_eq!(f.revoked("any other", "bob"), Some(EndReason::SecurityAction));
    f.get(&format!("/v1/sessions/{}", text(&made, "session_id"))).refused(AdminReason::NoSuchSession);
    assert!(f.metric("portcullis_sessions_ended_total{reason=\"security_action\"} 1"));

    for (body, named) in [
        (json!({}), "exactly one"),
        (json!({ "session_id": own, "user_id": "ann" }), "exactly one"),
        (json!({ "session_id": "" }), "session_id: is empty"),
        (json!({ "session_id": "a\u{7f}" }), "session_id: "),
        (json!({ "user_id": " " }), "user_id: "),
        (json!({ "user_id": "a", "reason": "refresh_reused" }), "reason: "),
        (json!({ "user_id": "a", "reason": null }), "reason: "),
        (json!({ "user_id": "a", "until": 1 }), "until"),
    ] {
        let message = f.post("/v1/revocations", body.clone()).refused(AdminReason::InvalidField);
        assert!(message.contains(named), "{body}: {message}");
    }
}

#[test]
fn a_revocation_is_kept_as_long_as_the_longest_token_may_live() {
    let f = Fixture::with(|config| config.trusted_issuers = vec![trusted_issuer(Duration::from_secs(86_400))]);
    assert_eq!(f.post("/v1/revocations", json!({ "session_id": "theirs" })).status, 204);
    assert_eq!(f.post("/v1/revocations", json!({ "user_id": "ann" })).status, 204);
    let revocations = &f.app.gateway().revocations;
    revocations.purge(UnixTime::now().plus(Duration::from_secs(86_400)));
    assert_eq!(revocations.len(), 2);
    revocations.purge(UnixTime::now().plus(Duration::from_secs(86_400 + 60)));
    assert!(revocations.is_empty());
}

// --- Keys ---

fn kid(keys: &Value, state: &str) -> String {
    let of_state = |key: &&Value| key["state"] == state;
    text(keys["keys"].as_array().unwrap().iter().find(of_state).unwrap(), "kid").to_owned()
}

#[test]
fn keys_rotate_and_no_token_is_refused_over_it() {
    let f = Fixture::new();
    let before = f.get("/v1/keys").json();
    assert_eq!(before["keys"].as_array().unwrap().len(), 2);
    let old = f.sign_in("ann");

    // The next key is as young as the gateway.
    let early = f.ask("POST", "/v1/keys/rotate", None);
    assert_eq!((early.status, early.json()["reason"].as_str()), (409, Some("key_not_yet_published")));
    let wait: u64 = early.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=300).contains(&wait), "{wait}");
    assert_eq!(f.get("/v1/keys").json(), before);
    f.ask("POST", "/v1/keys/rotate?force=1", None).refused(AdminReason::InvalidParameter);

    let after = f.ask("POST", "/v1/keys/rotate?force=true", None);
    assert_eq!(after.status, 200);
    let after = after.json();
    assert_eq!(kid(&after, "current"), kid(&before, "next"));
    assert_eq!(kid(&after, "retired"), kid(&before, "current"));
    assert_eq!(f.get("/v1/keys").json(), after);
    let new = f.sign_in("ann");
    for (made, key) in [(&old, kid(&before, "current")), (&new, kid(&before, "next"))] {
        let token = text(made, "access_token");
        assert!(f.accepts(token));
        let header = jsonwebtoken::decode_header(token).unwrap();
        assert_eq!(header.kid, Some(key));
    }
    // The verifier and the published document have all of them, the newest too.
    assert_eq!(f.app.gateway().verifier.keys(OWN_ISSUER).len(), 3);
    let jwks = exchange(f.app.listening()[0], "GET", "/.well-known/jwks.json", "", None);
    assert!(jwks.body.contains(&kid(&after, "next")), "{jwks:?}");
    let age = format!("public, max-age={}", crate::token::signing::PUBLISHED_BEFORE_USE.as_secs());
    assert_eq!(jwks.header("cache-control"), Some(age.as_str()));
}

#[test]
fn tokens_signed_while_keys_rotate_are_all_accepted() {
    let f = Fixture::new();
    std::thread::scope(|scope| {
        let rotations: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..5 {
                        assert_eq!(f.ask("POST", "/v1/keys/rotate?force=true", None).status, 200);
                    }
                })
            })
            .collect();
        let mut signed = 0;
        while signed < 10 || rotations.iter().any(|one| !one.is_finished()) {
            let made = f.sign_in("ann");
            assert!(f.accepts(text(&made, "access_token")), "after {signed}");
            signed += 1;
        }
    });
    assert_eq!(f.get("/v1/keys").json()["keys"].as_array().unwrap().len(), 12);
}

#[test]
fn keys_given_as_files_are_not_rotated_here() {
    use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
    let keys = TempDir::new().unwrap();
    let file = keys.path().join("signing.pem");
    let secret = p256::SecretKey::from_slice(&[7; 32]).unwrap();
    std::fs::write(&file, secret.to_pkcs8_pem(LineEnding::LF).unwrap().as_bytes()).unwrap();
    let f = Fixture::with(|config| config.session.as_mut().unwrap().signing_keys = vec![file]);
    for path in ["/v1/keys/rotate", "/v1/keys/rotate?force=true"] {
        let message = f.ask("POST", path, None).refused(AdminReason::KeysFromFiles);
        assert!(message.contains("session.signing_keys"), "{message}");
    }
    let shown = f.get("/v1/keys").json();
    assert_eq!((&shown["keys"][0]["state"], &shown["keys"][0]["created_at"]), (&json!("current"), &Value::Null));
}

#[test]
fn keys_that_cannot_be_written_stay_as_they_are() {
    let f = Fixture::new();
    let before = f.get("/v1/keys").json();
    let dir = f.dir.path().join("data/keys/signing");
    // Also for root, who may write to what is read-only: in place of the directory stands a file.
    let aside = f.dir.path().join("aside");
    std::fs::rename(&dir, &aside).unwrap();
    std::fs::write(&dir, "").unwrap();
    f.ask("POST", "/v1/keys/rotate?force=true", None).refused(AdminReason::KeysNotWritten);
    assert_eq!(f.get("/v1/keys").json(), before);
    assert!(f.accepts(text(&f.sign_in("ann"), "access_token")));
    std::fs::remove_file(&dir).unwrap();
    std::fs::rename(&aside, &dir).unwrap();
    assert_eq!(f.ask("POST", "/v1/keys/rotate?force=true", None).status, 200);
}

// --- Condition ---

#[test]
fn a_store_that_does_not_answer_is_503_and_never_another_error() {
    let f = Fixture::new();
    let made = f.sign_in("ann");
    let id = text(&made, "session_id");
    f.app.block_on(f.app.gateway().sessions.close(UnixTime::now())).unwrap();
    for answer in [
        f.post("/v1/sessions", json!({ "user_id": "ann" })),
        f.get("/v1/sessions?user_id=ann"),
        f.get(&format!("/v1/sessions/{id}")),
        f.delete(&format!("/v1/sessions/{id}")),
        f.delete("/v1/users/ann/sessions"),
        f.post("/v1/revocations", json!({ "session_id": id })),
        f.post("/v1/revocations", json!({ "session_id": "theirs" })),
        f.post("/v1/revocations", json!({ "user_id": "ann" })),
    ] {
        answer.refused(AdminReason::StoreUnavailable);
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.json()["error"], "temporarily_unavailable");
    }
    // What asks no store is answered as ever.
    assert_eq!(f.get("/v1/keys").status, 200);
    assert_eq!(f.send("GET", "/healthz", "", None).status, 200);
    let ready = f.send("GET", "/readyz", "", None);
    assert_eq!(ready.status, 503);
    assert_eq!(
        ready.json(),
        json!({ "status": "not_ready", "faults": ["store: the session store is closed"], "warnings": [] })
    );
}

#[test]
fn a_gateway_without_an_issuers_keys_is_alive_and_not_ready() {
    let f = Fixture::with(|config| config.trusted_issuers = vec![trusted_issuer(Duration::from_secs(60))]);
    assert_eq!(f.send("GET", "/healthz", "", None).json(), json!({ "status": "ok" }));
    let ready = f.send("GET", "/readyz", "", None);
    assert_eq!(ready.status, 503);
    assert!(text(&json!({ "fault": ready.json()["faults"][0] }), "fault").contains("https://other.example"));
    assert_eq!(
        Fixture::new().send("GET", "/readyz", "", None).json(),
        json!({ "status": "ready", "faults": [], "warnings": [] })
    );
}

#[test]
fn metrics_are_openmetrics_text() {
    let f = Fixture::new();
    f.sign_in("ann");
    let answer = f.send("GET", "/metrics", "", None);
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!((answer.status, answer.header("content-type")), (200, Some(kind)));
    assert!(answer.body.ends_with("# EOF\n"));
    let mut samples = 0;
    for line in answer.body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            assert!(["HELP ", "TYPE ", "UNIT ", "EOF"].iter().any(|word| comment.starts_with(word)), "{line}");
            continue;
        }
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("portcullis_"), "{line}");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        samples += 1;
    }
    assert!(samples > 20, "{samples}");
}

#[test]
fn the_configuration_is_shown_without_the_token() {
    let f = Fixture::new();
    let answer = f.get("/v1/config");
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["admin"]["token"], "[redacted]");
    assert_eq!(answer.json()["session"]["issuer"], "https://id.example");
    assert!(!answer.body.contains(TOKEN));
}

// --- The document ---

fn document() -> Value {
    serde_json::from_str(status::OPENAPI).unwrap()
}

#[test]
fn the_document_has_exactly_the_endpoints_that_are_served() {
    let document = document();
    let mut documented = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if ["parameters", "servers"].contains(&method.as_str()) || operation["tags"][0] != "admin" {
                continue;
            }
            let open = operation["security"].as_array().is_some_and(Vec::is_empty);
            documented.push((path.clone(), method.to_uppercase(), open));
        }
    }
    let mut served: Vec<_> = endpoints()
        .iter()
        .map(|one| (one.path.to_owned(), one.method.to_string(), one.access == Access::Open))
        .collect();
    documented.sort();
    served.sort();
    assert_eq!(documented, served);

    let f = Fixture::new();
    assert_eq!(f.send("GET", "/openapi.json", "", None).json(), document);
    let (id, statuses) = (SessionId::from_bytes([7; 16]).to_string(), |path: &str, method: &str| {
        document["paths"][path][method.to_lowercase()]["responses"].as_object().unwrap().clone()
    });
    for (path, method, open) in documented {
        let filled = path.replace("{session_id}", &id).replace("{user_id}", "ann");
        let answer = f.ask(&method, &filled, None);
        let reason = serde_json::from_str::<Value>(&answer.body).unwrap_or_default()["reason"].clone();
        assert!(reason != "no_such_path" && reason != "method_not_allowed", "{method} {path}: {reason}");
        assert!(
            statuses(&path, &method).contains_key(&answer.status.to_string()),
            "{method} {path}: {}",
            answer.status
        );
        assert_eq!(f.send(&method, &filled, "", None).status == 401, !open, "{method} {path}");
        assert_eq!(statuses(&path, &method).contains_key("401"), !open, "{method} {path}");
    }
}

#[test]
fn the_document_has_exactly_the_words_in_use() {
    let document = document();
    let words = |schema: &str| -> Vec<String> {
        let words = document["components"]["schemas"][schema]["enum"].as_array().unwrap();
        words.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let names = |all: &[&'static str]| all.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    assert_eq!(words("Reason"), names(&Reason::ALL.iter().map(|one| one.as_str()).collect::<Vec<_>>()));
    assert_eq!(words("EndReason"), names(&EndReason::ALL.map(EndReason::as_str)));
    assert_eq!(words("AdminReason"), names(&AdminReason::ALL.iter().map(|one| one.as_str()).collect::<Vec<_>>()));
    let states = [KeyState::Current, KeyState::Next, KeyState::Retired, KeyState::VerifyOnly];
    assert_eq!(words("KeyState"), names(&states.map(KeyState::as_str)));
    for reason in words("ReasonByHand") {
        assert!(EndReason::from_str(&reason).is_some(), "{reason}");
    }
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn visit(value: &Value, document: &Value) {
        match value {
            Value::Object(members) => {
                if let Some(reference) = members.get("$ref") {
                    let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                    assert!(document.pointer(pointer).is_some(), "{pointer}");
                }
                members.values().for_each(|one| visit(one, document));
            }
            Value::Array(values) => values.iter().for_each(|one| visit(one, document)),
            _ => {}
        }
    }
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    visit(&document, &document);
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if !["parameters", "servers"].contains(&method.as_str()) {
                assert!(operation["responses"].as_object().is_some_and(|all| !all.is_empty()), "{method} {path}");
                assert!(operation["operationId"].is_string(), "{method} {path}");
            }
        }
    }
}

// --- Changes and connections ---

#[tokio::test]
async fn a_change_that_has_begun_is_finished_also_when_nobody_waits_for_it() {
    let (begin, begun) = tokio::sync::oneshot::channel();
    let (proceed, proceeded) = tokio::sync::oneshot::channel::<()>();
    let (end, ended) = tokio::sync::oneshot::channel();
    let change = finish(async move {
        begin.send(()).unwrap();
        proceeded.await.unwrap();
        end.send(()).unwrap();
        Ok(())
    });
    tokio::select! {
        _ = change => panic!("it waits"),
        outcome = begun => outcome.unwrap(),
    }
    proceed.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_change_that_breaks_off_is_no_success() {
    let broken = finish::<()>(async { panic!("as if by a fault") }).await;
    assert_eq!(broken, Err(AdminReason::StoreUnavailable.into()));
}

#[test]
fn a_body_that_never_ends_is_not_waited_for() {
    let f = Fixture::new();
    let begun = format!(
        "POST /v1/sessions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n\
         Content-Length: 16\r\n\r\n{{\"user_id\""
    );
    raw(f.address(), &begun).refused(AdminReason::BodyTimeout);
}

/// A listener that serves `router`, to be stopped by the sender; the handle ends with it.
async fn listening(
    router: Router,
    limits: listener::Limits,
) -> (SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    (address, stop, tokio::spawn(listener::run(socket, router, stopping, limits)))
}

/// What comes until the other side closes.
async fn rest(mut stream: tokio::net::TcpStream) -> String {
    use tokio::io::AsyncReadExt as _;
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await;
    drop(read.expect("the connection was closed"));
    String::from_utf8(bytes).unwrap()
}

async fn connect(address: SocketAddr, bytes: &str) -> tokio::net::TcpStream {
    use tokio::io::AsyncWriteExt as _;
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    stream
}

const HELLO: &str = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn a_client_that_never_finishes_its_header_is_dropped() {
    let limits = listener::Limits { header_timeout: Duration::from_millis(200), ..Default::default() };
    let router = Router::new().route("/", on(MethodFilter::GET, || async { "hello" }));
    let (address, _stop, _serving) = listening(router, limits).await;
    let start = Instant::now();
    for bytes in ["", "GET / HTTP/1.1\r\nHost: local", HELLO] {
        // Silent, in the middle of a header, and after an answer.
        let answer = rest(connect(address, bytes).await).await;
        assert_eq!(answer.ends_with("hello"), bytes == HELLO, "{answer}");
    }
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn more_connections_than_allowed_wait_for_a_place() {
    let limits = listener::Limits { connections: 1, ..Default::default() };
    let router = Router::new().route("/", on(MethodFilter::GET, || async { "hello" }));
    let (address, _stop, _serving) = listening(router, limits).await;
    let first = connect(address, "").await;
    let second = connect(address, HELLO).await;
    let mut byte = [0];
    let early = tokio::time::timeout(Duration::from_millis(200), second.peek(&mut byte)).await;
    assert!(early.is_err());
    drop(first);
    assert_eq!(second.peek(&mut byte).await.unwrap(), 1);
}

#[tokio::test]
async fn a_connection_past_its_time_takes_no_new_request() {
    let limits = listener::Limits { lifetime: Duration::from_millis(200), ..Default::default() };
    let router = Router::new().route("/", on(MethodFilter::GET, || async { "hello" }));
    let (address, _stop, _serving) = listening(router, limits).await;
    let start = Instant::now();
    assert!(rest(connect(address, HELLO).await).await.ends_with("hello"));
    assert!(start.elapsed() < Duration::from_secs(8));
}

#[tokio::test]
async fn a_stop_lets_a_request_in_flight_finish_and_no_other_begin() {
    let begun = Arc::new(tokio::sync::Notify::new());
    let proceed = Arc::new(tokio::sync::Notify::new());
    let (handler_begun, handler_proceed) = (begun.clone(), proceed.clone());
    let router = Router::new().route(
        "/",
        on(MethodFilter::GET, || async move {
            handler_begun.notify_one();
            handler_proceed.notified().await;
            "hello"
        }),
    );
    let (address, stop, serving) = listening(router, listener::Limits::default()).await;
    let idle = connect(address, "").await;
    let busy = connect(address, HELLO).await;
    begun.notified().await;
    stop.send(true).unwrap();
    assert_eq!(rest(idle).await, "");
    proceed.notify_one();
    assert!(rest(busy).await.ends_with("hello"));
    serving.await.unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_request_that_never_ends() {
    let router = Router::new().route("/", on(MethodFilter::GET, std::future::pending::<()>));
    let limits = listener::Limits { drain_timeout: Duration::from_millis(100), ..Default::default() };
    let (address, stop, serving) = listening(router, limits).await;
    let busy = connect(address, HELLO).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    stop.send(true).unwrap();
    serving.await.unwrap();
    assert_eq!(rest(busy).await, "");
}
