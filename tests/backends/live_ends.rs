//! Streams end when their session ends, and other people's go on.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::support::{Front, Server, SignedIn, asgi, curl_as, in_turn, nginx};
use crate::websockets;

/// What is promised.
const SOON: Duration = Duration::from_secs(1);

/// A client that reads a stream until it is over.
struct Reader {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Reader {
    /// Reads up to the first `sign` that the stream is open.
    fn start(mut command: Command, sign: &str) -> Self {
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains(sign) {
            line.clear();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before {sign}");
        }
        Self { child, lines }
    }

    /// Reads to the end on a thread of its own: the last line, and the exit code.
    fn end(mut self) -> Receiver<(String, i32, Instant)> {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            let mut rest = Vec::new();
            self.lines.read_to_end(&mut rest).unwrap();
            let code = self.child.wait().unwrap().code().unwrap_or(-1);
            let text = String::from_utf8_lossy(&rest).into_owned();
            // The test may have failed meanwhile.
            drop(sender.send((text.lines().last().unwrap_or_default().to_owned(), code, Instant::now())));
        });
        receiver
    }

    fn is_open(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// What curl says of a response that was broken off: of HTTP/1.1 with and without TLS, and of HTTP/2.
const CUT: [i32; 3] = [18, 56, 92];

fn websocket(front: &Front, who: &SignedIn) -> Reader {
    Reader::start(websockets::client(front, "listens", Some(&who.access)), "open")
}

fn events(front: &Front, who: &SignedIn, version: &str) -> Reader {
    let url = front.url("/events?count=forever&gap=0.05");
    Reader::start(curl_as(front, &who.access, &[version, "--no-buffer", &url]), "id: 3")
}

fn download(front: &Front, who: &SignedIn, more: &[&str]) -> Reader {
    let url = front.url("/large");
    Reader::start(curl_as(front, &who.access, &[more, &["--no-buffer", &url]].concat()), "begins")
}

/// nginx with a file whose download would go on for minutes at the rate of `directives` or of the reader.
fn file_server(directives: &'static str) -> Server {
    let server = nginx(directives);
    std::fs::write(server.path("large"), ["begins\n".to_owned(), "x\n".repeat(64 << 20)].concat()).unwrap();
    server
}

/// Ends `who` by `end`, and looks what becomes of the streams of `who` and of another user.
fn streams_end(front: &Front, open: impl Fn(&SignedIn) -> Reader, end: impl FnOnce(&SignedIn)) -> (String, i32) {
    let (ann, other) = (front.sign_in("ann"), front.sign_in("other"));
    let (mut mine, mut others) = (open(&ann), open(&other));
    // A refresh cuts nothing.
    let ann = front.refresh(&ann);
    std::thread::sleep(SOON);
    assert!(mine.is_open(), "a refresh ended it");
    let start = Instant::now();
    let mine = mine.end();
    end(&ann);
    let (last, code, at) = mine.recv_timeout(Duration::from_secs(10)).expect("it ends");
    let took = at.duration_since(start);
    println!("ended after {took:.2?}: {last:?}, exit code {code}");
    assert!(took < SOON, "{took:?}");
    assert!(others.is_open(), "somebody else's ended too");
    (last, code)
}

#[test]
fn websocket_of_an_ended_session_is_closed_with_the_reason() {
    let _turn = in_turn();
    let server = websockets::server();
    let front = Front::of(server.address);
    let open = |who: &SignedIn| websocket(&front, who);
    let told = streams_end(&front, open, |who| front.end(&who.session));
    assert_eq!(told, ("closed 1008 security_action".to_owned(), 0));
    let told = streams_end(&front, open, |who| front.log_out(who));
    assert_eq!(told, ("closed 1008 signed_out".to_owned(), 0));
}

#[test]
fn event_stream_of_an_ended_session_is_cut() {
    let _turn = in_turn();
    let app = asgi();
    let front = Front::of(app.address);
    for version in ["--http1.1", "--http2"] {
        let open = |who: &SignedIn| events(&front, who, version);
        let (_, code) = streams_end(&front, open, |who| front.end(&who.session));
        assert!(CUT.contains(&code), "{version}: {code}");
        let (_, code) = streams_end(&front, open, |who| front.log_out(who));
        assert!(CUT.contains(&code), "{version}: {code}");
    }
    // The application hears of it too.
    crate::support::eventually("four readers are gone", Duration::from_secs(10), || {
        (app.log().matches("reader left").count() >= 4).then_some(())
    });
}

#[test]
fn download_of_an_ended_session_is_cut() {
    let _turn = in_turn();
    let server = file_server("limit_rate 500k;");
    let front = Front::of(server.address);
    for version in ["--http1.1", "--http2"] {
        let open = |who: &SignedIn| download(&front, who, &[version]);
        let (_, code) = streams_end(&front, open, |who| front.end(&who.session));
        assert!(CUT.contains(&code), "{version}: {code}");
    }
}

#[test]
fn download_of_an_ended_session_is_cut_also_while_nobody_reads_it() {
    let _turn = in_turn();
    let server = file_server("");
    let front = Front::of(server.address);
    let idle = front.idle_sockets();
    for version in ["--http1.1", "--http2"] {
        let who = front.sign_in("ann");
        let reader = download(&front, &who, &[version, "--limit-rate", "1K"]);
        // Until everything between is full.
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(front.sockets(), idle + 2, "{version}");
        front.end(&who.session);
        let took = front.settles_at(idle + usize::from(version == "--http2"));
        println!("{version}: both connections closed after {took:.2?}");
        assert!(took < SOON, "{version}: {took:?}");
        drop(reader);
    }
}
