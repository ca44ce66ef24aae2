//! The same over HTTP/2, with a client that others wrote.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

use crate::support::{Backend, Gateway, connect_http2};

type Body = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

struct Http2 {
    sender: hyper::client::conn::http2::SendRequest<Body>,
}

impl Http2 {
    async fn connect(gateway: &Gateway) -> Self {
        Self::to(gateway.address, &gateway.place.path("cert.pem")).await
    }

    async fn to(address: SocketAddr, root: &std::path::Path) -> Self {
        let sender = connect_http2(address, root).await;
        Self { sender }
    }

    async fn ask(&mut self, request: Request<Body>) -> (Response<()>, Bytes) {
        let (parts, body) = self.sender.send_request(request).await.unwrap().into_parts();
        (Response::from_parts(parts, ()), body.collect().await.unwrap().to_bytes())
    }
}

fn empty() -> Body {
    Full::default().boxed()
}

fn run<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

#[test]
fn a_request_over_http2_reaches_an_http1_upstream_as_one() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let pair = gateway.sign_in("ann");
    run(async {
        let mut client = Http2::connect(&gateway).await;
        let request = Request::post("https://Shop.example/x?y=1")
            .header("authorization", format!("Bearer {}", &*pair.access_token))
            .header("x_user_id", "forged")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .header("x-user-id", "forged")
            .body(Full::new(Bytes::from_static(b"body")).boxed())
            .unwrap();
        let (response, body) = client.ask(request).await;
        assert_eq!((response.status(), &body[..]), (StatusCode::OK, &b"hello"[..]));
        let seen = backend.next();
        assert_eq!(
            (seen.line.as_str(), seen.one("host"), seen.one("x-user-id")),
            ("POST /x?y=1 HTTP/1.1", "Shop.example", "ann")
        );
        assert_eq!((seen.one("via"), seen.one("content-length"), &seen.body[..]), ("2 portcullis", "4", &b"body"[..]));
        assert!(seen.all("x_user_id").is_empty());
        assert_eq!(seen.one("cookie"), "a=1; b=2", "one field, as HTTP/1.1 has it");

        let (refused, _) = client.ask(Request::get("https://localhost/").body(empty()).unwrap()).await;
        assert_eq!(
            (refused.status().as_u16(), &refused.headers()["www-authenticate"]),
            (401, &http::HeaderValue::from_static("Bearer"))
        );
        let other_host = Request::get("https://localhost/public").header("host", "other").body(empty()).unwrap();
        assert_eq!(client.ask(other_host).await.0.status(), 400);
    });
}

#[test]
fn many_streams_at_once_and_a_body_of_unknown_length() {
    let backend = Backend::answering(|seen| crate::support::Answer::ok(&String::from_utf8_lossy(&seen.body)));
    let gateway = Gateway::start(&backend);
    run(async {
        let client = Http2::connect(&gateway).await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..100 {
            let mut sender = client.sender.clone();
            tasks.spawn(async move {
                let pieces = (0..5).map(move |piece| Ok(Frame::data(Bytes::from(format!("{number}-{piece} ")))));
                let stream = StreamBody::new(futures_lite(pieces));
                let request = Request::post("https://localhost/public").body(BodyExt::boxed(stream)).unwrap();
                let response = sender.send_request(request).await.unwrap();
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body, (0..5).map(|piece| format!("{number}-{piece} ")).collect::<String>());
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    });
    assert_eq!(backend.next().one("transfer-encoding"), "chunked");
}

/// An iterator as a stream.
fn futures_lite<T>(
    items: impl Iterator<Item = T> + Send + Sync + 'static,
) -> impl futures_core::Stream<Item = T> + Send + Sync {
    struct Items<I>(I);
    impl<I: Iterator + Unpin> futures_core::Stream for Items<I> {
        type Item = I::Item;
        fn poll_next(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<I::Item>> {
            std::task::Poll::Ready(self.0.next())
        }
    }
    Items(Box::new(items))
}

#[test]
fn a_signed_out_session_is_refused_on_an_open_http2_connection() {
    let backend = Backend::start();
    let gateway = Gateway::start(&backend);
    let pair = gateway.sign_in("ann");
    run(async {
        let mut client = Http2::connect(&gateway).await;
        let bearer = format!("Bearer {}", &*pair.access_token);
        let get = || Request::get("https://localhost/").header("authorization", &bearer).body(empty()).unwrap();
        assert_eq!(client.ask(get()).await.0.status(), 200);
        let logout =
            Request::post("https://localhost/auth/logout").header("authorization", &bearer).body(empty()).unwrap();
        assert_eq!(client.ask(logout).await.0.status(), 204);
        let (response, body) = client.ask(get()).await;
        assert_eq!(response.status(), 401);
        assert!(String::from_utf8_lossy(&body).contains("\"reason\":\"signed_out\""));
    });
}
