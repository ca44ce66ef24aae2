//! So many connections to a server over all workers, and a queue before them.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use crate::support::{Answer, Backend, Client, CountingBackend, Gateway, Http2Server, Toml, eventually, metric};

const GET: &str = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";

fn toml(upstream: &str) -> Toml {
    let upstream = format!("keep_alive_timeout = \"300ms\"\n{upstream}");
    Toml { server: "workers = 2\n".into(), upstream, tls: false, ..Toml::default() }
}

/// Nothing is left of what was under way: no request, no place in the queue, and in a moment no connection.
fn all_is_over(gateway: &Gateway) {
    for name in ["requests_in_flight", "queued", "connections"] {
        eventually(name, || metric(gateway, &format!("portcullis_upstream_{name}")) == 0.0);
    }
}

/// A request whose client can go away at any time.
fn raw(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(GET.as_bytes()).unwrap();
    stream
}

#[test]
fn the_limit_holds_over_all_workers_and_nobody_is_lost() {
    let backends =
        [CountingBackend::start(Duration::from_millis(20)), CountingBackend::start(Duration::from_millis(5))];
    for balance in ["round_robin", "least_requests"] {
        let toml = toml(&format!("max_connections = 2\nbalance = \"{balance}\"\n"));
        let gateway = Gateway::with(&toml, &backends.each_ref().map(|backend| backend.address));
        std::thread::scope(|scope| {
            for _ in 0..24 {
                scope.spawn(|| {
                    let mut client = gateway.connect();
                    for _ in 0..8 {
                        assert_eq!(client.ask(GET).text(), "ok");
                    }
                });
            }
        });
        assert_eq!(backends.each_ref().map(CountingBackend::most), [2, 2]);
        all_is_over(&gateway);
        eventually("closed", || backends.iter().all(|backend| backend.open() == 0));
    }
    assert_eq!(backends.iter().map(CountingBackend::requests).sum::<usize>(), 2 * 24 * 8);
}

#[test]
fn an_unused_connection_of_one_worker_makes_room_for_another() {
    let backend = CountingBackend::start(Duration::ZERO);
    let toml = Toml { upstream: "max_connections = 1\n".into(), ..toml("") };
    let gateway = Gateway::with(&toml, &[backend.address]);
    // Of sixteen connections some are served by each worker.
    let mut clients = [0; 16].map(|_| gateway.connect());
    let start = Instant::now();
    for _ in 0..3 {
        for client in &mut clients {
            assert_eq!(client.ask(GET).text(), "ok");
        }
    }
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(backend.most(), 1);
}

#[test]
fn who_comes_first_is_served_first() {
    let backend = CountingBackend::start(Duration::from_millis(100));
    let toml = Toml { server: "workers = 1\n".into(), ..toml("max_connections = 1\n") };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let (done, order) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for number in 0..6 {
            let (done, mut client) = (done.clone(), gateway.connect());
            client.send(GET);
            // The next one comes when this one has its place.
            eventually("its place", || metric(&gateway, "portcullis_upstream_queued") >= f64::from(number) - 1.0);
            eventually("under way", || {
                metric(&gateway, "portcullis_upstream_queued")
                    + metric(&gateway, "portcullis_upstream_requests_in_flight")
                    + f64::from(u32::try_from(backend.requests()).unwrap())
                    > f64::from(number)
            });
            scope.spawn(move || {
                assert_eq!(client.reply().text(), "ok");
                done.send(number).unwrap();
            });
        }
    });
    assert_eq!(order.try_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn who_finds_the_queue_full_or_waits_too_long_is_refused() {
    let backend = CountingBackend::start(Duration::from_millis(1500));
    let gateway =
        Gateway::with(&toml("max_connections = 1\nqueue = 2\nqueue_timeout = \"300ms\"\n"), &[backend.address]);
    let mut served = gateway.connect();
    served.send(GET);
    eventually("under way", || backend.requests() == 1);
    let mut waiting = [0; 2].map(|_| gateway.connect());
    let start = Instant::now();
    for client in &mut waiting {
        client.send(GET);
    }
    eventually("waiting", || metric(&gateway, "portcullis_upstream_queued") == 2.0);
    let reply = gateway.connect().ask(GET);
    assert_eq!(reply.refusal(), (503, "upstream_overloaded".to_owned()));
    assert_eq!(reply.header("retry-after"), Some("1"));
    assert!(start.elapsed() < Duration::from_millis(250), "at once");
    for client in &mut waiting {
        assert_eq!(client.reply().refusal(), (503, "upstream_overloaded".to_owned()));
    }
    assert!(start.elapsed() >= Duration::from_millis(300));
    assert_eq!(served.reply().text(), "ok");
    assert_eq!(backend.requests(), 1);
    all_is_over(&gateway);
}

#[test]
fn clients_that_vanish_while_they_wait_leave_the_queue() {
    let backend = CountingBackend::start(Duration::from_secs(1));
    let gateway = Gateway::with(&toml("max_connections = 1\nqueue_timeout = \"20s\"\n"), &[backend.address]);
    let served = raw(gateway.address);
    eventually("under way", || backend.requests() == 1);
    let waiting = [0; 20].map(|_| raw(gateway.address));
    eventually("waiting", || metric(&gateway, "portcullis_upstream_queued") == 20.0);
    let mut last = gateway.connect();
    last.send(GET);
    eventually("waiting", || metric(&gateway, "portcullis_upstream_queued") == 21.0);
    drop(waiting);
    eventually("gone", || metric(&gateway, "portcullis_upstream_queued") == 1.0);
    // Not because their turn had come.
    assert_eq!(metric(&gateway, "portcullis_upstream_requests_in_flight"), 1.0);
    // The one that is served goes away too: its connection is closed, and the last one's turn has come.
    served.shutdown(Shutdown::Both).unwrap();
    assert_eq!(last.reply().text(), "ok");
    assert_eq!(backend.requests(), 2);
    all_is_over(&gateway);
}

#[test]
fn clients_that_vanish_while_their_server_is_connected_to_give_its_room_back() {
    // A listener whose backlog is full: connecting to it takes until the deadline.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let _backlog = TcpStream::connect(address).unwrap();
    let gateway = Gateway::with(&toml("connect_timeout = \"20s\"\nmax_connections = 2\n"), &[address]);
    let clients = [0; 6].map(|_| raw(gateway.address));
    eventually("connecting", || metric(&gateway, "portcullis_upstream_connections") == 2.0);
    eventually("waiting", || metric(&gateway, "portcullis_upstream_queued") == 4.0);
    drop(clients);
    all_is_over(&gateway);
}

#[test]
fn no_fault_of_a_server_leaks_room() {
    let backend = Backend::answering(|seen| {
        let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec();
        match seen.line.split(['/', ' ']).nth(3) {
            Some("before") => Answer::Reset(Vec::new()),
            Some("after") => Answer::Reset(half),
            Some("half") => Answer::Close(half),
            Some("stall") => Answer::Slowly(vec![(Duration::ZERO, half), (Duration::from_millis(800), Vec::new())]),
            Some("silent") => Answer::Slowly(vec![(Duration::from_millis(800), Vec::new())]),
            _ => Answer::ok("fine"),
        }
    });
    let limits =
        "max_connections = 1\nresponse_timeout = \"200ms\"\nbody_idle_timeout = \"200ms\"\nretries = \"never\"\n";
    let gateway = Gateway::with(&toml(limits), &[backend.address]);
    for _ in 0..2 {
        for (fault, refusal) in [
            ("before", Some((502, "upstream_broken"))),
            ("after", None),
            ("half", None),
            ("stall", None),
            ("silent", Some((504, "upstream_timeout"))),
        ] {
            let mut client: Client = gateway.connect();
            let request = format!("GET /public/{fault} HTTP/1.1\r\nHost: a\r\n\r\n");
            match refusal {
                Some((status, reason)) => {
                    assert_eq!(client.ask(request).refusal(), (status, reason.to_owned()), "{fault}")
                }
                None => {
                    client.send(request);
                    let bytes = String::from_utf8(client.drained().expect("closed")).unwrap();
                    assert!(bytes.starts_with("HTTP/1.1 200 OK") && bytes.ends_with("half"), "{fault}: {bytes}");
                }
            }
            // There is room for the next, and soon.
            assert_eq!(gateway.connect().ask(GET).text(), "fine", "after {fault}");
        }
    }
    all_is_over(&gateway);
}

#[test]
fn an_upload_that_the_server_does_not_take_is_given_up_whole() {
    // Accepted, and never read from.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let gateway = Gateway::with(&toml("response_timeout = \"1s\"\n"), &[listener.local_addr().unwrap()]);
    let head = "POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n";
    let piece = vec![b'x'; 1 << 20];
    // One client waits for its answer, the other does not.
    for stays in [true, false] {
        let mut stream = TcpStream::connect(gateway.address).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        // As much as there is room for on the way.
        while stream.write_all(&piece).is_ok() {}
        eventually("under way", || metric(&gateway, "portcullis_upstream_connections") == 1.0);
        if !stays {
            drop(stream);
            all_is_over(&gateway);
            continue;
        }
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 504");
        all_is_over(&gateway);
    }
}

#[test]
fn shared_connections_are_limited_too_and_who_waits_gets_a_place_on_one() {
    let server = Http2Server::with(None, 2);
    let one_worker = |upstream: &str| Toml { server: "workers = 1\n".into(), ..toml(upstream) };
    let gateway = Gateway::with(&one_worker("protocol = \"http2\"\nmax_connections = 1\n"), &[server.address]);
    let mut clients = [0; 5].map(|_| gateway.connect());
    for client in &mut clients {
        client.send("GET /public/hold HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    // Two at a time on the one connection.
    eventually("waiting", || metric(&gateway, "portcullis_upstream_queued") == 3.0);
    assert_eq!(metric(&gateway, "portcullis_upstream_connections"), 1.0);
    std::thread::scope(|scope| {
        let done = scope.spawn(|| clients.iter_mut().for_each(|client| assert_eq!(client.reply().status, 200)));
        while !done.is_finished() {
            server.release();
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    assert_eq!(server.connections(), 1);
    all_is_over(&gateway);
}
