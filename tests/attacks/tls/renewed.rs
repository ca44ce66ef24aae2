//! Sessions taken up again, data sent too early, and keys renewed without an end.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::client::Tls13ClientSessionValue;
use rustls::client::{ClientSessionMemoryCache, ClientSessionStore, Resumption, Tls12ClientSessionValue};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, NamedGroup, StreamOwned, SupportedProtocolVersion};

use super::raw::extension::*;
use super::raw::*;
use super::{PATIENCE, gateway};
use crate::support::{Backend, Gateway};

type Stream = StreamOwned<ClientConnection, TcpStream>;

const GET: &[u8] = b"GET /public HTTP/1.1\r\nHost: a\r\n\r\n";

/// Keeps sessions as if all servers had one name: what was given under one is shown to another.
#[derive(Debug)]
struct OneName(ClientSessionMemoryCache);

fn one() -> ServerName<'static> {
    "one.example".try_into().unwrap()
}

impl ClientSessionStore for OneName {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        self.0.set_kx_hint(one(), group);
    }
    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        self.0.kx_hint(&one())
    }
    fn set_tls12_session(&self, _: ServerName<'static>, value: Tls12ClientSessionValue) {
        self.0.set_tls12_session(one(), value);
    }
    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        self.0.tls12_session(&one())
    }
    fn remove_tls12_session(&self, _: &ServerName<'static>) {
        self.0.remove_tls12_session(&one());
    }
    fn insert_tls13_ticket(&self, _: ServerName<'static>, value: Tls13ClientSessionValue) {
        self.0.insert_tls13_ticket(one(), value);
    }
    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.0.take_tls13_ticket(&one())
    }
}

fn config(version: &'static SupportedProtocolVersion) -> ClientConfig {
    let mut config = super::client(version);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.resumption = Resumption::store(Arc::new(OneName(ClientSessionMemoryCache::new(8))));
    config
}

fn connect(gateway: &Gateway, config: &Arc<ClientConfig>, name: &'static str) -> Stream {
    let connection = ClientConnection::new(config.clone(), name.try_into().unwrap()).unwrap();
    let socket = TcpStream::connect(gateway.address).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    StreamOwned::new(connection, socket)
}

/// Asks once; with the answer come the tickets. How the handshake was done.
fn ask(gateway: &Gateway, config: &Arc<ClientConfig>, name: &'static str) -> HandshakeKind {
    let mut stream = connect(gateway, config, name);
    stream.write_all(b"GET /public HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply).unwrap();
    assert!(reply.starts_with(b"HTTP/1.1 200 OK"), "{name}: {}", String::from_utf8_lossy(&reply));
    stream.conn.handshake_kind().unwrap()
}

/// CVE-2025-23419 let a session of one virtual host pass for one of another, past the certificate that the other asks
/// clients for. No certificate is asked for here; that a session belongs to a name holds all the same (RFC 6066 §3).
#[test]
fn a_session_is_taken_up_again_under_its_own_name_only() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "");
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = Arc::new(config(version));
        assert_eq!(ask(&gateway, &config, "localhost"), HandshakeKind::Full, "{version:?}");
        assert_eq!(ask(&gateway, &config, "localhost"), HandshakeKind::Resumed, "{version:?}");
        assert_ne!(ask(&gateway, &config, "shop.example"), HandshakeKind::Resumed, "{version:?}: another name");
    }
}

/// Keys of tickets live in memory alone: a gateway that was stolen later opens no recorded connection with them.
#[test]
fn a_session_of_another_gateway_is_begun_anew() {
    let backend = Backend::start();
    let (first, second) = (gateway(&backend, ""), gateway(&backend, ""));
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = Arc::new(config(version));
        assert_eq!(ask(&first, &config, "localhost"), HandshakeKind::Full, "{version:?}");
        assert_ne!(ask(&second, &config, "localhost"), HandshakeKind::Resumed, "{version:?}");
    }
}

/// Whoever records early data can send it again, and the request in it is carried out once more (RFC 8446 §8).
#[test]
fn early_data_is_neither_offered_nor_read() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "");
    let mut config = config(&rustls::version::TLS13);
    config.enable_early_data = true;
    let config = Arc::new(config);
    ask(&gateway, &config, "localhost");
    let mut again = connect(&gateway, &config, "localhost");
    assert!(again.conn.early_data().is_none(), "the ticket allows none");
    again.write_all(GET).unwrap();
    again.read_exact(&mut [0; 15]).unwrap();
    assert_eq!(again.conn.handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(!again.conn.is_early_data_accepted());
    backend.next();
    backend.next();

    // By hand, without being allowed to: what looks like data is passed over until the handshake fails.
    let psk = [vector(2, [&vector(2, [7; 40])[..], &[0; 4]].concat()), vector(2, vector(1, [1; 32]))].concat();
    let hello = Hello::tls13().and(EARLY_DATA, []).and(PSK_MODES, [1, 1]).and(PRE_SHARED_KEY, psk);
    for data in [record(23, TLS12, [1; 60]), record(23, TLS12, GET), GET.to_vec(), vec![23, 3, 3, 0x40, 0x11]] {
        let outcome = say(gateway.address, &[hello.bytes(), data].concat(), PATIENCE);
        assert!(matches!(outcome, Outcome::Chosen(_)), "{outcome:?}");
    }
    assert!(backend.saw_nothing());
}

/// New keys cost the sender nothing and the receiver a derivation; what is asked for in return must not pile up.
#[test]
fn keys_renewed_without_an_end_keep_no_connection_open_and_stop_no_other() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "header_timeout = \"2s\"\nidle_timeout = \"2s\"");
    // As fast as can be, which the library ends, and slowly, which the deadline of an idle connection does.
    for pause in [0, 200] {
        let mut client = connect(&gateway, &Arc::new(config(&rustls::version::TLS13)), "localhost");
        client.write_all(GET).unwrap();
        client.read_exact(&mut [0; 15]).unwrap();
        let (start, mut updates) = (Instant::now(), 0);
        let ended = loop {
            client.conn.refresh_traffic_keys().unwrap();
            if let Err(error) = client.flush() {
                break error;
            }
            updates += 1;
            std::thread::sleep(Duration::from_millis(pause));
            assert!(start.elapsed() < Duration::from_secs(15), "still open after {updates} renewals");
        };
        assert!(!matches!(ended.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{ended}");
        println!("key renewals {pause} ms apart until the end of the connection: {updates}");
    }
    assert_eq!(ask(&gateway, &Arc::new(config(&rustls::version::TLS13)), "localhost"), HandshakeKind::Full);
}
