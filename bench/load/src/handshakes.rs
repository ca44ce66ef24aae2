//! TLS 1.3 handshakes and nothing else: connect, agree, take the tickets, close.

use std::io::Read;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup};

use crate::Fault;
use crate::latency::count;
use crate::tickets::Tickets;
use crate::transport::{client, connect_from, shake_hands};

/// For a server's next word: one that says none, such as no ticket before a request, is a fault.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whom to shake hands with, over how many connections at once, how long, whether the sessions are resumed, and whether
/// X25519 alone is offered for the exchange of keys or all that the library has.
#[derive(serde::Deserialize)]
pub(crate) struct Job {
    address: SocketAddr,
    connections: u8,
    seconds: f64,
    resumed: bool,
    every_group: bool,
}

/// How many handshakes of the asked kind there were; of others there were none but the first of each connection.
#[derive(serde::Serialize)]
pub(crate) struct Told {
    handshakes: usize,
    /// Full ones that gave the first tickets to those that resume.
    first: usize,
    seconds: f64,
    rate: f64,
    /// What was agreed on in the last of them.
    group: String,
    suite: String,
}

impl Job {
    /// Shakes hands until the time is over, in a thread for each connection.
    pub(crate) fn run(&self) -> Result<Told, Fault> {
        let begin = Instant::now();
        let done = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..self.connections).map(|number| scope.spawn(move || self.repeat(number))).collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap_or_else(|_| Err("a thread failed".into())))
                .collect::<Result<Vec<_>, Fault>>()
        })?;
        let seconds = begin.elapsed().as_secs_f64();
        let handshakes = done.iter().map(|(count, _)| count).sum();
        let first = if self.resumed { usize::from(self.connections) } else { 0 };
        let (_, last) = done.last().ok_or("no connection was asked for")?;
        let group = last.negotiated_key_exchange_group().map(|group| group.name());
        let suite = last.negotiated_cipher_suite().map(|suite| suite.suite());
        Ok(Told {
            handshakes,
            first,
            seconds,
            rate: count(handshakes) / seconds,
            group: group.map_or_else(String::new, |group| format!("{group:?}")),
            suite: suite.map_or_else(String::new, |suite| format!("{suite:?}")),
        })
    }

    /// One after the other: how many, and the last of them.
    fn repeat(&self, number: u8) -> Result<(usize, ClientConnection), Fault> {
        let tickets = Arc::new(Tickets::new(self.resumed));
        let mut config = client(self.every_group, b"http/1.1")?;
        config.resumption = Resumption::store(Arc::<Tickets>::clone(&tickets));
        let config = Arc::new(config);
        let source = Ipv4Addr::new(127, 0, 2, 1 + number);
        let end = Instant::now() + Duration::from_secs_f64(self.seconds);
        if self.resumed {
            let first = once(source, self.address, &config, &tickets)?;
            self.expect(&first, HandshakeKind::Full)?;
        }
        let mut done = 0;
        loop {
            let tls = once(source, self.address, &config, &tickets)?;
            self.expect(&tls, if self.resumed { HandshakeKind::Resumed } else { HandshakeKind::Full })?;
            done += 1;
            if Instant::now() >= end {
                return Ok((done, tls));
            }
        }
    }

    /// Whether it was what is counted: another kind, or another exchange of keys, would be compared with something else.
    fn expect(&self, tls: &ClientConnection, kind: HandshakeKind) -> Result<(), Fault> {
        let group = tls.negotiated_key_exchange_group().map(|group| group.name());
        let expected = self.every_group || group == Some(NamedGroup::X25519);
        if tls.handshake_kind() != Some(kind) || !expected {
            return Err(
                format!("a handshake of kind {:?} with {group:?}, expected {kind:?}", tls.handshake_kind()).into()
            );
        }
        Ok(())
    }
}

/// A handshake up to the first ticket that follows it: then the server has finished its part, too.
fn once(
    source: Ipv4Addr,
    address: SocketAddr,
    config: &Arc<ClientConfig>,
    tickets: &Tickets,
) -> Result<ClientConnection, Fault> {
    let mut socket = connect_from(source, address)?;
    socket.set_read_timeout(Some(PATIENCE))?;
    let before = tickets.come();
    let mut tls = shake_hands(&mut socket, Arc::clone(config))?;
    while tickets.come() == before {
        if tls.read_tls(&mut socket)? == 0 {
            return Err("closed before a ticket came".into());
        }
        tls.process_new_packets()?;
    }
    tls.send_close_notify();
    while tls.wants_write() {
        tls.write_tls(&mut socket)?;
    }
    socket.shutdown(Shutdown::Write)?;
    // The server's end of it: nothing is left unread, and the connection is not reset.
    let mut rest = [0; 1024];
    while socket.read(&mut rest)? > 0 {}
    Ok(tls)
}
