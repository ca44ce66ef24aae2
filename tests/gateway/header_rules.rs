//! `request_headers` and `response_headers`: what a route removes, sets and adds, and that the identity stays ours.

use crate::support::{Answer, Backend, Gateway, Toml};

#[test]
fn a_route_changes_headers_both_ways_and_never_the_identity() {
    let backend = Backend::answering(|_| {
        Answer::Bytes(
            b"HTTP/1.1 200 OK\r\nServer: old/1.0\r\nX-Powered-By: x\r\nVary: Accept\r\nContent-Length: 2\r\n\r\nok"
                .to_vec(),
        )
    });
    let toml = Toml {
        rest: "[[route]]\npath = \"/\"\nupstream = \"app\"\n\
               request_headers = { remove = [\"X-Debug\", \"X-Tenant\"], set = { \"X-Tenant\" = \"blue\", \"Authorization\" = \"Basic c2VydmljZQ==\" }, add = { \"X-Seen\" = \"gateway\" } }\n\
               response_headers = { remove = [\"X-Powered-By\"], set = { \"Server\" = \"new\" }, add = { \"Vary\" = \"Cookie\" } }\n"
            .into(),
        tls: false,
        ..Toml::default()
    };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let pair = gateway.sign_in("ann");
    let reply = gateway.connect().ask(format!(
        "GET / HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nX-Debug: 1\r\nX-Debug: 2\r\nX-Tenant: red\r\n\
         X-Seen: client\r\nX-User-Id: admin\r\nConnection: x-tenant, x-user-id, authorization\r\n\r\n",
        &*pair.access_token
    ));
    assert_eq!((reply.status, reply.header("server"), reply.header("x-powered-by")), (200, Some("new"), None));
    let vary: Vec<_> = reply.headers.iter().filter(|(name, _)| name == "vary").map(|(_, value)| value).collect();
    assert_eq!(vary, ["Accept", "Cookie"]);
    let seen = backend.next();
    assert!(seen.all("x-debug").is_empty());
    assert_eq!((seen.one("x-tenant"), seen.all("x-seen")), ("blue", vec!["client", "gateway"]));
    assert_eq!((seen.one("x-user-id"), seen.one("authorization")), ("ann", "Basic c2VydmljZQ=="));
    // A refusal is the gateway's own: the route's rules are about answers.
    let refused = gateway.connect().ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!((refused.status, refused.header("server"), refused.header("vary")), (401, None, None));
}
