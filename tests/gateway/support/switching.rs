//! A backend that agrees to every `Upgrade` and then does with the bytes what the path says.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

/// What one upgraded connection was, told at its end.
#[derive(Debug)]
pub(crate) struct Tunnelled {
    /// The header of the request.
    pub(crate) head: String,
    /// All that came after it.
    pub(crate) bytes: Vec<u8>,
}

pub(crate) struct Switching {
    pub(crate) address: SocketAddr,
    ended: Mutex<Receiver<Tunnelled>>,
}

impl Switching {
    /// `/echo` sends back what comes, `/half` begins a frame of 100 bytes and sends 10 of them, `/flood` sends frames
    /// without end, `/other` switches to another protocol than was asked for, `/stale` accepts a key that nobody sent,
    /// `/plain` does not switch; the rest is silent.
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("bound");
        let address = listener.local_addr().expect("bound");
        let (sender, ended) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let sender = sender.clone();
                std::thread::spawn(move || serve(stream, &sender));
            }
        });
        Self { address, ended: Mutex::new(ended) }
    }

    /// The next upgraded connection that has ended, waiting for it.
    pub(crate) fn ended(&self) -> Tunnelled {
        self.ended.lock().expect("one test").recv_timeout(Duration::from_secs(10)).expect("an ended connection")
    }

    /// Whether one has ended that was not asked for yet.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended.lock().expect("one test").try_recv().is_ok()
    }
}

fn serve(mut stream: TcpStream, ended: &Sender<Tunnelled>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let field = |name: &str| {
        let prefix = format!("{name}: ");
        head.lines()
            .find(|line| line.to_ascii_lowercase().starts_with(&prefix))
            .map(|line| line[prefix.len()..].to_owned())
    };
    let protocol = field("upgrade").unwrap_or_default();
    if path.ends_with("/plain") || protocol.is_empty() {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nplain"));
        return serve(stream, ended);
    }
    let protocol = if path.ends_with("/other") { "other".to_owned() } else { protocol };
    let key = if path.ends_with("/stale") { Some("c3RhbGU=".to_owned()) } else { field("sec-websocket-key") };
    let accept = key.map(|key| accept_of(&key)).unwrap_or_default();
    // What comes right behind the header may share its packet.
    let first: &[u8] = if path.ends_with("/half") { b"\x82\x640123456789" } else { b"" };
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
    );
    drop(stream.write_all(&[answer.as_bytes(), first].concat()));
    if path.ends_with("/flood") {
        let mut writer = stream.try_clone().expect("cloned");
        std::thread::spawn(move || while writer.write_all(&[&b"\x82\x7e\x10\x00"[..], &[7; 4096]].concat()).is_ok() {});
    }
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    while let Ok(count @ 1..) = stream.read(&mut piece) {
        bytes.extend_from_slice(&piece[..count]);
        if path.ends_with("/echo") && stream.write_all(&piece[..count]).is_err() {
            break;
        }
    }
    // The test may be over.
    drop(ended.send(Tunnelled { head, bytes }));
}

/// RFC 6455 §4.2.2, written anew: the gateway checks it with code of its own.
fn accept_of(key: &str) -> String {
    use base64::Engine as _;
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(hash)
}
