//! Servers that are away, slow or broken, and connections that are kept.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Answer, Backend, Gateway, Toml};

const GET: &str = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_connection_is_kept_for_the_next_request() {
    let backend = Backend::start();
    let gateway = Gateway::with(&Toml { server: "workers = 1\n".into(), ..Toml::default() }, &[backend.address]);
    let mut client = gateway.connect();
    for _ in 0..20 {
        assert_eq!(client.ask(GET).status, 200);
    }
    assert_eq!(backend.connections(), 1);
}

#[test]
fn requests_are_spread_over_the_servers_in_turn() {
    let backends = [Backend::start(), Backend::start(), Backend::start()];
    let toml = Toml { server: "workers = 1\n".into(), ..Toml::default() };
    let gateway = Gateway::with(&toml, &backends.each_ref().map(|backend| backend.address));
    let mut client = gateway.connect();
    for _ in 0..3 {
        let mut order = Vec::new();
        for _ in 0..3 {
            assert_eq!(client.ask(GET).status, 200);
            order.extend(backends.iter().position(|backend| !backend.saw_nothing()));
        }
        order.sort_unstable();
        assert_eq!(order, [0, 1, 2]);
    }
}

#[test]
fn a_server_that_is_away_is_passed_over() {
    let backend = Backend::start();
    let [gone, gone_too] =
        [0, 0].map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).each_ref().map(|it| it.local_addr().unwrap());
    let gateway = Gateway::with(&Toml::default(), &[gone, backend.address, gone_too]);
    let mut client = gateway.connect();
    for _ in 0..10 {
        assert_eq!(client.ask("POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi").status, 200);
        assert_eq!(backend.next().body, b"hi");
    }
}

#[test]
fn no_server_is_a_502_that_tells_nothing_internal() {
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gateway = Gateway::with(&Toml::default(), &[gone]);
    let mut client = gateway.connect();
    let reply = client.ask(GET);
    assert_eq!(reply.refusal(), (502, "upstream_unreachable".to_owned()));
    assert!(!reply.text().contains(&gone.port().to_string()));
    // The client's connection is as good as before.
    assert_eq!(client.ask(GET).status, 502);
}

#[test]
fn an_upstream_that_dies_before_during_and_after_its_response() {
    let backend =
        Backend::answering(|seen| match seen.line.split('/').nth(2).and_then(|rest| rest.split(' ').next()) {
            Some("before") => Answer::Close(Vec::new()),
            Some("reset") => Answer::Reset(Vec::new()),
            Some("head") => Answer::Close(b"HTTP/1.1 200 OK\r\nContent-Le".to_vec()),
            Some("garbage") => Answer::Close(b"220 smtp ready\r\n\r\n".to_vec()),
            Some("half") => Answer::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec()),
            Some("chunk") => {
                Answer::Close(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n".to_vec())
            }
            Some("after") => Answer::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()),
            Some("eof") => Answer::Close(b"HTTP/1.1 200 OK\r\n\r\nto the end".to_vec()),
            Some("switch") => {
                Answer::Bytes(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec())
            }
            _ => Answer::ok("fine"),
        });
    let gateway = Gateway::start(&backend);
    for (path, method) in [
        ("before", "POST"),
        ("before", "GET"),
        ("reset", "POST"),
        ("head", "GET"),
        ("garbage", "GET"),
        ("switch", "GET"),
    ] {
        let mut client = gateway.connect();
        let reply = client.ask(format!("{method} /public/{path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(reply.refusal(), (502, "upstream_broken".to_owned()), "{method} {path}");
        assert_eq!(client.ask(GET).text(), "fine");
    }
    for path in ["half", "chunk"] {
        // The client must be able to tell that it is not whole: the connection breaks.
        let mut client = gateway.connect();
        client.send(format!("GET /public/{path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let bytes = String::from_utf8(client.drained().expect("closed")).unwrap();
        assert!(
            bytes.starts_with("HTTP/1.1 200 OK") && bytes.contains("half") && !bytes.ends_with("0\r\n\r\n"),
            "{bytes}"
        );
    }
    let mut client = gateway.connect();
    assert_eq!(client.ask("GET /public/after HTTP/1.1\r\nHost: a\r\n\r\n").text(), "ok");
    assert_eq!(client.ask("GET /public/eof HTTP/1.1\r\nHost: a\r\n\r\n").text(), "to the end");
    assert_eq!(client.ask(GET).text(), "fine");
}

#[test]
fn a_slow_upstream_is_a_504_and_one_that_stalls_is_cut() {
    let backend = Backend::answering(|seen| {
        let late = Duration::from_millis(900);
        match seen.line.contains("/stall") {
            true => Answer::Slowly(vec![
                (Duration::ZERO, b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab".to_vec()),
                (late, b"cd".to_vec()),
            ]),
            false => Answer::Slowly(vec![(late, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec())]),
        }
    });
    let toml = Toml {
        upstream: "response_timeout = \"300ms\"\nbody_idle_timeout = \"300ms\"\n".into(),
        rest: Toml::default().rest
            + "[[route]]\npath = \"/slow\"\nupstream = \"app\"\nauth = \"public\"\nresponse_timeout = \"5s\"\n",
        ..Toml::default()
    };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let mut client = gateway.connect();
    assert_eq!(client.ask(GET).refusal(), (504, "upstream_timeout".to_owned()));
    assert_eq!(client.ask("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
    client.send("GET /public/stall HTTP/1.1\r\nHost: a\r\n\r\n");
    let bytes = client.drained().expect("closed");
    assert!(bytes.ends_with(b"ab"), "{:?}", String::from_utf8_lossy(&bytes));
}

#[test]
fn a_request_is_sent_again_only_when_nothing_of_it_can_have_been_acted_on() {
    // Every connection answers one request well and closes on the second one after reading it.
    let requests = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let served = std::sync::Mutex::new(std::collections::HashSet::new());
    let backend = Backend::answering(move |seen| {
        counted.fetch_add(1, Ordering::SeqCst);
        match served.lock().unwrap().insert(seen.connection) {
            true => Answer::ok("fine"),
            false => Answer::Close(Vec::new()),
        }
    });
    let gateway = Gateway::with(&Toml { server: "workers = 1\n".into(), ..Toml::default() }, &[backend.address]);
    let mut client = gateway.connect();
    assert_eq!(client.ask(GET).text(), "fine");
    // A GET goes to a new connection: 1 + 1 read and dropped + 1 again.
    assert_eq!(client.ask(GET).text(), "fine");
    assert_eq!(requests.load(Ordering::SeqCst), 3);
    // A POST may have been acted on: it is not sent twice.
    let reply = client.ask("POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
    assert_eq!(reply.refusal(), (502, "upstream_broken".to_owned()));
    assert_eq!(requests.load(Ordering::SeqCst), 4);
}

#[test]
fn a_kept_connection_that_the_server_closed_costs_no_request() {
    // Closes right after each answer without saying so.
    let backend = Backend::answering(|_| Answer::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()));
    let gateway = Gateway::start(&backend);
    let mut client = gateway.connect();
    for number in 0..300 {
        let reply = client.ask("POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        // A POST that was already on its way when the close came is a 502; never a hang, never sent twice.
        assert!(reply.status == 200 || reply.refusal().1 == "upstream_broken", "{number}: {reply:?}");
        assert_eq!(client.ask(GET).status, 200, "{number}");
    }
}

/// hyper reads them for as long as there are some; only in between is anything else of the worker done.
#[test]
fn a_server_that_sends_interim_responses_without_end_holds_up_no_other_request() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endless = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let hints = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\n\r\n".repeat(20_000);
        for mut stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn({
                let hints = hints.clone();
                move || while std::io::Write::write_all(&mut stream, &hints).is_ok() {}
            });
        }
    });
    let backend = Backend::start();
    let toml = Toml {
        server: "workers = 1\n".into(),
        upstream: "response_timeout = \"2s\"\n".into(),
        rest: format!(
            "[upstream.calm]\nservers = [\"http://{}\"]\n[[route]]\npath = \"/calm\"\nupstream = \"calm\"\n\
             auth = \"public\"\n[[route]]\npath = \"/\"\nupstream = \"app\"\nauth = \"public\"\n",
            backend.address
        ),
        tls: false,
        ..Toml::default()
    };
    let gateway = Gateway::with(&toml, &[endless]);
    let mut waiting = gateway.connect();
    waiting.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut other = gateway.connect();
    let start = Instant::now();
    let mut served = 0;
    while start.elapsed() < Duration::from_millis(1500) {
        assert_eq!(other.ask("GET /calm HTTP/1.1\r\nHost: a\r\n\r\n").status, 200);
        served += 1;
    }
    assert!(served >= 2, "{served} in {:?}", start.elapsed());
    assert_eq!(waiting.reply().refusal(), (504, "upstream_timeout".to_owned()));
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}
