//! HTTP/2 without TLS, by prior knowledge, with a client that others wrote; and HTTP/1.1 on the same listener.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::HeaderMap;
use http::{Request, Response};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;

use crate::support::{Backend, Gateway, Toml};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// An empty SETTINGS frame.
const SETTINGS: &[u8] = b"\0\0\0\x04\0\0\0\0\0";
const GET: &str = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";

type Body = BoxBody<Bytes, std::convert::Infallible>;
type Sender = hyper::client::conn::http2::SendRequest<Body>;

/// Header, body and trailers of a response.
type Whole = (Response<()>, Bytes, Option<HeaderMap>);

/// A client that sends `first` before everything else.
async fn connect(address: SocketAddr, first: &[u8]) -> Sender {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    stream.write_all(first).await.unwrap();
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

async fn ask(sender: &mut Sender, request: Request<Body>) -> Whole {
    let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    (Response::from_parts(parts, ()), body.to_bytes(), trailers)
}

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Full::default().boxed()).unwrap()
}

fn in_frames(address: SocketAddr, path: &str, method: &str, frames: Vec<Frame<Bytes>>) -> Whole {
    struct Frames(std::vec::IntoIter<Frame<Bytes>>);
    impl futures_core::Stream for Frames {
        type Item = Result<Frame<Bytes>, std::convert::Infallible>;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Self::Item>> {
            std::task::Poll::Ready(self.0.next().map(Ok))
        }
    }
    let trailer = if frames.len() == 2 { "x-check, x-user-id, x_user_id" } else { "" };
    run(async {
        let mut client = connect(address, b"").await;
        let body = match frames.is_empty() {
            true => Full::default().boxed(),
            false => BodyExt::boxed(StreamBody::new(Frames(frames.into_iter()))),
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("http://a{path}"))
            .header("te", "trailers")
            .header("trailer", trailer);
        ask(&mut client, request.body(body).unwrap()).await
    })
}

/// The answer to a request without a body.
pub(crate) fn exchange(address: SocketAddr, path: &str, method: &str) -> Whole {
    in_frames(address, path, method, Vec::new())
}

/// The answer to a body in `count` frames of one byte.
pub(crate) fn exchange_pieces(address: SocketAddr, path: &str, count: usize) -> Whole {
    in_frames(address, path, "POST", (0..count).map(|_| Frame::data(Bytes::from_static(b"y"))).collect())
}

/// The answer to a body with trailers.
pub(crate) fn exchange_trailers(address: SocketAddr, path: &str, trailers: &[(&'static str, &'static str)]) -> Whole {
    let trailers = trailers
        .iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)));
    let frames = vec![Frame::data(Bytes::from_static(b"abc")), Frame::trailers(trailers.collect())];
    in_frames(address, path, "POST", frames)
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn plain(limits: &str) -> Toml {
    Toml { server: "workers = 1\n".into(), tls: false, limits: limits.into(), ..Toml::default() }
}

#[test]
fn a_client_that_knows_speaks_http2_at_once() {
    let backend = Backend::start();
    let gateway = Gateway::with(&plain(""), &[backend.address]);
    let pair = gateway.sign_in("ann");
    run(async {
        let mut client = connect(gateway.address, b"").await;
        let mut request =
            Request::post("http://shop.example/x?y=1").body(Full::new(Bytes::from_static(b"body")).boxed()).unwrap();
        let bearer = format!("Bearer {}", &*pair.access_token);
        request.headers_mut().insert("authorization", bearer.parse().unwrap());
        let (response, body, _) = ask(&mut client, request).await;
        assert_eq!(
            (response.version(), response.status().as_u16(), &body[..]),
            (http::Version::HTTP_2, 200, &b"hello"[..])
        );
        let seen = backend.next();
        assert_eq!(
            (seen.line.as_str(), seen.one("x-user-id"), seen.one("via")),
            ("POST /x?y=1 HTTP/1.1", "ann", "2 portcullis")
        );
        assert_eq!((seen.one("x-forwarded-proto"), &seen.body[..]), ("http", &b"body"[..]));
        assert_eq!(ask(&mut client, get("http://shop.example/x")).await.0.status(), 401);
    });
    // HTTP/1.1 stays what it was there, also in the smallest pieces.
    let mut client = gateway.connect();
    for byte in GET.bytes() {
        client.send([byte]);
    }
    assert_eq!(client.reply().status, 200);
    assert_eq!(client.ask(format!("{GET}{GET}")).status, 200);
    assert_eq!(client.reply().status, 200);
}

#[test]
fn a_preface_in_pieces_is_waited_for() {
    let backend = Backend::start();
    let gateway = Gateway::with(&plain(""), &[backend.address]);
    let mut client = gateway.connect();
    for byte in PREFACE.iter().chain(SETTINGS) {
        client.send([*byte]);
        std::thread::sleep(Duration::from_millis(1));
    }
    // The gateway's SETTINGS, then its acknowledgement of ours.
    let came = client.until(b"\0\0\0\x04\x01\0\0\0\0").unwrap();
    assert_eq!(came[3], 4, "{came:?}");
}

#[test]
fn whatever_differs_from_the_preface_is_http1_at_once() {
    let backend = Backend::start();
    let gateway = Gateway::with(&plain(""), &[backend.address]);
    let start = Instant::now();
    for line in ["PRI * HTTP/1.1", "P / HTTP/1.1", "PRI /public HTTP/1.1", "PUT /public HTTP/1.1"] {
        let reply = gateway.connect().ask(format!("{line}\r\nHost: a\r\nContent-Length: 0\r\n\r\n"));
        let expected = match line {
            "PRI * HTTP/1.1" => 400,
            "P / HTTP/1.1" => 401,
            _ => 200,
        };
        assert_eq!(reply.status, expected, "{line}");
    }
    let mut client = gateway.connect();
    client.send("PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n");
    let answer = client.drained().unwrap();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 "), "{}", String::from_utf8_lossy(&answer));
    assert!(start.elapsed() < Duration::from_secs(5), "nothing was waited for");
}

#[test]
fn half_a_preface_is_not_waited_for_longer_than_a_header() {
    let backend = Backend::start();
    let gateway = Gateway::with(&plain("header_timeout = \"300ms\"\n"), &[backend.address]);
    let start = Instant::now();
    let mut client = gateway.connect();
    client.send(&PREFACE[..10]);
    assert_eq!(client.drained(), Some(Vec::new()));
    assert!((Duration::from_millis(290)..Duration::from_secs(3)).contains(&start.elapsed()));
}

#[test]
fn an_upgrade_to_h2c_is_not_taken_and_not_forwarded() {
    let backend = Backend::start();
    let gateway = Gateway::with(&plain(""), &[backend.address]);
    let upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    let mut client = gateway.connect();
    let reply = client.ask(format!("GET /public HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n"));
    assert_eq!((reply.status, reply.text().as_str()), (200, "hello"));
    let seen = backend.next();
    assert!(seen.all("upgrade").is_empty() && seen.all("http2-settings").is_empty());
    assert_eq!(client.ask(GET).status, 200, "still HTTP/1.1");
}

#[test]
fn http2_is_spoken_behind_a_balancer_and_to_be_redirected() {
    let backend = Backend::start();
    let server = "workers = 1\n\
        [[server.listener]]\naddress = \"127.0.0.1:0\"\ntls = false\nproxy_protocol = [\"127.0.0.1\"]\n\
        [[server.listener]]\naddress = \"127.0.0.1:0\"\nredirect_to_https = true\n";
    let gateway = Gateway::with(&Toml { server: server.into(), ..Toml::default() }, &[backend.address]);
    let [_, balanced, redirecting] = gateway.app().listening()[..] else { panic!("three listeners") };
    run(async {
        let mut client = connect(balanced, b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n").await;
        assert_eq!(ask(&mut client, get("http://a/public")).await.0.status(), 200);
        assert_eq!(backend.next().one("x-forwarded-for"), "2001:db8::7");
        let mut client = connect(redirecting, b"").await;
        let (response, _, _) = ask(&mut client, get("http://shop.example:80/x?y")).await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["location"]),
            (308, &http::HeaderValue::from_static("https://shop.example/x?y"))
        );
    });
}

#[test]
fn a_silent_connection_does_not_hold_up_a_stop() {
    let backend = Backend::start();
    let gateway = Gateway::with(&plain(""), &[backend.address]);
    let mut silent = gateway.connect();
    let mut half = gateway.connect();
    half.send("PRI");
    let start = Instant::now();
    while gateway.app().gateway().metrics.open_connections() < 2 {
        assert!(start.elapsed() < Duration::from_secs(5));
    }
    drop(gateway);
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(silent.drained(), Some(Vec::new()));
    assert!(half.drained().is_some());
}
