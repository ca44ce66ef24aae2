//! Routes that answer by themselves: redirects and fixed replies.

use crate::support::{Backend, Gateway, Toml, Workplace, get};

const ROUTES: &str = "[[route]]\npath = \"/moved\"\nauth = \"public\"\nredirect = \"https://new.example\"\n\
    allow_path = [\"empty_segment\"]\n\
    [[route]]\npath = \"/found\"\nauth = \"public\"\nredirect = \"https://new.example/here?x=1\"\nredirect_status = 302\n\
    [[route]]\npath = \"/members\"\nredirect = \"https://members.example/\"\nredirect_status = 303\n\
    [[route]]\npath = \"/down\"\nauth = \"public\"\n\
    respond = { status = 503, body_file = \"down.html\", content_type = \"text/html; charset=utf-8\", headers = { \"Retry-After\" = \"600\" } }\n\
    [[route]]\npath = \"/empty\"\nauth = \"public\"\nrespond = { status = 204 }\n\
    [[route]]\npath = \"/private\"\nrespond = { body = \"for members\" }\nresponse_headers = { set = { \"X-A\" = \"b\" } }\n";

fn start(backend: &Backend) -> Gateway {
    let place = Workplace::new();
    std::fs::write(place.path("down.html"), "<h1>Back soon</h1>\n").unwrap();
    let toml = Toml { rest: ROUTES.into(), ..Toml::default() };
    Gateway::at(std::sync::Arc::new(place), &toml, &[backend.address])
}

#[test]
fn a_redirect_keeps_path_and_query_or_goes_to_one_place() {
    let backend = Backend::start();
    let gateway = start(&backend);
    let mut client = gateway.connect();
    for (path, status, location) in [
        ("/moved", 308, "https://new.example/moved"),
        ("/moved/a%20b/?x=//evil.example&y=%0d%0a", 308, "https://new.example/moved/a%20b/?x=//evil.example&y=%0d%0a"),
        ("/moved//evil.example", 308, "https://new.example/moved//evil.example"),
        ("/found/anything?y", 302, "https://new.example/here?x=1"),
    ] {
        let reply = client.ask(get(path, None));
        assert_eq!((reply.status, reply.header("location"), reply.body.len()), (status, Some(location), 0), "{path}");
        assert_eq!(reply.header("content-length"), Some("0"));
    }
    // The host of the request is no part of it.
    let reply = client.ask("GET /moved/x HTTP/1.1\r\nHost: evil.example\r\n\r\n");
    assert_eq!(reply.header("location"), Some("https://new.example/moved/x"));
    for path in ["/moved/../x", "/moved/%0d%0aSet-Cookie:x", "/moved/a%2fb", "/moved/a\\x"] {
        assert_eq!(gateway.connect().ask(get(path, None)).status, 400, "{path}");
    }
    assert!(backend.saw_nothing());
}

#[test]
fn a_fixed_reply_is_whole_and_has_no_body_for_head() {
    let backend = Backend::start();
    let gateway = start(&backend);
    let mut client = gateway.connect();
    let reply = client.ask(get("/down/x", None));
    assert_eq!((reply.status, reply.text().as_str()), (503, "<h1>Back soon</h1>\n"));
    assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!((reply.header("retry-after"), reply.header("content-length")), (Some("600"), Some("19")));
    let head = client.send("HEAD /down HTTP/1.1\r\nHost: localhost\r\n\r\n").head_reply();
    assert_eq!((head.status, head.header("content-length")), (503, Some("19")));
    for method in ["GET", "HEAD"] {
        let request = format!("{method} /empty HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let empty = client.send(request).head_reply();
        assert_eq!((empty.status, empty.header("content-length"), empty.header("content-type")), (204, None, None));
    }
    // The connection goes on.
    assert_eq!(client.ask(get("/down", None)).status, 503);
}

#[test]
fn a_body_that_nobody_wants_is_not_waited_for() {
    let backend = Backend::start();
    let gateway = start(&backend);
    // Half a body: the answer comes, and the connection is of no more use.
    let mut client = gateway.connect();
    let reply = client.ask("POST /down HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000000\r\n\r\nhalf");
    assert_eq!(reply.status, 503);
    assert!(client.drained().is_some());
    // A small one that is there is taken off, or the connection closed: never read as a request.
    let mut client = gateway.connect();
    let reply = client
        .ask("POST /down HTTP/1.1\r\nHost: localhost\r\nContent-Length: 25\r\n\r\nGET /empty HTTP/1.1\r\n\r\n\r\n");
    assert_eq!(reply.status, 503);
    if client.try_send(get("/down", None)).is_ok()
        && let Ok(next) = client.try_reply(false)
    {
        assert_eq!(next.status, 503);
    }
}

#[test]
fn a_route_that_answers_by_itself_still_asks_who_calls() {
    let backend = Backend::start();
    let gateway = start(&backend);
    let pair = gateway.sign_in("ann");
    let mut client = gateway.connect();
    for path in ["/members", "/private"] {
        assert_eq!(client.ask(get(path, None)).refusal(), (401, "missing_token".to_owned()), "{path}");
    }
    let reply = client.ask(get("/members/x?y", Some(&pair.access_token)));
    assert_eq!((reply.status, reply.header("location")), (303, Some("https://members.example/")));
    assert_eq!(reply.header("cache-control"), Some("private"));
    let reply = client.ask(get("/private", Some(&pair.access_token)));
    assert_eq!((reply.status, reply.text().as_str(), reply.header("x-a")), (200, "for members", Some("b")));
}
