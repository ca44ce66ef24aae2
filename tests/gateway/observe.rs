//! `mode = "observe"`: everything is judged and counted, and nobody is refused for want of an identity.

use portcullis::revocation::EndReason;

use crate::support::{Backend, Client, Gateway, Process, Switching, Toml, Workplace, eventually, get, handshake};

const ROUTES: &str = "[[route]]\npath = \"/\"\nupstream = \"app\"\nmode = \"observe\"\n\
    [[route]]\npath = \"/enforced\"\nupstream = \"app\"\n\
    [[route]]\npath = \"/limited\"\nupstream = \"app\"\nmode = \"observe\"\nbody_bytes = \"4B\"\nrate_limit = [{ by = \"user\", rate = \"2/1h\" }]\n";

fn observing() -> Toml {
    Toml { rest: ROUTES.into(), ..Toml::default() }
}

#[test]
fn nothing_is_refused_for_want_of_an_identity_and_none_is_made_up() {
    let backend = Backend::start();
    let gateway = Gateway::with(&observing(), &[backend.address]);
    let pair = gateway.sign_in("ann");
    let ended = gateway.sign_in("bob");
    let logout = format!(
        "POST /auth/logout HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Length: 0\r\n\r\n",
        &*ended.access_token
    );
    assert_eq!(gateway.connect().ask(logout).status, 204);
    let forged = "X-User-Id: admin\r\nX_User_Id: admin\r\nX-Session-Id: 1\r\n";
    for authorization in [
        String::new(),
        "Authorization: Basic x\r\n".into(),
        "Authorization: Bearer x.y.z\r\n".into(),
        format!("Authorization: Bearer {}\r\nAuthorization: Bearer x\r\n", &*pair.access_token),
        format!("Authorization: Bearer {}\r\n", &*ended.access_token),
    ] {
        let request = |path| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{authorization}{forged}\r\n");
        let reply = gateway.connect().ask(request("/x"));
        assert_eq!((reply.status, reply.header("cache-control")), (200, None), "{authorization}");
        let seen = backend.next();
        for name in ["x-user-id", "x_user_id", "x-session-id", "authorization"] {
            assert!(seen.all(name).is_empty(), "{name}: {authorization}");
        }
        assert_eq!(gateway.connect().ask(request("/enforced")).status, 401, "{authorization}");
    }
    assert!(backend.saw_nothing());
    // A good token is worth what it always is.
    assert_eq!(gateway.connect().ask(get("/x", Some(&pair.access_token))).status, 200);
    assert_eq!(backend.next().one("x-user-id"), "ann");
}

#[test]
fn an_idle_session_is_noted_and_goes_on_as_nobody() {
    let backend = Backend::start();
    let toml = Toml { session: "idle_timeout = \"1s\"\n".into(), ..observing() };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    assert_eq!(client.ask(get("/", Some(&pair.access_token))).status, 200);
    assert_eq!(backend.next().one("x-user-id"), "ann");
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(client.ask(get("/", Some(&pair.access_token))).status, 200);
    assert!(backend.next().all("x-user-id").is_empty());
    let reply = client.ask(get("/enforced", Some(&pair.access_token)));
    assert_eq!(reply.refusal(), (401, "session_idle".to_owned()));
}

#[test]
fn what_is_no_question_of_identity_is_refused_all_the_same() {
    let backend = Backend::start();
    let gateway = Gateway::with(&observing(), &[backend.address]);
    let mut client = gateway.connect();
    for (path, status) in [("/a//b", 400), ("/x/../y", 400), ("/Enforced", 400)] {
        assert_eq!(client.ask(get(path, None)).status, status, "{path}");
    }
    let large = "POST /limited HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\n12345";
    assert_eq!(gateway.connect().ask(large).refusal(), (413, "body_too_large".to_owned()));
    // Nobody known: counted by the address, together with the one above.
    assert_eq!(client.ask(get("/limited", None)).status, 200);
    assert_eq!(client.ask(get("/limited", None)).refusal(), (429, "rate_limited".to_owned()));
}

#[test]
fn what_would_be_refused_is_logged_counted_and_announced() {
    let backend = Backend::start();
    let place = std::sync::Arc::new(Workplace::new());
    let text = observing().text(&[backend.address]).replace("access = \"off\"", "access = \"refused\"");
    let gateway = Process::start_with(&place, &text);
    let (access, _) = gateway.sign_in("ann");
    let mut client = gateway.connect();
    assert_eq!(client.ask(get("/nobody", None)).status, 200);
    assert_eq!(client.ask(get("/forged", Some("x.y.z"))).status, 200);
    assert_eq!(client.ask(get("/good", Some(&access))).status, 200);
    assert_eq!(client.ask(get("/enforced", None)).status, 401);
    let (ended, _) = gateway.sign_in("bob");
    let logout = format!(
        "POST /auth/logout HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {ended}\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(client.ask(logout).status, 204);
    while !backend.saw_nothing() {}
    assert_eq!(client.ask(get("/ended", Some(&ended))).status, 200);
    assert!(backend.next().all("x-user-id").is_empty());
    let metrics = Client::plain(gateway.admin).ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").text();
    for line in [
        "portcullis_would_refuse_total{reason=\"missing_token\"} 1",
        "portcullis_would_refuse_total{reason=\"malformed_token\"} 1",
        "portcullis_refused_total{reason=\"missing_token\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    let log = gateway.log();
    assert!(log.contains("\"WARN\"") && log.contains("mode \\\"observe\\\""), "{log}");
    drop(client);
    assert!(gateway.stop().success());
    let access = std::fs::read_to_string(place.path("access")).unwrap();
    let lines: Vec<serde_json::Value> = access.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let noted = |at: usize| {
        let text = |key: &str| lines[at][key].as_str().unwrap_or("-").to_owned();
        (text("path"), lines[at]["status"].as_u64().unwrap(), text("would_refuse"), text("reason"), text("user"))
    };
    let line = |path: &str, status, would_refuse: &str, reason: &str, user: &str| {
        (path.to_owned(), status, would_refuse.to_owned(), reason.to_owned(), user.to_owned())
    };
    assert_eq!(lines.len(), 4, "those that would not be refused are not written: {access}");
    assert_eq!(noted(0), line("/nobody", 200, "missing_token", "-", "-"));
    assert_eq!(noted(1), line("/forged", 200, "malformed_token", "-", "-"));
    assert_eq!(noted(2), line("/enforced", 401, "-", "missing_token", "-"));
    assert_eq!(noted(3), line("/ended", 200, "signed_out", "-", "bob"));
}

#[test]
fn what_is_open_outlasts_its_session_and_that_is_counted() {
    let backend = Switching::start();
    let gateway = Gateway::with(&observing(), &[backend.address]);
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    assert_eq!(client.ask(handshake("/echo", Some(&pair.access_token))).status, 101);
    gateway.end(pair.session, EndReason::SignedOut);
    std::thread::sleep(std::time::Duration::from_millis(1500));
    client.send(b"\x81\x80\0\0\0\0");
    assert_eq!(client.until(b"\x81\x80\0\0\0\0").unwrap().len(), 6);
    drop(client);
    assert_eq!(backend.ended().bytes.len(), 6);
    eventually("the stream is counted", || {
        let metrics = portcullis::telemetry::metrics::encode(&gateway.app().gateway().metrics).unwrap();
        metrics.contains("portcullis_would_refuse_total{reason=\"signed_out\"} 1")
    });
}
