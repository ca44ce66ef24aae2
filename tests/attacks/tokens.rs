//! Tokens that somebody else made, at the front door.

mod forged;
mod placing;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt as _, Full};
use serde_json::json;

use self::forged::{Forged, Issuer, MARK};
use crate::support::{Backend, Client, Gateway, Process, Reply, Toml, Workplace, connect_http2, eventually, get};

/// A gateway that trusts `a` and `b`, and `https://away.test`, whose keys are at `away`.
struct Party {
    a: Issuer,
    b: Issuer,
    place: Arc<Workplace>,
    toml: Toml,
}

impl Party {
    fn new(away: SocketAddr) -> Self {
        let (a, b) = (Issuer::new("https://a.test", "a"), Issuer::new("https://b.test", "b"));
        let place = Arc::new(Workplace::new());
        let mut toml = Toml::default();
        for issuer in [&a, &b] {
            let file = format!("{}.json", issuer.name.trim_start_matches("https://"));
            std::fs::write(place.path(&file), issuer.document()).unwrap();
            toml.rest += &format!(
                "[[trusted_issuer]]\nissuer = \"{}\"\naudience = [\"app\"]\njwks_file = \"{file}\"\n",
                issuer.name
            );
        }
        toml.rest += &format!(
            "[[trusted_issuer]]\nissuer = \"https://away.test\"\naudience = [\"app\"]\njwks_url = \"http://{away}/\"\n"
        );
        Self { a, b, place, toml }
    }

    /// Serving, with the keys of `a` and `b` loaded. Seen by a token that reaches no server in any case.
    fn start(&self, backend: &Backend) -> Gateway {
        let gateway = Gateway::at(self.place.clone(), &self.toml, &[backend.address]);
        for issuer in [&self.a, &self.b] {
            let expired = issuer.token(issuer.header(), issuer.claims(|claims| claims["exp"] = json!(1)));
            eventually("keys are loaded", || gateway.connect().ask(get("/", Some(&expired))).status == 401);
        }
        gateway
    }

    fn good(&self) -> String {
        self.a.token(self.a.header(), self.a.claims(|_| ()))
    }
}

/// Where nobody listens.
fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// What is wrong with a refusal, if anything is.
fn fault(reply: &Reply, status: u16, reason: &str) -> Option<String> {
    let challenge = match (status, reason) {
        (401, "missing_token") => Some("Bearer".to_owned()),
        (401, _) => Some(format!("Bearer error=\"invalid_token\", error_description=\"{reason}\"")),
        _ => None,
    };
    let said = serde_json::from_slice(&reply.body).unwrap_or(json!(null))["reason"].as_str().map(str::to_owned);
    let right = (reply.status, said.as_deref()) == (status, Some(reason))
        && reply.header("www-authenticate") == challenge.as_deref()
        && reply.header("cache-control") == Some("no-store")
        && !reply.text().contains(MARK)
        && !format!("{:?}", reply.headers).contains(MARK);
    (!right).then(|| format!("{} {:?} {}", reply.status, reply.headers, reply.text()))
}

/// That the upstream of a public route was told nothing of the token.
fn told(backend: &Backend) -> Option<String> {
    let seen = backend.next();
    let named = ["authorization", "x-user-id", "x-session-id"].iter().any(|name| !seen.all(name).is_empty());
    (named || format!("{seen:?}").contains("Bearer")).then(|| format!("{seen:?}"))
}

fn assert_none(failed: &[String], count: usize) {
    assert!(failed.is_empty(), "{} of {count} failed:\n{}", failed.len(), failed.join("\n"));
}

/// Required and optional routes refuse each, and send nothing on; public ones do not look at it, and do not send it on.
#[test]
fn forged_tokens_over_http1_get_their_reason_and_reach_no_server() {
    let (party, backend) = (Party::new(nowhere()), Backend::start());
    let gateway = party.start(&backend);
    let own = gateway.sign_in("ann").access_token;
    let forged = forged::tokens(&party.a, &party.b, &own);
    let good = party.good();
    let mut failed = Vec::new();
    let mut client = gateway.connect();
    for Forged { name, token, status, reason } in &forged {
        for path in ["/", "/optional"] {
            // Twice: what was refused is refused again, by the worker that has seen it.
            for time in ["first", "second"] {
                if let Some(was) = fault(&client.ask(get(path, Some(token))), *status, reason) {
                    failed.push(format!("{name}, {path}, {time}: expected {status} {reason}, was {was}"));
                }
            }
        }
        if !backend.saw_nothing() {
            failed.push(format!("{name}: sent on"));
        }
        let reply = client.ask(get("/public", Some(token)));
        if reply.status != 200 {
            failed.push(format!("{name}, public: {}", reply.text()));
        } else if let Some(seen) = told(&backend) {
            failed.push(format!("{name}, public: {seen}"));
        }
        for token in [&good, &*own] {
            if client.ask(get("/", Some(token))).status != 200 {
                failed.push(format!("{name}: a good token after it is refused"));
            }
            backend.next();
        }
    }
    println!("tokens over HTTP/1.1: {} cases, on three routes", forged.len());
    assert!(forged.len() >= 60);
    assert_none(&failed, forged.len());
}

#[test]
fn forged_tokens_over_http2_get_their_reason_and_reach_no_server() {
    let (party, backend) = (Party::new(nowhere()), Backend::start());
    let gateway = party.start(&backend);
    let own = gateway.sign_in("ann").access_token;
    let forged = forged::tokens(&party.a, &party.b, &own);
    let mut failed = Vec::new();
    run(async {
        let mut http2 = Http2::connect(&gateway).await;
        for Forged { name, token, status, reason } in &forged {
            let value = format!("Bearer {token}");
            for path in ["/", "/optional", "/", "/optional"] {
                if let Some(was) = fault(&http2.get(path, &[&value]).await, *status, reason) {
                    failed.push(format!("{name}, {path}: expected {status} {reason}, was {was}"));
                }
            }
            if !backend.saw_nothing() {
                failed.push(format!("{name}: sent on"));
            }
            if http2.get("/public", &[&value]).await.status != 200 {
                failed.push(format!("{name}, public"));
            } else if let Some(seen) = told(&backend) {
                failed.push(format!("{name}, public: {seen}"));
            }
        }
        let reply = http2.get("/", &[&format!("Bearer {}", party.good())]).await;
        assert_eq!((reply.status, backend.next().one("x-user-id")), (200, "zzmark-user"));
    });
    println!("tokens over HTTP/2: {} cases, on three routes", forged.len());
    assert_none(&failed, forged.len());
}

struct Http2 {
    sender: hyper::client::conn::http2::SendRequest<Full<Bytes>>,
}

impl Http2 {
    async fn connect(gateway: &Gateway) -> Self {
        Self { sender: connect_http2(gateway.address, &gateway.place.path("cert.pem")).await }
    }

    /// With so many `authorization` fields.
    async fn get(&mut self, path: &str, values: &[&str]) -> Reply {
        let mut request = Request::get(format!("https://localhost{path}")).body(Full::default()).unwrap();
        for value in values {
            request.headers_mut().append("authorization", HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        let (parts, body) = self.sender.send_request(request).await.unwrap().into_parts();
        let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        Reply {
            status: parts.status.as_u16(),
            headers: parts.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: body.collect().await.unwrap().to_bytes().to_vec(),
            trailers: Vec::new(),
        }
    }
}

/// The issuer sends 64 MiB: what was never loaded stays unknown, is asked for no more than a megabyte, and stands in
/// for nothing.
#[test]
fn a_document_of_64_mib_is_cut_off_and_no_other_key_stands_in() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sent, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counted, closed) = (sent.clone(), ended.clone());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // The request is read, so that closing is no reset.
            let _some = stream.read(&mut [0; 4096]);
            let _head = stream.write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 67108864\r\n\r\n{\"keys\":[\"",
            );
            while stream.write_all(&[b'x'; 65_536]).is_ok() {
                counted.fetch_add(65_536, Ordering::SeqCst);
            }
            closed.fetch_add(1, Ordering::SeqCst);
        }
    });
    let (party, backend) = (Party::new(address), Backend::start());
    let gateway = party.start(&backend);
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while ended.load(Ordering::SeqCst) == 0 && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(ended.load(Ordering::SeqCst) > 0, "still reading");
    // What the two sockets hold comes on top of the megabyte.
    assert!(sent.load(Ordering::SeqCst) < 32 << 20, "{}", sent.load(Ordering::SeqCst));
    let away = party.a.claims(|c| c["iss"] = json!("https://away.test"));
    for token in [party.a.token(party.a.header(), &away), party.b.token(r#"{"alg":"ES256"}"#, &away)] {
        let reply = gateway.connect().ask(get("/", Some(&token)));
        assert_eq!(reply.refusal(), (503, "keys_unavailable".to_owned()));
    }
    assert!(backend.saw_nothing());
    assert_eq!(gateway.connect().ask(get("/", Some(&party.good()))).status, 200);
}

/// Not in events at their most talkative, not in the access log, not in metrics.
#[test]
fn nothing_that_a_forger_writes_gets_into_a_log() {
    let (party, backend) = (Party::new(nowhere()), Backend::start());
    let text = party.toml.text(&[backend.address]).replace("access = \"off\"", "access = \"all\"\nlevel = \"debug\"");
    // It is not ready before the keys of all its issuers were loaded once.
    let text = text.split("[[trusted_issuer]]\nissuer = \"https://away.test\"").next().unwrap();
    let process = Process::start_with(&party.place, text);
    let (own, _) = process.sign_in("ann");
    let forged = forged::tokens(&party.a, &party.b, &own);
    let mut client = process.connect();
    for Forged { name, token, .. } in &forged {
        assert!(client.ask(get("/", Some(token))).status >= 401, "{name}");
    }
    let metrics = Client::plain(process.admin).ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").text();
    assert!(metrics.contains("bad_signature"), "{metrics}");
    let place = party.place.clone();
    drop(client);
    process.stop();
    let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
    let outputs = [("events", read("log")), ("access log", read("access")), ("metrics", metrics)];
    assert!(outputs[1].1.matches("bad_signature").count() >= 10, "the access log was on");
    let mut failed = Vec::new();
    for (output, text) in &outputs {
        if text.contains(MARK) {
            failed.push(format!("{output}: {MARK}"));
        }
        for Forged { name, token, .. } in forged.iter().filter(|forged| forged.token.len() > 20) {
            if text.contains(token.as_str()) || token.split('.').any(|part| part.len() > 20 && text.contains(part)) {
                failed.push(format!("{output}: {name}"));
            }
        }
    }
    assert_none(&failed, forged.len());
}
