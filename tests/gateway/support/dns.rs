//! A DNS server on loopback whose answers change.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};

/// What it says of every name.
#[derive(Clone, Debug, Default)]
struct Zone {
    /// None at all: there is no such name.
    addresses: Vec<Ipv4Addr>,
    ttl: u32,
    /// Says that it cannot tell (SERVFAIL).
    failing: bool,
    asked: usize,
}

#[derive(Clone)]
pub(crate) struct Dns {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
}

impl Dns {
    pub(crate) fn start(addresses: &[[u8; 4]], ttl: u32) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
        let address = socket.local_addr().expect("bound");
        let dns = Self { address, zone: Arc::default() };
        dns.say(addresses, ttl);
        let zone = dns.zone.clone();
        // Ends with the process.
        std::thread::spawn(move || {
            let mut query = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut query) {
                let mut zone = zone.lock().expect("one test");
                zone.asked += 1;
                socket.send_to(&answer(&query[..length], &zone), from).expect("sent");
            }
        });
        dns
    }

    pub(crate) fn say(&self, addresses: &[[u8; 4]], ttl: u32) {
        let mut zone = self.zone.lock().expect("one test");
        (zone.addresses, zone.ttl) = (addresses.iter().copied().map(Ipv4Addr::from).collect(), ttl);
    }

    pub(crate) fn fail(&self, failing: bool) {
        self.zone.lock().expect("one test").failing = failing;
    }

    pub(crate) fn asked(&self) -> usize {
        self.zone.lock().expect("one test").asked
    }
}

/// An answer to a query of one question (RFC 1035 §4).
fn answer(query: &[u8], zone: &Zone) -> Vec<u8> {
    let labels_end = 12 + query[12..].iter().position(|byte| *byte == 0).expect("a name") + 1;
    let question = &query[12..labels_end + 4];
    // Only of A: of AAAA there is the name, but nothing under it.
    let is_a = question[question.len() - 4..] == [0, 1, 0, 1];
    let addresses = if is_a && !zone.failing { zone.addresses.as_slice() } else { &[] };
    let code = match zone.addresses.is_empty() {
        _ if zone.failing => 2,
        true => 3,
        false => 0,
    };
    let mut reply = query[..2].to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::try_from(addresses.len()).expect("few"), 0, 0, 0, 0]);
    reply.extend(question);
    for address in addresses {
        // The name of the question, A, IN.
        reply.extend([0xc0, 12, 0, 1, 0, 1]);
        reply.extend(zone.ttl.to_be_bytes());
        reply.extend([0, 4]);
        reply.extend(address.octets());
    }
    reply
}
