//! gRPC clients are told in their own terms. Whole calls, with clients and servers that others wrote, are in
//! `tests/backends`.

use bytes::Bytes;
use http::Request;
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full};

use crate::support::{Answer, Backend, Gateway, Toml, connect_http2};

type Fields = Vec<(String, String)>;

/// Status, header fields and trailers of a call.
fn call(gateway: &Gateway, path: &str, more: &[(&str, &str)]) -> (u16, Fields, Fields) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let mut sender = connect_http2(gateway.address, &gateway.place.path("cert.pem")).await;
        let mut request = Request::post(format!("https://localhost{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from_static(b"\0\0\0\0\0"))).unwrap();
        let (parts, body) = sender.send_request(request).await.unwrap().into_parts();
        let fields = |map: &http::HeaderMap| {
            map.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect::<Fields>()
        };
        let ended = body.is_end_stream();
        let body = body.collect().await.unwrap();
        let trailers = body.trailers().map(fields).unwrap_or_default();
        assert!(body.to_bytes().is_empty());
        assert!(ended, "a refusal is its header alone");
        (parts.status.as_u16(), fields(&parts.headers), trailers)
    })
}

fn one<'a>(fields: &'a Fields, name: &str) -> &'a str {
    let found: Vec<_> = fields.iter().filter(|(one, _)| one == name).collect();
    assert_eq!(found.len(), 1, "{name}: {fields:?}");
    &found[0].1
}

#[test]
fn a_refused_call_has_a_grpc_status_and_the_reason() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::with(&Toml::default(), &[gone]);
    let pair = gateway.sign_in("ann");
    let bearer = format!("Bearer {}", &*pair.access_token);
    for (path, authorization, code, word) in [
        ("/a.B/C", None, "16", "missing_token"),
        ("/a.B/C", Some("Bearer x"), "16", "malformed_token"),
        ("/a.B/C", Some(&*bearer), "14", "upstream_unreachable"),
        ("/a//B", Some(&*bearer), "3", "ambiguous_path"),
    ] {
        let more: Vec<_> = authorization.iter().map(|value| ("authorization", *value)).collect();
        let (status, fields, _) = call(&gateway, path, &more);
        assert_eq!((status, one(&fields, "content-type")), (200, "application/grpc"), "{path}");
        assert_eq!((one(&fields, "grpc-status"), one(&fields, "grpc-message")), (code, word), "{path}");
        assert!(fields.iter().any(|(name, _)| name == "x-request-id"));
    }
}

#[test]
fn a_call_waits_no_longer_than_its_client() {
    let backend = Backend::answering(|_| Answer::Slowly(vec![(std::time::Duration::from_secs(20), Vec::new())]));
    let gateway = Gateway::start(&backend);
    let start = std::time::Instant::now();
    let (status, fields, _) = call(&gateway, "/public/a.B/C", &[("grpc-timeout", "300m")]);
    assert_eq!((status, one(&fields, "grpc-status"), one(&fields, "grpc-message")), (200, "4", "upstream_timeout"));
    assert!(start.elapsed() < std::time::Duration::from_secs(5), "{:?}", start.elapsed());
    assert_eq!(backend.next().one("grpc-timeout"), "300m");
}
