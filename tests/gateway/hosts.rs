//! Hosts with wildcards: which route wins, and that no spelling of a host gets around it.

use crate::support::{Backend, Gateway, Toml};

fn routes(rest: &str) -> Toml {
    Toml { rest: rest.to_owned(), tls: false, ..Toml::default() }
}

#[test]
fn an_exact_host_wins_over_a_wildcard_and_a_longer_wildcard_over_a_shorter() {
    let backend = Backend::start();
    let toml = routes(
        "[[route]]\nname = \"exact\"\nhost = \"a.eu.example\"\npath = \"/\"\nrespond = { body = \"exact\" }\nauth = \"public\"\n\
         [[route]]\nname = \"eu\"\nhost = \"*.eu.example\"\npath = \"/\"\nrespond = { body = \"eu\" }\nauth = \"public\"\n\
         [[route]]\nname = \"wide\"\nhost = [\"*.example\", \"other.test\"]\npath = \"/\"\nrespond = { body = \"wide\" }\nauth = \"public\"\n\
         [[route]]\nname = \"deep\"\nhost = \"*.example\"\npath = \"/deep\"\nrespond = { body = \"deep\" }\nauth = \"public\"\n\
         [[route]]\nname = \"any\"\npath = \"/any\"\nrespond = { body = \"any\" }\nauth = \"public\"\n",
    );
    let gateway = Gateway::with(&toml, &[backend.address]);
    let mut client = gateway.connect();
    for (host, path, answer) in [
        ("a.eu.example", "/", Some("exact")),
        ("A.EU.Example.:8443", "/", Some("exact")),
        ("b.eu.example", "/", Some("eu")),
        ("x.a.eu.example", "/", Some("eu")),
        ("eu.example", "/", Some("wide")),
        ("a.us.example", "/x", Some("wide")),
        ("other.test", "/", Some("wide")),
        // As for exact hosts: the nearer one does not have the path, or has a shorter one that is the nearer's.
        ("a.eu.example", "/deep", Some("exact")),
        ("a.us.example", "/deep/1", Some("deep")),
        ("other.test", "/any", Some("wide")),
        ("example", "/any", Some("any")),
        // Not below the domain.
        ("example", "/", None),
        ("aexample", "/", None),
        ("a.other.test", "/", None),
        ("example.evil", "/", None),
    ] {
        let reply = client.ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        match answer {
            Some(answer) => assert_eq!((reply.status, reply.text().as_str()), (200, answer), "{host}{path}"),
            None => assert_eq!(reply.refusal(), (404, "no_route".to_owned()), "{host}{path}"),
        }
    }
    for host in [".example", "a..example", "*.example", "[::1].example", "a.example:x"] {
        let reply = gateway.connect().ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(reply.refusal(), (400, "bad_host".to_owned()), "{host}");
    }
}

#[test]
fn a_wildcard_protects_its_hosts_in_every_spelling_of_the_path() {
    let backend = Backend::start();
    let toml = routes(
        "[[route]]\nhost = \"*.shop.example\"\npath = \"/\"\nupstream = \"app\"\nauth = \"public\"\n\
         [[route]]\nhost = \"*.shop.example\"\npath = \"/admin\"\nupstream = \"app\"\n\
         [[route]]\nhost = \"open.shop.example\"\npath = \"/files\"\nupstream = \"app\"\nauth = \"public\"\n",
    );
    let gateway = Gateway::with(&toml, &[backend.address]);
    for (host, path, status) in [
        ("a.shop.example", "/admin", 401),
        ("a.shop.example", "/Admin", 400),
        ("a.shop.example", "/admin;x", 400),
        ("open.shop.example", "/ADMIN/x", 400),
        ("open.shop.example", "/admin/x", 401),
    ] {
        let reply = gateway.connect().ask(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(reply.status, status, "{host}{path}");
    }
    assert!(backend.saw_nothing());
    let reply = gateway.connect().ask("GET /Public HTTP/1.1\r\nHost: a.b.shop.example\r\n\r\n");
    assert_eq!((reply.status, backend.next().one("host")), (200, "a.b.shop.example"));
}
