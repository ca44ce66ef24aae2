//! Servers that answer in ways meant to confuse whoever reads the answer next.

use crate::support::{Answer, Backend, Gateway, Toml};

const GET: &str = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_response_framed_in_two_ways_is_refused_and_never_cut_to_fit() {
    let backend = Backend::answering(|seen| {
        let fields = match seen.line.split(['/', ' ']).nth(3).unwrap_or_default() {
            "both" => "Content-Length: 2\r\nTransfer-Encoding: chunked",
            "longer" => "Content-Length: 200\r\nTransfer-Encoding: chunked",
            "coded" => "Transfer-Encoding: gzip, chunked",
            "twice" => "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "list" => return Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 04, 4\r\n\r\nfour".to_vec()),
            _ => return Answer::ok("fine"),
        };
        Answer::Bytes(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n4\r\nfour\r\n0\r\n\r\n").into_bytes())
    });
    let gateway = Gateway::with(&Toml { server: "workers = 1\n".into(), ..Toml::default() }, &[backend.address]);
    let mut client = gateway.connect();
    for path in ["both", "longer", "coded", "twice"] {
        let reply = client.ask(format!("GET /public/{path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(reply.refusal(), (502, "upstream_broken".to_owned()), "{path}");
        assert_eq!(client.ask(GET).text(), "fine");
    }
    let reply = client.ask("GET /public/list HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((reply.header("content-length"), reply.text().as_str()), (Some("4"), "four"));
}
