//! The commands of an operator: exit codes, what goes to which output, and the JSON for programs.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::{Answer, Backend, Ended, Process, Toml, Workplace, command, ended, free_port, get, portcullis};

/// A gateway with routes of each kind, in front of a backend that answers with the header it was sent.
fn start() -> (Process, Backend) {
    let backend = Backend::answering(|seen| {
        let fields: Vec<_> = seen.headers.iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
        Answer::ok(&json!(fields).to_string())
    });
    let mut toml = Toml::default();
    toml.rest += "[[route]]\nname = \"orders\"\npath = \"/orders\"\nmethods = [\"GET\"]\nupstream = \"app\"\n\
                  forward_token = true\n[[route]]\nhost = \"shop.example\"\npath = \"/shop\"\nupstream = \"app\"\n\
                  auth = \"public\"\n[auth]\nstrip_headers = [\"X-Role\"]\n";
    let process = Process::start(&Arc::new(Workplace::new()), &toml, &backend);
    (process, backend)
}

fn in_place(place: &Path, words: &[&str]) -> Ended {
    let mut command = portcullis();
    command.current_dir(place).args(words);
    ended(command)
}

#[test]
fn wrong_usage_exits_with_2_and_says_so_on_standard_error() {
    for words in [
        &[] as &[&str],
        &["serve"],
        &["run", "--confg", "x"],
        &["check", "one", "two"],
        &["demo", "--listen", "localhost"],
        &["session"],
        &["session", "create"],
        &["session", "create", "ann", "--claims", "[1]"],
        &["session", "list", "ann", "--token", "the-token-itself-in-sight"],
        &["session", "list", "ann", "--admin", "https://127.0.0.1:1", "--token", "env:HOME"],
        &["keys", "remove"],
        &["token", "inspect"],
        &["token", "inspect", "a.b.c", "--fetch"],
        &["explain", "GET", "/no-host"],
        &["explain", "GET", "http://a b/"],
        &["explain", "--header", "no colon", "GET", "https://a/"],
        &["health", "--url", "https://127.0.0.1:1"],
    ] {
        let ended = command(words, &[]);
        let told = ended.failed(2);
        assert!(!told.is_empty() && !told.contains("the-token-itself"), "{words:?}: {told}");
    }
    for words in [&["--help"] as &[&str], &["--version"], &["run", "--help"], &["help", "session"]] {
        assert!(command(words, &[]).done().contains("ortcullis"), "{words:?}");
    }
}

#[test]
fn what_cannot_be_done_exits_with_1_and_says_why_on_standard_error() {
    let place = Workplace::new();
    let nobody = format!("http://{}", free_port());
    let token = format!("file:{}", place.path("admin-token").display());
    let admin = ["--admin", &nobody, "--token", &token];
    for words in [
        &["session", "create", "ann"] as &[&str],
        &["session", "list", "ann"],
        &["session", "show", "x"],
        &["session", "end", "x"],
        &["session", "end-user", "ann"],
        &["keys", "list"],
        &["keys", "rotate"],
    ] {
        let away = command(words, &admin);
        assert!(away.failed(1).starts_with(&format!("error: cannot ask the admin listener at {nobody}: ")), "{away:?}");
        let json = command(words, &[&admin[..], &["--json"]].concat());
        let error: Value = serde_json::from_str(json.failed(1)).unwrap();
        assert!(error["error"].as_str().unwrap().contains("connect"), "{error}");
    }
    assert!(command(&["health", "--url", &nobody], &[]).failed(1).contains(&nobody));
    for words in [
        &["run"] as &[&str],
        &["session", "list", "ann"],
        &["keys", "list"],
        &["explain", "GET", "https://a/"],
        &["token", "inspect", "a.b.c"],
    ] {
        let missing = command(words, &["--config", "/nowhere/portcullis.toml"]);
        assert!(missing.failed(1).contains("/nowhere/portcullis.toml"), "{missing:?}");
    }
    for token in ["garbage", "pcr_AAAA", "@/nowhere/token"] {
        assert!(command(&["token", "inspect", token], &[]).failed(1).starts_with("error: "));
    }
}

#[test]
fn five_faults_are_told_at_once_each_with_its_place_by_check_and_by_run() {
    let place = Workplace::new();
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config/invalid");
    std::fs::copy(fixtures.join("five_kinds.toml"), place.path("config.toml")).unwrap();
    let told = std::fs::read_to_string(fixtures.join("five_kinds.txt")).unwrap();
    for words in ["check", "run", "keys list", "explain GET https://a/"] {
        let words: Vec<&str> = words.split(' ').chain(["--config", "config.toml"]).collect();
        assert_eq!(in_place(place.root(), &words).failed(1).trim_end(), told.trim_end(), "{words:?}");
    }
    // For programs the same, and as the result: a check that finds something has done its work.
    let checked = in_place(place.root(), &["check", "--config", "config.toml", "--json"]);
    let report = checked.json();
    assert_eq!((checked.code, checked.err.as_str(), &report["ok"]), (1, "", &Value::Bool(false)));
    let faults = report["faults"].as_array().unwrap().iter();
    let lines: Vec<String> = faults
        .map(|fault| {
            let message = fault["message"].as_str().unwrap();
            format!("{}:{}:{}: {message}", fault["file"].as_str().unwrap(), fault["line"], fault["column"])
        })
        .collect();
    assert_eq!(lines, told.lines().take(5).collect::<Vec<_>>());
    let failed = in_place(place.root(), &["keys", "list", "--config", "config.toml", "--json"]);
    let error: Value = serde_json::from_str(failed.failed(1)).unwrap();
    assert_eq!(error["faults"], report["faults"]);
}

#[test]
fn sessions_are_managed_as_json_and_in_words() {
    let (process, _backend) = start();
    let json = |words: &[&str]| {
        let ended = process.command(&[words, &["--json"]].concat());
        ended.done();
        ended.json()
    };
    let made = json(&["session", "create", "ann", "--label", "laptop", "--claims", r#"{"role":"editor"}"#]);
    let sid = made["session_id"].as_str().unwrap();
    assert_eq!((&made["user_id"], &made["expires_in"]), (&"ann".into(), &3600.into()));
    let access = made["access_token"].as_str().unwrap();
    let mut client = process.connect();
    assert_eq!(client.ask(get("/", Some(access))).status, 200);

    let shown = json(&["session", "show", sid]);
    assert_eq!((&shown["label"], &shown["claims"]), (&"laptop".into(), &json!({ "role": "editor" })));
    let other = json(&["session", "create", "ann"]);
    let listed = json(&["session", "list", "ann"]);
    let ids: Vec<_> = listed["sessions"].as_array().unwrap().iter().map(|one| &one["session_id"]).collect();
    assert!(ids.len() == 2 && ids.contains(&&made["session_id"]) && ids.contains(&&other["session_id"]), "{listed}");
    assert!(!listed.to_string().contains("eyJ") && !listed.to_string().contains("pcr_"), "{listed}");

    // In words: one line for each, and nothing else on either output.
    let listed = process.command(&["session", "list", "ann"]);
    assert_eq!(listed.done().lines().count(), 3, "{listed:?}");
    assert!(process.command(&["session", "show", sid]).done().contains("laptop"));

    let ended = process.command(&["session", "end", sid]);
    assert_eq!(ended.done(), format!("session {sid} has ended\n"));
    assert_eq!(client.ask(get("/", Some(access))).refusal(), (401, "security_action".to_owned()));
    assert_eq!(process.command(&["session", "end", sid, "--json"]).done(), "", "twice is harmless");
    let gone = process.command(&["session", "show", sid, "--json"]);
    let error: Value = serde_json::from_str(gone.failed(1)).unwrap();
    assert_eq!(error["error"], "refused (404, no_such_session)");
    let refused = process.command(&["session", "show", "no-session"]);
    assert!(refused.failed(1).starts_with("error: refused (400, "), "{refused:?}");

    assert_eq!(json(&["session", "end-user", "ann"]), json!({ "ended": 1 }));
    let other = other["access_token"].as_str().unwrap();
    assert_eq!(client.ask(get("/", Some(other))).refusal(), (401, "security_action".to_owned()));
    assert_eq!(process.command(&["session", "end-user", "ann"]).done(), "sessions of ann ended: 0\n");

    let token = format!("file:{}", process.place.path("key.pem").display());
    let refused = process.command(&["session", "list", "ann", "--token", &token]);
    assert!(refused.failed(1).starts_with("error: "), "{refused:?}");
}

#[test]
fn keys_rotate_under_tokens_that_stay_good_and_health_says_ready() {
    let (process, _backend) = start();
    let (old, _) = process.sign_in("ann");
    let mut client = process.connect();
    assert_eq!(client.ask(get("/", Some(&old))).status, 200);
    let states = |keys: &Value| -> Vec<String> {
        keys["keys"].as_array().unwrap().iter().map(|key| key["state"].as_str().unwrap().to_owned()).collect()
    };
    let listed = process.command(&["keys", "list", "--json"]);
    listed.done();
    assert_eq!(states(&listed.json()), ["current", "next"]);
    let early = process.command(&["keys", "rotate"]);
    assert!(early.failed(1).starts_with("error: refused (409, key_not_yet_published): "), "{early:?}");
    let rotated = process.command(&["keys", "rotate", "--force", "--json"]);
    rotated.done();
    let mut all = states(&rotated.json());
    all.sort();
    assert_eq!(all, ["current", "next", "retired"]);
    // A line for each of three signing keys and one refresh key, under the names of their columns.
    assert_eq!(process.command(&["keys", "list"]).done().lines().filter(|line| !line.is_empty()).count(), 6);
    let (new, _) = process.sign_in("ann");
    for token in [&old, &new] {
        assert_eq!(client.ask(get("/", Some(token))).status, 200);
    }
    let published = client.ask("GET /.well-known/jwks.json HTTP/1.1\r\nHost: a\r\n\r\n").json();
    assert_eq!(published["keys"].as_array().unwrap().len(), 3);

    let url = format!("http://{}", process.admin);
    let health = command(&["health", "--url", &url], &["--json"]);
    health.done();
    assert_eq!(health.json(), json!({ "ready": true, "status": 200 }));
    let checked = process.command(&["check", "--json"]);
    checked.done();
    assert_eq!(checked.json()["ok"], true, "beside the running gateway");
}

#[test]
fn a_token_is_looked_into_and_judged() {
    let (process, _backend) = start();
    let (access, refresh) = process.sign_in("ann");
    let looked = command(&["token", "inspect", &access], &["--json"]);
    looked.done();
    let token = looked.json();
    assert_eq!((&token["header"]["alg"], &token["claims"]["sub"]), (&"ES256".into(), &"ann".into()));
    assert_eq!(token["verified"], Value::Null);
    assert!(command(&["token", "inspect", &access], &[]).done().contains("Nothing was verified"));

    let judged = process.command(&["token", "inspect", &access, "--json"]);
    judged.done();
    let verdict = judged.json()["verified"].clone();
    assert_eq!((&verdict["ok"], &verdict["user_id"]), (&true.into(), &"ann".into()));
    assert_eq!(verdict["session_id"], token["claims"]["sid"]);

    // Another payload under the same signature: an answer, which is no.
    let parts: Vec<&str> = access.split('.').collect();
    let (other, _) = process.sign_in("bob");
    let forged = format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2]);
    let judged = process.command(&["token", "inspect", &forged, "--json"]);
    assert_eq!((judged.code, judged.err.as_str()), (1, ""));
    assert_eq!(judged.json()["verified"], json!({ "ok": false, "reason": "bad_signature" }));
    let judged = process.command(&["token", "inspect", &forged]);
    assert!(judged.code == 1 && judged.out.contains("bad_signature"), "{judged:?}");

    let told = process.command(&["token", "inspect", &refresh]);
    assert!(!told.failed(1).contains(&refresh));
}

#[test]
fn a_closed_standard_output_ends_a_command_without_a_word() {
    let place = Workplace::new();
    let config = "[server]\nlisten = [\"127.0.0.1:0\"]\n[upstream.app]\nservers = [\"http://127.0.0.1:1\"]\n\
                  [[route]]\npath = \"/\"\nupstream = \"app\"\nauth = \"public\"\n";
    std::fs::write(place.path("portcullis.toml"), config).unwrap();
    for words in [&["check"] as &[&str], &["check", "--json"], &["explain", "GET", "https://a.example/"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = portcullis();
        let ended = command.current_dir(place.root()).args(words).stdout(writer).stderr(Stdio::piped());
        let ended = ended.spawn().unwrap().wait_with_output().unwrap();
        // As a shell says it of a program that SIGPIPE ended.
        assert_eq!(ended.status.code(), Some(141), "{words:?}");
        assert!(!String::from_utf8_lossy(&ended.stderr).contains("error"), "{words:?}: {ended:?}");
    }
}

/// What is asked, as words for `explain` and as the request that the gateway gets.
struct Asked<'a> {
    method: &'a str,
    target: &'a str,
    headers: Vec<&'a str>,
    token: Option<&'a str>,
}

fn ask<'a>(method: &'a str, target: &'a str, headers: &[&'a str], token: Option<&'a str>) -> Asked<'a> {
    Asked { method, target, headers: headers.to_vec(), token }
}

#[test]
fn explain_says_what_the_running_gateway_does() {
    let (process, _backend) = start();
    let (access, _) = process.sign_in("ann");
    let (other, _) = process.sign_in("bob");
    let parts: Vec<&str> = access.split('.').collect();
    let forged = format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2]);
    let [host, shop] = ["Host: localhost", "Host: shop.example"];
    let good = Some(access.as_str());
    let forging = &[host, "X-User-Id: admin", "X-Session-Id: 1", "X-Role: admin", "Connection: X-User-Id, close-not"];
    let cases = [
        ask("GET", "/", &[host], good),
        ask("GET", "/", &[host], None),
        ask("GET", "/", &[host], Some("a.b.c")),
        ask("GET", "/", &[host], Some(&forged)),
        ask("GET", "/", &[host, "Authorization: Basic YTpi"], None),
        ask("GET", "/", &[host, "Authorization: Bearer x"], good),
        ask("GET", "/x?y=%20&z", forging, good),
        ask("GET", "/public/x", forging, good),
        ask("GET", "/public", &[host, "X-Forwarded-For: 1.2.3.4", "Via: 1.0 old", "TE: trailers"], None),
        ask("GET", "/optional", &[host], good),
        ask("GET", "/optional", &[host, "Cookie: a=b", "Accept: text/html", "Accept: text/plain"], None),
        ask("GET", "/optional", &[host], Some(&forged)),
        ask("GET", "/orders/7", &[host], good),
        ask("DELETE", "/orders/7", &[host], good),
        ask("GET", "/shop", &[host], None),
        ask("GET", "/shop", &[shop], None),
        ask("GET", "/public/../orders", &[host], None),
        ask("GET", "/public/%2e%2e/orders", &[host], None),
        ask("GET", "/public//x", &[host], None),
        ask("GET", "/public/a%2Fb", &[host], None),
        ask("GET", "/public/%zz", &[host], None),
        ask("GET", "/auth/unknown", &[host], good),
        ask("GET", "/auth/refresh", &[host], None),
        ask("POST", "/.well-known/jwks.json", &[host], None),
        ask("GET", "/public", &[host, "Connection: Upgrade", "Upgrade: websocket"], None),
        ask("GET", "/public", &[host, "Connection: Upgrade", "Upgrade: h2c"], None),
        ask("GET", "/public", &[host, "Upgrade: websocket"], None),
        ask("GET", "/public", &["Host: a b"], None),
        ask("GET", "/public", &[host, "Host: other.example"], None),
        ask("GET", "/public", &[host, "Content-Length: 1", "Content-Length: 2"], None),
        ask("TRACE", "/public", &[host], None),
    ];
    let mut verdicts = std::collections::BTreeSet::new();
    for Asked { method, target, headers, token } in cases {
        let mut words = vec!["explain", "--json"];
        headers.iter().for_each(|field| words.extend(["--header", *field]));
        token.iter().for_each(|token| words.extend(["--token", token]));
        words.extend([method, target]);
        let explained = process.command(&words);
        let told = explained.json();
        let fields: String = headers.iter().map(|field| format!("{field}\r\n")).collect();
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let answer = process.connect().ask(format!("{method} {target} HTTP/1.1\r\n{fields}{token}\r\n"));
        let case = format!("{words:?}: told {told}, answered {} {}", answer.status, answer.text());
        if told["forwarded"] == true {
            assert_eq!((explained.code, answer.status), (0, 200), "{case}");
            assert_eq!(upstream_header(&told["headers"]), upstream_header(&answer.json()), "{case}");
            verdicts.insert("forwarded".to_owned());
        } else {
            assert_eq!((explained.code, told["status"].as_u64()), (1, Some(answer.status.into())), "{case}");
            // A framing that cannot be read is refused by the HTTP parser, which has no words.
            if told["reason"] != "bad_framing" {
                assert_eq!(told["reason"], answer.json()["reason"], "{case}");
            }
            assert_eq!(told["allow"].as_str(), answer.header("allow"), "{case}");
            verdicts.insert(told["reason"].as_str().unwrap().to_owned());
        }
    }
    for expected in ["forwarded", "missing_token", "bad_signature", "method_not_allowed", "no_route", "bad_path"] {
        assert!(verdicts.contains(expected), "{verdicts:?}");
    }
    let words = process.command(&["explain", "GET", "https://localhost/orders"]);
    assert_eq!((words.code, words.err.as_str()), (1, ""));
    assert!(words.out.contains("route     orders (") && words.out.contains("reason missing_token"), "{words:?}");
}

/// Fields in order of their names, without those that are new for each request.
fn upstream_header(fields: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut fields: Vec<_> =
        fields.as_array().unwrap().iter().map(|field| (text(&field[0]), text(&field[1]))).collect();
    fields.retain(|(name, _)| !matches!(name.as_str(), "x-request-id" | "traceparent"));
    fields.sort();
    fields
}
