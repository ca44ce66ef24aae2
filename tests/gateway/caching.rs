//! `Cache-Control: private`: on answers to somebody, unless the upstream said anything.

use crate::support::{Answer, Backend, Gateway, get};

#[test]
fn an_answer_to_somebody_is_private_unless_the_upstream_says_something() {
    let backend = Backend::answering(|seen| {
        let field = match seen.line.as_str() {
            "GET /x/public HTTP/1.1" => "Cache-Control: public, max-age=60\r\n",
            "GET /x/expires HTTP/1.1" => "Expires: Thu, 01 Jan 2099 00:00:00 GMT\r\n",
            "GET /x/empty HTTP/1.1" => "Cache-Control:\r\n",
            _ => "",
        };
        Answer::Bytes(format!("HTTP/1.1 200 OK\r\n{field}Content-Length: 2\r\n\r\nok").into_bytes())
    });
    let gateway = Gateway::start(&backend);
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    for (path, token, expected) in [
        ("/x", true, Some("private")),
        ("/x/public", true, Some("public, max-age=60")),
        ("/x/expires", true, None),
        ("/x/empty", true, Some("")),
        ("/optional", true, Some("private")),
        ("/optional", false, None),
        // No token is looked at: the answer is nobody's.
        ("/public", true, None),
    ] {
        let reply = client.ask(get(path, token.then_some(&*pair.access_token)));
        assert_eq!((reply.status, reply.header("cache-control")), (200, expected), "{path}");
    }
}
