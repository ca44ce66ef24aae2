//! Servers behind a Unix socket.

use std::path::Path;
use std::sync::Arc;

use crate::support::{Backend, Gateway, Toml, Workplace};

fn gateway(place: Workplace, socket: &Path) -> Gateway {
    let server = format!("unix:{}", socket.display());
    Gateway::before(Arc::new(place), &Toml { server: "workers = 1\n".into(), ..Toml::default() }, &[server])
}

#[test]
fn a_unix_socket_is_a_server_like_any_other() {
    let place = Workplace::new();
    let socket = place.path("app.sock");
    let backend = Backend::on_socket(&socket);
    let gateway = gateway(place, &socket);
    let mut client = gateway.connect();
    for _ in 0..3 {
        let reply = client.ask("POST /public HTTP/1.1\r\nHost: shop.example\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!((reply.status, reply.text()), (200, "hello".to_owned()));
        let seen = backend.next();
        assert_eq!((seen.one("host"), &seen.body[..]), ("shop.example", &b"hi"[..]));
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn a_socket_that_is_not_there_is_a_502_until_it_is() {
    let place = Workplace::new();
    let socket = place.path("app.sock");
    let gateway = gateway(place, &socket);
    let mut client = gateway.connect();
    let get = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";
    let reply = client.ask(get);
    assert_eq!(reply.refusal(), (502, "upstream_unreachable".to_owned()));
    assert!(!reply.text().contains("app.sock"), "{}", reply.text());
    let _backend = Backend::on_socket(&socket);
    assert_eq!(client.ask(get).text(), "hello");
}
