use std::collections::VecDeque;
use std::sync::Mutex;

use jsonwebtoken::Algorithm;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::super::TokenError;
use super::super::testing::{NOW_S, TestKey, jwks, now};
use super::super::verify::IssuerPolicy;
use super::*;

const ISSUER: IssuerIndex = IssuerIndex(1);

/// A server that gives each request the next of its answers, and the last one for ever.
struct Server {
    uri: Uri,
    answers: Arc<Mutex<VecDeque<Vec<u8>>>>,
    /// One message for each request that was read.
    requests: mpsc::UnboundedReceiver<String>,
    task: JoinHandle<()>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    async fn start(answers: impl IntoIterator<Item = Vec<u8>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/jwks.json", listener.local_addr().unwrap()).parse().unwrap();
        let answers = Arc::new(Mutex::new(VecDeque::from_iter(answers)));
        let (sender, requests) = mpsc::unbounded_channel();
        let script = Arc::clone(&answers);
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let Some(request) = read_head(&mut stream).await else { continue };
                let answer = {
                    let mut script = script.lock().unwrap();
                    if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
                };
                sender.send(request).ok();
                match answer {
                    Some(answer) => drop(stream.write_all(&answer).await),
                    // Holds the connection open and says nothing.
                    None => drop(tokio::spawn(async move { read_head(&mut stream).await })),
                }
            }
        });
        Self { uri, answers, requests, task }
    }

    fn then(&self, answer: Vec<u8>) {
        *self.answers.lock().unwrap() = VecDeque::from([answer]);
    }

    async fn load(&self) -> Result<Vec<u8>, JwksError> {
        self.loader().load().await
    }

    fn loader(&self) -> Loader {
        Loader::new(&JwksSource::Url(self.uri.clone()), None).unwrap()
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    String::from_utf8(head).ok()
}

fn answer(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()).into_bytes()
}

fn key_document(seeds: &[u8]) -> String {
    let keys: Vec<String> = seeds.iter().map(|&seed| TestKey::new(seed).jwk()).collect();
    jwks(&keys.iter().map(String::as_str).collect::<Vec<_>>())
}

fn config(jwks: JwksSource) -> TrustedIssuer {
    TrustedIssuer {
        issuer: "https://id.example.com".into(),
        audience: vec!["app".into()],
        jwks,
        algorithms: vec![Algorithm::ES256],
        session_claim: "sid".into(),
        max_token_lifetime: Duration::from_secs(86_400),
        refresh_interval: Duration::from_secs(3600),
        cooldown: Duration::from_secs(3600),
    }
}

fn verifier() -> Arc<Verifier> {
    let config = config(JwksSource::File(PathBuf::new()));
    let policy = IssuerPolicy {
        issuer: config.issuer,
        audience: config.audience,
        algorithms: config.algorithms,
        session_claim: config.session_claim,
        max_token_lifetime: None,
    };
    Arc::new(Verifier::new(None, vec![policy], 8192))
}

fn token(seed: u8) -> String {
    let key = TestKey::new(seed);
    let claims = format!(
        r#"{{"iss":"https://id.example.com","aud":"app","sub":"u","sid":"s","iat":{NOW_S},"exp":{}}}"#,
        NOW_S + 60
    );
    key.token(key.header(), claims)
}

/// The task, running until this is dropped or stopped.
struct Running {
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Running {
    fn start(config: TrustedIssuer, roots: Option<RootCertStore>, verifier: &Arc<Verifier>) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let verifier = Arc::clone(verifier);
        let shutdown = async move { drop(stopped.await) };
        let task = tokio::spawn(keep_fresh_with_roots(ISSUER, config, roots, verifier, shutdown));
        Self { stop: Some(stop), task }
    }

    async fn stop(mut self) {
        drop(self.stop.take());
        self.task.await.unwrap();
    }
}

/// Waits until the task has noted what it waits for.
async fn until(verifier: &Verifier, what: impl Fn(&Verifier) -> bool) {
    let waiting = async {
        while !what(verifier) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(Duration::from_secs(20), waiting).await.expect("what the test waits for happens");
}

#[tokio::test]
async fn a_key_document_is_fetched_whole() {
    let document = key_document(&[1]);
    let mut server = Server::start([answer("200 OK", &document)]).await;
    assert_eq!(server.load().await.unwrap(), document.as_bytes());
    let request = server.requests.recv().await.unwrap();
    assert!(request.starts_with("GET /jwks.json HTTP/1.1\r\n"), "{request}");
    let config = config(JwksSource::Url(server.uri.clone()));
    assert_eq!(load_once(&config).await.unwrap(), document.as_bytes());
}

#[tokio::test]
async fn only_a_200_is_a_key_document() {
    let document = key_document(&[1]);
    for status in ["500 Internal Server Error", "404 Not Found", "204 No Content", "206 Partial Content", "503 Busy"] {
        let server = Server::start([answer(status, if status.starts_with("204") { "" } else { &document })]).await;
        let error = server.load().await.unwrap_err();
        assert!(matches!(error, JwksError::Status { .. }), "{status}: {error:?}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let mut target = Server::start([answer("200 OK", &key_document(&[1]))]).await;
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", target.uri);
    let server = Server::start([redirect.into_bytes()]).await;
    let error = server.load().await.unwrap_err();
    assert!(matches!(error, JwksError::Status { status: StatusCode::FOUND, .. }), "{error:?}");
    assert!(target.requests.try_recv().is_err());
}

#[tokio::test]
async fn a_huge_document_is_cut_off() {
    let declared = answer("200 OK", &"x".repeat(MAX_JWKS_BYTES + 1));
    let endless = [&b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"[..], &vec![b'x'; 2 * MAX_JWKS_BYTES]].concat();
    for huge in [declared, endless] {
        let server = Server::start([huge]).await;
        assert!(matches!(server.load().await, Err(JwksError::TooLarge)));
    }
    let server = Server::start([answer("200 OK", &"x".repeat(MAX_JWKS_BYTES))]).await;
    assert_eq!(server.load().await.unwrap().len(), MAX_JWKS_BYTES);
}

#[tokio::test]
async fn a_broken_or_slow_answer_is_an_error_in_time() {
    let server = Server::start([b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}".to_vec()]).await;
    assert!(matches!(server.load().await, Err(JwksError::Request { .. })));
    let server = Server::start([b"SSH-2.0-x\r\n\r\n".to_vec()]).await;
    assert!(matches!(server.load().await, Err(JwksError::Request { .. })));
    let server = Server::start([]).await;
    let loader = Loader { deadline: Duration::from_millis(50), ..server.loader() };
    assert!(matches!(loader.load().await, Err(JwksError::TimedOut(_))));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = JwksSource::Url(format!("http://{nobody}/").parse().unwrap());
    assert!(matches!(Loader::new(&gone, None).unwrap().load().await, Err(JwksError::Request { .. })));
}

#[tokio::test]
async fn keys_come_once_the_issuer_answers() {
    let document = key_document(&[1]);
    let mut server = Server::start([
        answer("500 Internal Server Error", ""),
        answer("200 OK", "{\"keys\":[]}"),
        answer("200 OK", &document),
    ])
    .await;
    let verifier = verifier();
    // Its retries start at the interval, which is shorter than a second here.
    let config =
        TrustedIssuer { refresh_interval: Duration::from_millis(20), ..config(JwksSource::Url(server.uri.clone())) };
    assert_eq!(verifier.verify(&token(1), now()).unwrap_err(), TokenError::KeysUnavailable);
    let running = Running::start(config, None, &verifier);
    server.requests.recv().await.unwrap();
    server.requests.recv().await.unwrap();
    assert_eq!(verifier.verify(&token(1), now()).unwrap_err(), TokenError::KeysUnavailable);
    until(&verifier, |v| v.jwks_status(ISSUER).last_success.is_some()).await;
    assert!(verifier.verify(&token(1), now()).is_ok());
    let status = verifier.jwks_status(ISSUER);
    assert_eq!((status.consecutive_failures, status.keys), (0, 1));

    // Ten times the same document is no change.
    let generation = verifier.generation();
    for _ in 0..10 {
        server.requests.recv().await.unwrap();
    }
    assert_eq!(verifier.generation(), generation);
    running.stop().await;
}

#[tokio::test]
async fn known_keys_outlive_every_kind_of_failure() {
    let server = Server::start([answer("200 OK", &key_document(&[1]))]).await;
    let verifier = verifier();
    let config =
        TrustedIssuer { refresh_interval: Duration::from_millis(10), ..config(JwksSource::Url(server.uri.clone())) };
    let running = Running::start(config, None, &verifier);
    until(&verifier, |v| v.jwks_status(ISSUER).keys == 1).await;
    for bad in [
        answer("500 Internal Server Error", ""),
        answer("200 OK", ""),
        answer("200 OK", "<html>"),
        answer("200 OK", "{\"keys\":[]}"),
        answer("200 OK", "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AA\"}]}"),
        answer("200 OK", &"x".repeat(MAX_JWKS_BYTES + 1)),
        b"garbage\r\n\r\n".to_vec(),
    ] {
        server.then(answer("200 OK", &key_document(&[1])));
        until(&verifier, |v| v.jwks_status(ISSUER).consecutive_failures == 0).await;
        server.then(bad);
        until(&verifier, |v| v.jwks_status(ISSUER).consecutive_failures >= 2).await;
        assert!(verifier.verify(&token(1), now()).is_ok());
    }
    server.then(answer("200 OK", &key_document(&[2])));
    until(&verifier, |v| v.verify(&token(2), now()).is_ok()).await;
    assert_eq!(
        verifier.verify(&token(1), now()).unwrap_err(),
        TokenError::UnknownKey,
        "a key that was dropped is gone"
    );
    running.stop().await;
}

#[tokio::test]
async fn an_unknown_kid_brings_its_key_after_the_cooldown() {
    let mut server = Server::start([answer("200 OK", &key_document(&[1]))]).await;
    let verifier = verifier();
    let config = TrustedIssuer { cooldown: Duration::from_millis(300), ..config(JwksSource::Url(server.uri.clone())) };
    let started = std::time::Instant::now();
    let running = Running::start(config, None, &verifier);
    server.requests.recv().await.unwrap();
    until(&verifier, |v| v.jwks_status(ISSUER).keys == 1).await;
    server.then(answer("200 OK", &key_document(&[1, 2])));
    for _ in 0..1000 {
        assert_eq!(verifier.verify(&token(2), now()).unwrap_err(), TokenError::UnknownKey);
    }
    server.requests.recv().await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(300));
    // Not by verifying, which would ask again while the fetch is under way.
    until(&verifier, |v| v.jwks_status(ISSUER).keys == 2).await;
    assert!(verifier.verify(&token(2), now()).is_ok());
    let another = timeout(Duration::from_millis(700), server.requests.recv()).await;
    assert!(another.is_err(), "a thousand tokens were one fetch");
    running.stop().await;
}

#[tokio::test]
async fn unknown_kids_do_not_get_past_the_cooldown_while_fetches_fail() {
    let mut server =
        Server::start([answer("200 OK", &key_document(&[1])), answer("500 Internal Server Error", "")]).await;
    let verifier = verifier();
    let config = TrustedIssuer { cooldown: Duration::from_millis(150), ..config(JwksSource::Url(server.uri.clone())) };
    let running = Running::start(config, None, &verifier);
    until(&verifier, |v| v.jwks_status(ISSUER).keys == 1).await;
    server.requests.recv().await.unwrap();
    let started = std::time::Instant::now();
    let mut fetches = 0;
    while started.elapsed() < Duration::from_millis(700) {
        assert_eq!(verifier.verify(&token(2), now()).unwrap_err(), TokenError::UnknownKey);
        fetches += usize::from(server.requests.try_recv().is_ok());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!((1..=5).contains(&fetches), "{fetches} fetches in 700 ms with a cooldown of 150 ms");
    assert!(verifier.verify(&token(1), now()).is_ok());
    running.stop().await;
}

#[tokio::test]
async fn a_stop_does_not_wait_for_a_silent_issuer() {
    let mut server = Server::start([]).await;
    let verifier = verifier();
    let running = Running::start(config(JwksSource::Url(server.uri.clone())), None, &verifier);
    server.requests.recv().await.unwrap();
    timeout(Duration::from_secs(5), running.stop()).await.expect("it stops before the fetch's deadline");
}

#[tokio::test]
async fn a_key_file_is_read_again_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    std::fs::write(&path, key_document(&[1])).unwrap();
    let verifier = verifier();
    let config =
        TrustedIssuer { refresh_interval: Duration::from_millis(10), ..config(JwksSource::File(path.clone())) };
    let running = Running::start(config.clone(), None, &verifier);
    until(&verifier, |v| v.verify(&token(1), now()).is_ok()).await;
    std::fs::write(&path, key_document(&[2])).unwrap();
    until(&verifier, |v| v.verify(&token(2), now()).is_ok()).await;
    std::fs::remove_file(&path).unwrap();
    until(&verifier, |v| v.jwks_status(ISSUER).consecutive_failures > 1).await;
    assert!(verifier.verify(&token(2), now()).is_ok());
    running.stop().await;

    assert!(matches!(load_once(&config).await, Err(JwksError::File { .. })));
    std::fs::create_dir(&path).unwrap();
    assert!(matches!(load_once(&config).await, Err(JwksError::File { .. })));
    std::fs::remove_dir(&path).unwrap();
    std::fs::write(&path, vec![b' '; MAX_JWKS_BYTES + 1]).unwrap();
    assert!(matches!(load_once(&config).await, Err(JwksError::TooLarge)));
}

#[tokio::test]
async fn over_tls_the_issuers_certificate_must_be_trusted() {
    let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::Pkcs8(certified.signing_key.serialize_der().into());
    let server_config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certified.cert.der().clone()], key)
            .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server_config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            stream.write_all(&answer("200 OK", &key_document(&[1]))).await.ok();
            stream.shutdown().await.ok();
        }
    });
    let mut roots = RootCertStore::empty();
    roots.add(certified.cert.der().clone()).unwrap();
    let uri = |host: &str| JwksSource::Url(format!("https://{host}:{port}/").parse().unwrap());

    let trusted = Loader::new(&uri("localhost"), Some(roots.clone())).unwrap().load().await;
    assert_eq!(trusted.unwrap(), key_document(&[1]).as_bytes());
    let other_name = Loader::new(&uri("127.0.0.1"), Some(roots.clone())).unwrap().load().await;
    assert!(matches!(other_name, Err(JwksError::Request { .. })), "{other_name:?}");
    let stranger = Loader::new(&uri("localhost"), Some(RootCertStore::empty())).unwrap().load().await;
    assert!(matches!(stranger, Err(JwksError::Request { .. })), "{stranger:?}");

    let verifier = verifier();
    let running = Running::start(config(uri("localhost")), Some(roots), &verifier);
    until(&verifier, |v| v.verify(&token(1), now()).is_ok()).await;
    running.stop().await;
    server.abort();
}

#[test]
fn retries_grow_to_a_bound_and_jitter_never_lengthens() {
    let pauses: Vec<u64> = (0..8).map(|failures| retry_after(failures).as_secs()).collect();
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    assert_eq!(retry_after(u32::MAX), LONGEST_RETRY);
    for _ in 0..1000 {
        let pause = jittered(Duration::from_secs(100));
        assert!((Duration::from_secs(80)..=Duration::from_secs(100)).contains(&pause), "{pause:?}");
    }
}
