//! What the fast lane must do as hyper does: each of these holds with it and without.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use crate::support::{Answer, Backend, Client, Gateway, Process, Toml, Workplace, eventually, metric};

/// As long as it fits into one read, so that the lane takes it whole; longer than small sockets hold.
const BODY: usize = 60_000;

/// A gateway with the lane and one without.
fn both(upstream: &str, limits: &str, server: std::net::SocketAddr) -> [Gateway; 2] {
    ["true", "false"].map(|lane| {
        let toml = Toml {
            server: format!("workers = 1\nfast_lane = {lane}\n"),
            upstream: upstream.into(),
            limits: limits.into(),
            tls: false,
            ..Toml::default()
        };
        Gateway::with(&toml, &[server])
    })
}

/// A server whose sockets take only a little of what nobody reads.
fn narrow() -> TcpListener {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(2048).unwrap();
    socket.set_tcp_mss(500).unwrap();
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(16).unwrap();
    socket.into()
}

/// The head of what comes next, and what came behind it.
fn head(stream: &mut TcpStream) -> (String, Vec<u8>) {
    let (mut bytes, mut piece) = (Vec::new(), [0; 1024]);
    loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(at + 4);
            return (String::from_utf8_lossy(&bytes).into_owned(), rest);
        }
        match stream.read(&mut piece) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&piece[..count]),
            _ => return (String::new(), bytes),
        }
    }
}

/// A request that came whole while the one before it was answered.
fn behind_another(method: &str, path: &str) -> String {
    let first = "GET /public/first HTTP/1.1\r\nHost: a\r\n\r\n";
    let body = "b".repeat(BODY);
    format!("{first}{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY}\r\n\r\n{body}")
}

/// What is left of it would be read from the next request: somebody else's would become its body.
#[test]
fn a_connection_whose_request_was_answered_before_all_of_it_was_sent_is_not_used_again() {
    let listener = narrow();
    let address = listener.local_addr().unwrap();
    let (sender, heads) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, sender) = (stream.unwrap(), sender.clone());
            std::thread::spawn(move || {
                loop {
                    let (head, mut body) = head(&mut stream);
                    if head.is_empty() {
                        return;
                    }
                    let is_early = head.starts_with("POST");
                    drop(sender.send(head));
                    // The next request comes meanwhile.
                    std::thread::sleep(Duration::from_millis(200));
                    drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"));
                    if is_early {
                        // It reads what belongs to the body, whoever it is from.
                        std::thread::sleep(Duration::from_millis(300));
                        drop(stream.set_read_timeout(Some(Duration::from_millis(500))));
                        let left = (BODY - body.len()) as u64;
                        drop((&mut stream).take(left).read_to_end(&mut body));
                        if let Some(at) = body.windows(6).position(|window| window == b"victim") {
                            drop(sender.send(format!("another request within the body, after {at} bytes")));
                        }
                        if body.len() < BODY {
                            return;
                        }
                        drop(stream.set_read_timeout(None));
                    }
                }
            });
        }
    });
    for gateway in both("", "", address) {
        let mut client = gateway.connect();
        client.send(behind_another("POST", "/public/upload"));
        assert_eq!((client.reply().text(), client.reply().text()), ("hi".to_owned(), "hi".to_owned()));
        let reply = gateway.connect().ask("GET /public/victim HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(reply.text(), "hi");
        for path in ["GET /public/first", "POST /public/upload", "GET /public/victim"] {
            let head = heads.recv_timeout(Duration::from_secs(5)).unwrap();
            assert!(head.starts_with(path), "{head}");
        }
    }
}

#[test]
fn a_server_that_answers_while_it_reads_gets_all_of_the_request() {
    let listener = narrow();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                loop {
                    let (head, mut body) = head(&mut stream);
                    if head.is_empty() {
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(200));
                    if head.starts_with("GET") {
                        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"));
                        continue;
                    }
                    drop(write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n"));
                    std::thread::sleep(Duration::from_millis(100));
                    let mut left = BODY;
                    loop {
                        drop(stream.write_all(&body));
                        left -= body.len();
                        if left == 0 {
                            break;
                        }
                        body.resize(1024, 0);
                        let count = stream.read(&mut body).unwrap_or_default();
                        if count == 0 {
                            return;
                        }
                        body.truncate(count);
                    }
                }
            });
        }
    });
    for gateway in both("body_idle_timeout = \"3s\"\n", "", address) {
        let mut client = gateway.connect();
        client.send(behind_another("POST", "/public/echo"));
        assert_eq!(client.reply().text(), "hi");
        let echo = client.try_reply(false).unwrap_or_else(|error| panic!("no echo: {error}"));
        assert_eq!(echo.text(), "b".repeat(BODY));
    }
}

#[test]
fn the_time_for_an_answer_begins_when_the_request_is_sent() {
    let backend = Backend::answering(|_| {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi".to_vec();
        Answer::Slowly(vec![(Duration::from_millis(700), bytes)])
    });
    for gateway in both("max_connections = 1\nresponse_timeout = \"1s\"\n", "", backend.address) {
        let request = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";
        let mut clients = [0; 3].map(|_| gateway.connect());
        for client in &mut clients {
            client.send(request);
        }
        let statuses = clients.map(|mut client| client.reply().status);
        assert_eq!(statuses, [200; 3]);
    }
}

#[test]
fn a_client_that_reads_slowly_gets_all_of_its_answer() {
    const LENGTH: usize = 500_000;
    let backend = Backend::answering(|_| Answer::ok(&"b".repeat(LENGTH)));
    for gateway in both("", "body_idle_timeout = \"2s\"\n", backend.address) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(2048).unwrap();
        socket.set_tcp_mss(500).unwrap();
        socket.connect(&gateway.address.into()).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(b"GET /public HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
        let (start, mut came, mut piece) = (Instant::now(), 0, [0; 1000]);
        loop {
            match stream.read(&mut piece) {
                Ok(0) => break,
                Ok(count) => came += count,
                Err(error) => panic!("cut after {came} bytes: {error}"),
            }
            if start.elapsed() < Duration::from_secs(6) {
                std::thread::sleep(Duration::from_millis(40));
            }
        }
        assert!(came > LENGTH, "{came}");
    }
}

/// A server may say nothing but interim responses, faster than they can be read.
#[test]
fn interim_responses_without_an_end_do_not_put_off_the_deadline() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                head(&mut stream);
                let many = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(5000);
                while stream.write_all(many.as_bytes()).is_ok() {}
            });
        }
    });
    for gateway in both("response_timeout = \"1s\"\n", "", address) {
        let start = Instant::now();
        let mut client = Client::try_plain(gateway.address, Duration::from_secs(5)).unwrap();
        let reply = client.ask("GET /public HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(reply.refusal(), (504, "upstream_timeout".to_owned()));
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
    }
}

/// Its connection to the server ends with it, and its request counts as one whose client has gone.
#[test]
fn a_client_that_leaves_takes_its_connection_to_the_server_along() {
    let backend = Backend::answering(|seen| match seen.line.contains("slow") {
        true => {
            Answer::Slowly(vec![(Duration::from_secs(1), b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno".to_vec())])
        }
        false => Answer::ok("hi"),
    });
    for gateway in both("", "", backend.address) {
        let before = backend.connections();
        let mut client = gateway.connect();
        client.send("GET /public/slow HTTP/1.1\r\nHost: a\r\n\r\n");
        while !backend.next().line.contains("slow") {}
        drop(client);
        eventually("counted", || metric(&gateway, "portcullis_refused_total{reason=\"client_gone\"}") == 1.0);
        std::thread::sleep(Duration::from_millis(1200));
        assert_eq!(gateway.connect().ask("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").text(), "hi");
        assert_eq!(backend.connections() - before, 2);
    }
}

/// The two ways keep connections of their own, in one room.
#[test]
fn connections_that_one_way_keeps_do_not_keep_those_of_the_other_out() {
    let backend = Backend::start();
    let [gateway, _] = both("keep_alive_connections = 1\n", "", backend.address);
    for fields in ["Connection: close, te\r\nTE: trailers\r\n", "Connection: close\r\n"] {
        let before = backend.connections();
        for _ in 0..5 {
            let reply = gateway.connect().ask(format!("GET /public HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
            assert_eq!(reply.text(), "hello");
        }
        assert!(backend.connections() - before <= 1, "{fields}");
    }
}

/// The lines of the access log, without what is another each time.
fn access_log(place: &Workplace) -> Vec<String> {
    let text = std::fs::read_to_string(place.path("access")).unwrap();
    let lines = text.lines().map(|line| {
        let mut line: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).expect("JSON");
        for name in ["time", "duration_ms", "request_id", "session"] {
            line.remove(name);
        }
        // That it is told is compared, not what.
        if let Some(time) = line.get_mut("upstream_ms") {
            *time = serde_json::Value::Null;
        }
        serde_json::Value::from(line).to_string()
    });
    lines.collect()
}

#[test]
fn the_access_log_says_the_same_of_both_ways() {
    let backend = Backend::answering(|seen| match seen.line.split(['/', ' ']).nth(3).unwrap_or_default() {
        "chunks" => {
            Answer::Bytes(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n".to_vec())
        }
        "none" => Answer::Bytes(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()),
        "close" => Answer::Close(b"HTTP/1.1 200 OK\r\n\r\nuntil it ends".to_vec()),
        "half" => Answer::Close(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec()),
        "broken" => Answer::Close(b"HTTP/1.1 20".to_vec()),
        "status" => Answer::Bytes(b"HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nhi".to_vec()),
        "late" => Answer::Slowly(vec![(Duration::from_millis(1500), Vec::new())]),
        "stalls" => Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec()),
        _ => Answer::ok("hello"),
    });
    let logs = ["true", "false"].map(|lane| {
        let place = Arc::new(Workplace::new());
        let toml = Toml {
            server: format!("workers = 1\nfast_lane = {lane}\n"),
            upstream: "response_timeout = \"1s\"\nbody_idle_timeout = \"1s\"\n".into(),
            tls: false,
            ..Toml::default()
        };
        let text = toml.text(&[backend.address]).replace("access = \"off\"", "access = \"all\"\nformat = \"json\"");
        let process = Process::start_with(&place, &text);
        let (token, _) = process.sign_in("ann");
        let all = ["plain", "chunks", "none", "close", "half", "broken", "status", "late", "stalls"];
        let public = all.map(|path| format!("GET /public/{path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        let authorization = format!("Authorization: Bearer {token}\r\n");
        let fields = ["", &authorization, "Authorization: Bearer x\r\n"];
        let asked = fields.iter().flat_map(|fields| {
            ["GET", "HEAD", "DELETE"]
                .map(|method| format!("{method} /a?b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{fields}\r\n"))
        });
        for request in public.into_iter().chain(asked) {
            drop(Client::plain(process.address).send(request).drained());
        }
        process.stop();
        access_log(&place)
    });
    assert_eq!(logs[0].len(), 18);
    assert_eq!(logs[0], logs[1]);
}

/// What a gateway counts of connections and requests, without what has stayed at nothing.
fn counted(gateway: &Gateway) -> Vec<String> {
    let text = portcullis::telemetry::metrics::encode(&gateway.app().gateway().metrics).expect("written");
    let names = ["closed_total", "refused_total", "requests_total", "ejected", "retried_total"];
    let lines = text.lines().filter(|line| {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        !name.contains("fast_lane") && names.iter().any(|end| name.ends_with(end)) && !line.ends_with(" 0")
    });
    lines.map(str::to_owned).collect()
}

/// A client that is slow, silent, odd or gone: what it sends, and how long it waits before it reads.
const ODD: &[(&str, &str, u64)] = &[
    ("silent", "", 0),
    ("half a header", "GET /public HTTP/1.1\r\nHo", 0),
    ("idle", "GET /public HTTP/1.1\r\nHost: a\r\n\r\n", 0),
    ("half a header behind", "GET /public HTTP/1.1\r\nHost: a\r\n\r\nGET / HT", 0),
    ("half a header behind one that waits", "GET /public/slow HTTP/1.1\r\nHost: a\r\n\r\nGET / HT", 0),
    ("half a body", "POST /public HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf", 0),
    ("no request behind", "GET /public HTTP/1.1\r\nHost: a\r\n\r\nno request\r\n\r\n", 0),
    (
        "another form behind",
        "GET /public HTTP/1.1\r\nHost: a\r\n\r\nGET http://a/public HTTP/1.1\r\nHost: a\r\n\r\n",
        0,
    ),
    ("takes nothing", "GET /public/large HTTP/1.1\r\nHost: a\r\n\r\n", 3000),
    ("broken off", "GET /public/half HTTP/1.1\r\nHost: a\r\n\r\n", 0),
    ("reset", "GET /public/reset HTTP/1.1\r\nHost: a\r\n\r\n", 0),
    ("stalls", "GET /public/stalls HTTP/1.1\r\nHost: a\r\n\r\n", 0),
    ("stalls, of two types", "GET /public/types HTTP/1.1\r\nHost: a\r\n\r\n", 0),
    ("never answered", "GET /public/never HTTP/1.1\r\nHost: a\r\n\r\n", 0),
    ("more behind the last", "GET /public HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\nGET /public HTTP/1.1\r\n", 0),
];

#[test]
fn the_same_deadline_ends_the_same_connection_with_the_same_answer() {
    let backend = Backend::answering(|seen| {
        let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf".to_vec();
        match seen.line.split(['/', ' ']).nth(3).unwrap_or_default() {
            "slow" => Answer::Slowly(vec![(Duration::from_millis(900), b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())]),
            "large" => Answer::ok(&"b".repeat(20_000_000)),
            "half" => Answer::Close(half),
            "reset" => Answer::Reset(half),
            "stalls" => Answer::Bytes(half),
            "types" => Answer::Bytes(
                b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Type: text/event-stream\r\nContent-Length: 10\r\n\r\n\
                  half"
                    .to_vec(),
            ),
            "never" => Answer::Bytes(Vec::new()),
            _ => Answer::ok("hello"),
        }
    });
    let upstream = "response_timeout = \"1200ms\"\nbody_idle_timeout = \"700ms\"\n";
    let limits = "header_timeout = \"500ms\"\nidle_timeout = \"1s\"\nbody_idle_timeout = \"1s\"\n";
    let became = |lane: bool, tls: bool, sent: &str, pause: u64| {
        let toml = Toml {
            server: format!("workers = 1\nfast_lane = {lane}\n"),
            upstream: upstream.into(),
            limits: limits.into(),
            tls,
            ..Toml::default()
        };
        let gateway = Gateway::with(&toml, &[backend.address]);
        let mut client = gateway.connect();
        let start = Instant::now();
        client.send(sent);
        std::thread::sleep(Duration::from_millis(pause));
        let bytes = client.drained().expect("closed");
        let took = start.elapsed().as_millis();
        let another_each_time = ["date:", "x-request-id:", "{\"error\""];
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let mut lines: Vec<String> = text
            .split("\r\n")
            .filter(|line| !another_each_time.iter().any(|start| line.starts_with(start)))
            .map(|line| if line.len() > 1000 { "much".to_owned() } else { line.to_owned() })
            .collect();
        lines.sort();
        // What is left to be counted is counted with the end of the connection.
        std::thread::sleep(Duration::from_millis(100));
        (lines, counted(&gateway), took)
    };
    let mut failed = Vec::new();
    for cases in ODD.chunks(3) {
        let compare = &|(name, sent, pause): &(&str, &str, u64), tls| {
            let (lane, hyper) = (became(true, tls, sent, *pause), became(false, tls, sent, *pause));
            let same = (&lane.0, &lane.1) == (&hyper.0, &hyper.1) && lane.2.abs_diff(hyper.2) < 400;
            (!same).then(|| format!("{name}, tls {tls}:\n    lane:  {lane:?}\n    hyper: {hyper:?}"))
        };
        std::thread::scope(|scope| {
            let each = cases.iter().flat_map(|case| [(case, false), (case, true)]);
            let running: Vec<_> = each.map(|(case, tls)| scope.spawn(move || compare(case, tls))).collect();
            failed.extend(running.into_iter().filter_map(|one| one.join().unwrap()));
        });
    }
    assert!(failed.is_empty(), "{} failed\n{}", failed.len(), failed.join("\n"));
}
