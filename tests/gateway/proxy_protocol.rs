//! Behind a balancer that says who the client is before the client's first byte.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::support::{Backend, Client, Gateway, Toml};

const GET: &str = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";

/// Three listeners besides the usual one: plain and TLS behind balancers on loopback, and plain behind others.
struct Balanced {
    gateway: Gateway,
    plain: SocketAddr,
    tls: SocketAddr,
    elsewhere: SocketAddr,
}

impl Balanced {
    fn start(backend: &Backend, server: &str, limits: &str) -> Self {
        let listener = |tls, balancers| {
            format!("[[server.listener]]\naddress = \"127.0.0.1:0\"\ntls = {tls}\nproxy_protocol = [\"{balancers}\"]\n")
        };
        let server = [
            format!("workers = 1\n{server}"),
            listener(false, "127.0.0.0/8"),
            listener(true, "127.0.0.0/8"),
            listener(false, "192.0.2.0/24"),
        ];
        let toml = Toml { server: server.concat(), limits: limits.into(), ..Toml::default() };
        let gateway = Gateway::with(&toml, &[backend.address]);
        let [_, plain, tls, elsewhere] = gateway.app().listening()[..] else { panic!("four listeners") };
        Self { gateway, plain, tls, elsewhere }
    }

    fn closed(&self, limit: &str) -> u64 {
        let metrics = &self.gateway.app().gateway().metrics;
        let text = portcullis::telemetry::metrics::encode(metrics).unwrap();
        let name = format!("portcullis_connections_closed_total{{limit=\"{limit}\"}} ");
        let line = text.lines().find(|line| line.starts_with(&name)).unwrap_or_else(|| panic!("{text}"));
        line[name.len()..].parse().unwrap()
    }
}

/// A header of version 1.
fn v1(client: &str) -> Vec<u8> {
    let (family, here) = if client.contains(':') { ("TCP6", "::1") } else { ("TCP4", "127.0.0.1") };
    format!("PROXY {family} {client} {here} 56324 443\r\n").into_bytes()
}

/// A header of version 2; `command` is 0x20 for LOCAL and 0x21 for PROXY.
fn v2(command: u8, client: &str) -> Vec<u8> {
    let (family, address) = match client.parse().unwrap() {
        std::net::IpAddr::V4(address) => (0x11, address.octets().to_vec()),
        std::net::IpAddr::V6(address) => (0x21, address.octets().to_vec()),
    };
    // A TLV that nobody knows stands behind the addresses.
    let following = [&address[..], &address, &[0xdc, 4, 1, 0xbb], &[0xea, 0, 3, b'v', b'p', b'c']].concat();
    let length = u16::try_from(following.len()).unwrap().to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, &following].concat()
}

#[test]
fn the_upstream_is_told_of_the_client_and_not_of_the_balancer() {
    let backend = Backend::start();
    let balanced = Balanced::start(&backend, "", "");
    for (header, client) in [
        (v1("203.0.113.7"), "203.0.113.7"),
        (v1("2001:db8::7"), "2001:db8::7"),
        (v1("::ffff:203.0.113.7"), "203.0.113.7"),
        (v2(0x21, "203.0.113.7"), "203.0.113.7"),
        (v2(0x21, "2001:db8::7"), "2001:db8::7"),
        // The balancer's own word, or none on the client.
        (v2(0x20, "203.0.113.7"), "127.0.0.1"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
    ] {
        let plain = || Client::plain(balanced.plain);
        let tls = || Client::tls_behind(balanced.tls, &balanced.gateway.place.path("cert.pem"), &header);
        for (scheme, mut connection, first) in
            [("http", plain(), [&header, GET.as_bytes()].concat()), ("https", tls(), GET.into())]
        {
            assert_eq!(connection.ask(first).status, 200, "{scheme} {client}");
            // The header counts for all requests of the connection.
            assert_eq!(connection.ask(GET).status, 200, "{scheme} {client}");
            for _ in 0..2 {
                let seen = backend.next();
                assert_eq!((seen.one("x-forwarded-for"), seen.one("x-forwarded-proto")), (client, scheme));
                let node = if client.contains(':') { format!("\"[{client}]\"") } else { client.to_owned() };
                assert_eq!(seen.one("forwarded"), format!("for={node};proto={scheme}"));
            }
        }
    }
}

#[test]
fn a_header_may_come_in_any_pieces() {
    let backend = Backend::start();
    let balanced = Balanced::start(&backend, "", "");
    for header in [v1("203.0.113.7"), v2(0x21, "203.0.113.7")] {
        let mut client = Client::plain(balanced.plain);
        for byte in &header {
            client.send([*byte]);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(client.ask(GET).status, 200);
        assert_eq!(backend.next().one("x-forwarded-for"), "203.0.113.7");
        for cut in [1, header.len() - 1, header.len()] {
            let mut client = Client::plain(balanced.plain);
            client.send(&header[..cut]);
            std::thread::sleep(Duration::from_millis(20));
            client.send([&header[cut..], GET.as_bytes()].concat());
            assert_eq!(client.reply().status, 200, "{cut}");
            assert_eq!(backend.next().one("x-forwarded-for"), "203.0.113.7");
        }
    }
}

#[test]
fn a_stranger_is_closed_at_once_whatever_it_says() {
    let backend = Backend::start();
    let balanced = Balanced::start(&backend, "", "");
    for sent in [v1("203.0.113.7"), v2(0x21, "203.0.113.7"), v2(0x20, "203.0.113.7"), Vec::new()] {
        let before = balanced.closed("no_balancer");
        let mut client = Client::plain(balanced.elsewhere);
        // The connection may be gone already.
        let _ = client.try_send([&sent, GET.as_bytes()].concat());
        assert_eq!(client.drained(), Some(Vec::new()));
        assert_eq!(balanced.closed("no_balancer"), before + 1);
    }
    assert!(backend.saw_nothing());
    // Where the protocol is not spoken, a header is no request.
    let mut client = balanced.gateway.connect();
    client.send([&v1("203.0.113.7"), GET.as_bytes()].concat());
    assert_eq!(client.reply().status, 400);
    assert!(backend.saw_nothing());
}

#[test]
fn a_balancer_without_a_header_is_closed() {
    let backend = Backend::start();
    let balanced = Balanced::start(&backend, "", "");
    let mut crc = v2(0x21, "203.0.113.7");
    crc.extend([3, 0, 4, 1, 2, 3, 4]);
    crc[15] += 7;
    let forms: [&[u8]; 5] = [
        GET.as_bytes(),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PROXY TCP4 203.0.113.7 127.0.0.1 1\r\nGET /public HTTP/1.1\r\nHost: a\r\n\r\n",
        &crc,
    ];
    for (count, sent) in forms.into_iter().enumerate() {
        for address in [balanced.plain, balanced.tls] {
            let mut client = Client::plain(address);
            client.send(sent);
            assert_eq!(client.drained(), Some(Vec::new()), "{}", String::from_utf8_lossy(sent));
        }
        assert_eq!(balanced.closed("proxy_header"), 2 * (u64::try_from(count).unwrap() + 1));
    }
    // To connect and leave is how some look whether anybody listens: nothing is wrong.
    drop(Client::plain(balanced.plain));
    let mut client = Client::plain(balanced.plain);
    assert_eq!(client.ask([&v1("203.0.113.7"), GET.as_bytes()].concat()).status, 200);
    assert_eq!(balanced.closed("proxy_header"), 10);
}

#[test]
fn a_header_is_waited_for_as_long_as_one_of_a_request() {
    let backend = Backend::start();
    let balanced = Balanced::start(&backend, "", "header_timeout = \"400ms\"\n");
    let start = Instant::now();
    let mut silent = Client::plain(balanced.plain);
    let mut half = Client::plain(balanced.tls);
    half.send("PROXY TCP4 ");
    let mut trickling = Client::plain(balanced.plain);
    for byte in v2(0x21, "2001:db8::7") {
        if trickling.try_send([byte]).is_err() || start.elapsed() > Duration::from_secs(2) {
            break;
        }
        std::thread::sleep(Duration::from_millis(30));
    }
    for client in [&mut silent, &mut half, &mut trickling] {
        assert_eq!(client.drained(), Some(Vec::new()));
    }
    let took = start.elapsed();
    assert!((Duration::from_millis(390)..Duration::from_secs(3)).contains(&took), "{took:?}");
    assert_eq!(balanced.closed("header_timeout"), 3);
}

#[test]
fn connections_are_limited_by_the_client_and_never_by_the_balancer() {
    let backend = Backend::start();
    let balanced = Balanced::start(&backend, "", "connections_per_address = 2\nconnections = 7\n");
    let ask = |header: Vec<u8>| {
        let mut client = Client::plain(balanced.plain);
        client.send([&header, GET.as_bytes()].concat());
        (client.try_reply(false).map(|reply| reply.status).ok(), client)
    };
    let mut kept = Vec::new();
    for (client, expected) in [("1", Some(200)), ("1", Some(200)), ("1", None), ("2", Some(200)), ("2", Some(200))] {
        let (status, connection) = ask(v1(&format!("203.0.113.{client}")));
        assert_eq!(status, expected, "{client}");
        if status.is_some() {
            kept.push(connection);
        }
    }
    assert_eq!(balanced.closed("connections_per_address"), 1);
    for _ in 0..3 {
        let (status, connection) = ask(v2(0x20, "203.0.113.1"));
        assert_eq!(status, Some(200), "the balancer's own");
        kept.push(connection);
    }
    assert_eq!(ask(v1("203.0.113.9")).0, None, "all together are seven");
    assert_eq!(balanced.closed("connections"), 1);
    kept.remove(0);
    let start = Instant::now();
    while ask(v1("203.0.113.1")).0 != Some(200) {
        assert!(start.elapsed() < Duration::from_secs(5), "the place is given back");
    }
}

#[test]
fn the_client_of_the_header_is_judged_as_a_proxy() {
    let backend = Backend::start();
    let balanced = Balanced::start(&backend, "trusted_proxies = [\"203.0.113.0/24\"]\n", "");
    let claims = "GET /public HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.9\r\n\r\n";
    let mut proxy = Client::plain(balanced.plain);
    assert_eq!(proxy.ask([&v1("203.0.113.7"), claims.as_bytes()].concat()).status, 200);
    assert_eq!(backend.next().one("x-forwarded-for"), "198.51.100.9, 203.0.113.7");
    let mut other = Client::plain(balanced.plain);
    assert_eq!(other.ask([&v1("198.51.100.1"), claims.as_bytes()].concat()).status, 200);
    assert_eq!(backend.next().one("x-forwarded-for"), "198.51.100.1");
}
