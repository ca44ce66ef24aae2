//! IPv6 on every side: clients, listeners, hosts, proxies in front, upstreams and the admin listener.

use std::sync::Arc;

use portcullis::app::App;
use portcullis::config::Config;

use crate::support::{Answer, Backend, Client, Toml, Workplace};

fn backend() -> Backend {
    Backend::at("[::1]:0", |_| Answer::ok("hello"))
}

/// A gateway whose listeners, upstream and admin listener are all on IPv6.
fn start(backend: &Backend, server: &str, limits: &str) -> (App, Arc<Workplace>) {
    let place = Arc::new(Workplace::new());
    let host = "[[route]]\nhost = \"[2001:db8::1]\"\npath = \"/\"\nupstream = \"app\"\nauth = \"public\"\n";
    let mut toml = Toml { server: format!("workers = 1\n{server}"), limits: limits.into(), ..Toml::default() };
    toml.rest += host;
    let text = toml.text(&[backend.address]).replace("127.0.0.1:0", "[::1]:0");
    let config = Config::parse(&text, "test.toml", place.root()).unwrap_or_else(|faults| panic!("{faults}"));
    (App::start(config).unwrap_or_else(|error| panic!("{error:?}")), place)
}

#[test]
fn a_request_goes_through_over_ipv6_alone() {
    let backend = backend();
    let (app, place) = start(&backend, "", "");
    assert!(app.listening()[0].is_ipv6() && app.admin().unwrap().is_ipv6());
    let mut client = Client::tls(app.listening()[0], &place.path("cert.pem"));
    for host in ["[::1]", "[::1]:8443", "[2001:DB8::1]:8443"] {
        let reply = client.ask(format!("GET /public HTTP/1.1\r\nHost: {host}\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n"));
        assert_eq!((reply.status, reply.text().as_str()), (200, "hello"), "{host}");
        let seen = backend.next();
        assert_eq!((seen.one("host"), seen.one("x-forwarded-host")), (host, host));
        assert_eq!(seen.one("x-forwarded-for"), "::1");
        assert_eq!(seen.one("forwarded"), "for=\"[::1]\";proto=https");
    }
    let to = |client: &mut Client, host: &str| client.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).status;
    assert_eq!(to(&mut client, "[2001:DB8::1]:8443"), 200, "a route of this host");
    assert_eq!(to(&mut client, "[2001:db8::2]"), 401);
    for host in ["::1", "[::1", "::1]", "[::1]x", "[::1]:", "[::1%25eth0]", "[1.2.3.4]"] {
        assert_eq!(to(&mut client, host), 400, "{host}");
    }
    let admin = app.admin().unwrap();
    let reply = Client::plain(admin).ask(format!("GET /healthz HTTP/1.1\r\nHost: {admin}\r\n\r\n"));
    assert_eq!(reply.status, 200);
    app.stop().unwrap();
}

#[test]
fn a_proxy_in_front_is_believed_over_ipv6() {
    let backend = backend();
    let (app, place) =
        start(&backend, "trusted_proxies = [\"::1\", \"fd00::/8\"]\n", "refreshes_per_address = \"1/1h\"\n");
    let mut client = Client::tls(app.listening()[0], &place.path("cert.pem"));
    let request = |fields: &str| format!("GET /public HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n");
    assert_eq!(client.ask(request("X-Forwarded-For: 2001:db8::7")).status, 200);
    assert_eq!(backend.next().one("x-forwarded-for"), "2001:db8::7, ::1");
    assert_eq!(client.ask(request("Forwarded: for=\"[2001:db8::7]:47011\"")).status, 200);
    let seen = backend.next();
    assert_eq!(seen.all("forwarded"), ["for=\"[2001:db8::7]:47011\"", "for=\"[::1]\";proto=https"]);

    // Who the client is shows in what is limited by address: one refresh an hour, and 429 for the next.
    let mut refresh = |field: &str| {
        let body = "{\"refresh_token\":\"x\"}";
        let kind = "Content-Type: application/json";
        client
            .ask(format!(
                "POST /auth/refresh HTTP/1.1\r\nHost: a\r\n{kind}\r\n{field}\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ))
            .status
    };
    for (first, again) in [
        ("X-Forwarded-For: [2001:db8:1::7]:47011", "X-Forwarded-For: 2001:db8:1::7"),
        ("X-Forwarded-For: 2001:db8:2::7", "X-Forwarded-For: 6.6.6.6, [2001:db8:2::7], [fd00::1]:5"),
        ("Forwarded: for=\"[2001:db8:3::7]:47011\"", "X-Forwarded-For: 2001:db8:3::7"),
        ("X-Forwarded-For: 192.0.2.4:567", "Forwarded: for=192.0.2.4;proto=https"),
        ("X-Forwarded-For: ::ffff:192.0.2.5", "X-Forwarded-For: 192.0.2.5"),
    ] {
        assert_eq!((refresh(first), refresh(again)), (400, 429), "{first} and {again}");
    }
    app.stop().unwrap();
}

#[test]
fn an_ipv4_client_of_an_ipv6_socket_has_its_own_address() {
    let backend = backend();
    let server = "trusted_proxies = [\"10.0.0.0/8\"]\n[[server.listener]]\naddress = \"[::]:0\"\ntls = false\n\
        [[server.listener]]\naddress = \"[::]:0\"\ntls = false\nproxy_protocol = [\"127.0.0.0/8\", \"::1\"]\n";
    let (app, _place) = start(&backend, server, "");
    let (plain, balanced) = (app.listening()[1].port(), app.listening()[2].port());
    let request = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";
    for (host, expected) in [("127.0.0.1", "127.0.0.1"), ("::1", "::1")] {
        let address = (host.parse::<std::net::IpAddr>().unwrap(), plain).into();
        assert_eq!(Client::plain(address).ask(request).status, 200);
        assert_eq!(backend.next().one("x-forwarded-for"), expected);
        // A balancer is known by its own address, too.
        let address = (host.parse::<std::net::IpAddr>().unwrap(), balanced).into();
        let relayed = format!("PROXY TCP6 ::ffff:203.0.113.7 ::1 1 2\r\n{request}");
        assert_eq!(Client::plain(address).ask(relayed).status, 200);
        assert_eq!(backend.next().one("x-forwarded-for"), "203.0.113.7");
    }
    app.stop().unwrap();
}
