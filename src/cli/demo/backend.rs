//! The sample backend: answers every request with what it was sent.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// An HTTP/1.1 server on a free loopback port and a thread of its own. Ends when dropped.
#[derive(Debug)]
pub(super) struct Backend {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Backend {
    /// # Errors
    /// When the system gives no port or thread.
    pub(super) fn start() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("backend".into()).spawn(move || {
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, stop: Some(stop), thread: Some(thread) })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there was already printed by its thread.
            drop(thread.join());
        }
    }
}

async fn accept(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service_fn(|request| async move { answer(&request) }));
        // The gateway is the only client and closes as it likes.
        tokio::spawn(async move { drop(connection.await) });
    }
}

fn answer(request: &Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let seen = json!({
        "method": request.method().as_str(),
        "path": request.uri().to_string(),
        "headers": fields(request.headers()),
    });
    let mut response = Response::new(Full::from(format!("{seen:#}\n")));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}

/// One string for each field, an array for one that came several times.
fn fields(headers: &HeaderMap) -> Map<String, Value> {
    let text = |value: &HeaderValue| Value::from(String::from_utf8_lossy(value.as_bytes()));
    let field = |name| {
        let mut values: Vec<Value> = headers.get_all(name).iter().map(text).collect();
        if values.len() == 1 { values.swap_remove(0) } else { Value::from(values) }
    };
    headers.keys().map(|name| (name.to_string(), field(name))).collect()
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    #[test]
    fn it_answers_with_what_it_was_sent() {
        let backend = Backend::start().unwrap();
        let mut stream = std::net::TcpStream::connect(backend.address()).unwrap();
        let request = "GET /x?y=1 HTTP/1.1\r\nhost: h\r\na: 1\r\na: 2\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(body.ends_with("}\n"), "a shell prompt comes next");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(
            body,
            json!({"method": "GET", "path": "/x?y=1", "headers": {"host": "h", "a": ["1", "2"], "connection": "close"}})
        );
    }
}
