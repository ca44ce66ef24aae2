//! Thousands of targets over a few connections, and what came of each.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::corpus::Case;
use crate::support::{Answer, Backend, Client};

/// How many requests are sent before the first reply is read.
const PIPELINED: usize = 16;
/// How many requests of one HTTP/2 connection are open at once.
const STREAMS: usize = 32;
/// How long a reply may take before it counts as a hang.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a client was told.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Told {
    Status(u16),
    /// The connection, or the stream, ended without a reply.
    Closed,
    /// Nothing came, and nothing ended.
    Silence,
    /// Such a target cannot be sent with this protocol's library.
    Unsendable,
}

/// A request as it arrived behind the gateway.
#[derive(Clone, Debug)]
pub(super) struct Arrived {
    pub(super) line: String,
    /// Index of the route that let it pass.
    pub(super) route: usize,
}

/// A backend that writes down which case arrived how.
pub(super) struct Recorder {
    pub(super) backend: Backend,
    arrived: Arc<Mutex<HashMap<usize, Vec<Arrived>>>>,
}

impl Recorder {
    pub(super) fn start() -> Self {
        let arrived: Arc<Mutex<HashMap<usize, Vec<Arrived>>>> = Arc::default();
        let noted = arrived.clone();
        let backend = Backend::answering(move |seen| {
            let number = |name: &str| seen.one(name).parse::<usize>().expect("a number");
            let one = Arrived { line: seen.line.clone(), route: number("x-route") };
            noted.lock().expect("no panic").entry(number("x-case")).or_default().push(one);
            Answer::ok("")
        });
        Self { backend, arrived }
    }

    /// What arrived since the last time, by the number of the case.
    pub(super) fn take(&self) -> HashMap<usize, Vec<Arrived>> {
        while !self.backend.saw_nothing() {}
        std::mem::take(&mut *self.arrived.lock().expect("no panic"))
    }
}

fn head(number: usize, case: &Case, token: Option<&str>) -> Vec<u8> {
    let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
    let rest = format!(" HTTP/1.1\r\nHost: {}\r\nX-Case: {number}\r\n{token}\r\n", case.host);
    [b"GET ", &case.target[..], rest.as_bytes()].concat()
}

/// Sends `cases` over HTTP/1.1, many at once on one connection; what each was told, in their order.
///
/// A reply that ends its connection ends the requests behind it, too: these are sent again on the next.
pub(super) fn over_http1(address: SocketAddr, cases: &[(usize, &Case)], token: Option<&str>) -> Vec<Told> {
    let mut told = Vec::with_capacity(cases.len());
    let connect = || Client::try_plain(address, PATIENCE).expect("connected");
    let (mut client, mut alone) = (connect(), false);
    while told.len() < cases.len() {
        let most = if alone { 1 } else { PIPELINED };
        let batch = &cases[told.len()..cases.len().min(told.len() + most)];
        let bytes: Vec<u8> = batch.iter().flat_map(|(number, case)| head(*number, case, token)).collect();
        let sent = client.try_send(&bytes);
        let before = told.len();
        let mut failed = sent.err().map(|error| error.kind());
        if failed.is_none() {
            for _ in batch {
                match client.try_reply(false) {
                    Ok(reply) => {
                        told.push(Told::Status(reply.status));
                        if reply.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                            failed = Some(std::io::ErrorKind::UnexpectedEof);
                            break;
                        }
                    }
                    Err(error) => {
                        failed = Some(error.kind());
                        break;
                    }
                }
            }
        }
        // Not even the first of several: whether it was that one is seen when it is sent by itself.
        let nothing = told.len() == before;
        if let Some(kind) = failed {
            if nothing && alone {
                let silent = matches!(kind, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                told.push(if silent { Told::Silence } else { Told::Closed });
            }
            client = connect();
        }
        alone = failed.is_some() && nothing && !alone;
    }
    told
}

/// Sends `cases` over HTTP/2, by prior knowledge; what each was told, in their order.
pub(super) fn over_http2(address: SocketAddr, cases: &[(usize, &Case)], token: Option<&str>) -> Vec<Told> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut told = Vec::with_capacity(cases.len());
        let mut connection = None;
        for group in cases.chunks(STREAMS) {
            let mut waiting = Vec::new();
            for (number, case) in group {
                let Some(request) = request(*number, case, token) else {
                    waiting.push(None);
                    continue;
                };
                // A connection that ended with an earlier group is opened anew.
                let sender = match connection.take() {
                    Some(sender) => sender,
                    None => open(address).await,
                };
                let mut sender: h2::client::SendRequest<bytes::Bytes> = match sender.clone().ready().await {
                    Ok(sender) => sender,
                    Err(_) => open(address).await,
                };
                let answer = sender.send_request(request, true).map(|(answer, _)| answer);
                connection = Some(sender);
                waiting.push(Some(answer));
            }
            for answer in waiting {
                told.push(match answer {
                    None => Told::Unsendable,
                    Some(Err(_)) => Told::Closed,
                    Some(Ok(answer)) => match tokio::time::timeout(PATIENCE, answer).await {
                        Ok(Ok(response)) => Told::Status(response.status().as_u16()),
                        Ok(Err(_)) => Told::Closed,
                        Err(_) => Told::Silence,
                    },
                });
            }
        }
        told
    })
}

async fn open(address: SocketAddr) -> h2::client::SendRequest<bytes::Bytes> {
    let socket = tokio::net::TcpStream::connect(address).await.expect("connected");
    socket.set_nodelay(true).expect("set");
    let (sender, connection) = h2::client::handshake(socket).await.expect("settings were exchanged");
    tokio::spawn(connection);
    sender
}

/// The request whose `:path` is the case's target, as far as the library lets it be said: the gateway's reads `:path` by
/// the same rules.
fn request(number: usize, case: &Case, token: Option<&str>) -> Option<http::Request<()>> {
    if case.target.first() != Some(&b'/') || case.target.contains(&b'#') {
        return None;
    }
    let target = http::uri::PathAndQuery::try_from(&case.target[..]).ok()?;
    let uri = http::Uri::builder().scheme("http").authority(&*case.host).path_and_query(target).build().ok()?;
    let mut request = http::Request::get(uri).header("x-case", number);
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    request.body(()).ok()
}
