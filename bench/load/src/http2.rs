//! HTTP/2 over TLS: a few connections with many requests at once on each, a new one for each reply, and every reply
//! looked at.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::time::Timespec;

use crate::Fault;
use crate::hpack::field;
use crate::latency::count;
use crate::target::Target;
use crate::transport::{Transport, client};

/// Fields of the static table of HPACK (RFC 7541 appendix A) by their number.
const AUTHORITY: usize = 1;
const PATH: usize = 4;
const AUTHORIZATION: usize = 23;

/// `:method: GET` and `:scheme: https`, whole fields of that table.
const GET_HTTPS: [u8; 2] = [0x82, 0x87];

/// `:status: 200`, likewise.
const OK: u8 = 0x88;

/// Frames (RFC 9113 §6) and their flags.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const FRAME_HEADER: usize = 9;

/// Whom to ask, over how much, and how long.
#[derive(serde::Deserialize)]
pub(crate) struct Job {
    #[serde(flatten)]
    target: Target,
    connections: usize,
    streams: usize,
    seconds: f64,
}

/// What came back in time.
#[derive(serde::Serialize)]
pub(crate) struct Told {
    requests: usize,
    seconds: f64,
    rate: f64,
}

/// A connection, the requests in flight on it with how much of their body has come, and the next number of one.
struct Line {
    transport: Transport,
    open: HashMap<u32, usize>,
    next: u32,
    read: Vec<u8>,
    out: Vec<u8>,
}

impl Job {
    /// Keeps all streams busy until the time is over.
    pub(crate) fn run(&self) -> Result<Told, Fault> {
        let blocks = self.blocks()?;
        let tls = Arc::new(client(false, b"h2")?);
        let watch = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let (mut lines, mut sent) = (Vec::new(), 0);
        let begin = Instant::now();
        for number in 0..self.connections {
            let transport = Transport::connect(self.target.address, Some(&tls))?;
            let number = epoll::EventData::new_u64(u64::try_from(number)?);
            epoll::add(&watch, &transport, number, epoll::EventFlags::IN)?;
            let mut line = Line {
                transport,
                open: HashMap::new(),
                next: 1,
                read: Vec::new(),
                out: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(),
            };
            // No push, and windows that replies never fill: the reader has nothing to say about them.
            frame(&mut line.out, SETTINGS, 0, 0, &[0, 2, 0, 0, 0, 0, 0, 4, 0x7f, 0xff, 0xff, 0xff]);
            frame(&mut line.out, WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0, 0]);
            for _ in 0..self.streams {
                line.ask(&blocks[sent % blocks.len()]);
                sent += 1;
            }
            line.transport.send(&line.out)?;
            lines.push(line);
        }
        let mut done = 0;
        let mut events = Vec::with_capacity(self.connections);
        while begin.elapsed().as_secs_f64() < self.seconds {
            let patience = Timespec { tv_sec: 1, tv_nsec: 0 };
            if epoll::wait(&watch, rustix::buffer::spare_capacity(&mut events), Some(&patience))? == 0 {
                return Err("no reply in a second".into());
            }
            for event in events.drain(..) {
                let line = &mut lines[usize::try_from(event.data.u64())?];
                line.transport.receive(&mut line.read)?;
                line.out.clear();
                let answered = line.take(self.target.body.as_bytes())?;
                done += answered;
                for _ in 0..answered {
                    line.ask(&blocks[sent % blocks.len()]);
                    sent += 1;
                }
                if !line.out.is_empty() {
                    line.transport.send(&line.out)?;
                }
            }
        }
        let seconds = Duration::as_secs_f64(&begin.elapsed());
        Ok(Told { requests: done, seconds, rate: count(done) / seconds })
    }

    /// A header block for each token. The tables of a connection keep nothing: any stream may send any of them.
    fn blocks(&self) -> Result<Vec<Vec<u8>>, Fault> {
        let mut blocks = Vec::new();
        for token in self.target.tokens()? {
            let mut block = GET_HTTPS.to_vec();
            let authority = self.target.address.to_string();
            for (name, value) in
                [(AUTHORITY, &authority), (PATH, &self.target.path), (AUTHORIZATION, &format!("Bearer {token}"))]
            {
                block.extend(field(name, value).ok_or_else(|| format!("no Huffman code for {value}"))?);
            }
            blocks.push(block);
        }
        Ok(blocks)
    }
}

impl Line {
    /// Adds a request to what is to be sent.
    fn ask(&mut self, block: &[u8]) {
        frame(&mut self.out, HEADERS, END_STREAM | END_HEADERS, self.next, block);
        self.open.insert(self.next, 0);
        self.next += 2;
    }

    /// Takes the whole frames that have come: how many replies they ended, each with status 200 and the expected body.
    fn take(&mut self, expected: &[u8]) -> Result<usize, Fault> {
        let (mut done, mut at) = (0, 0);
        while let Some(header) = self.read.get(at..at + FRAME_HEADER) {
            let length = usize::from(header[0]) << 16 | usize::from(header[1]) << 8 | usize::from(header[2]);
            let (kind, flags) = (header[3], header[4]);
            let stream = u32::from_be_bytes([header[5] & 0x7f, header[6], header[7], header[8]]);
            let Some(payload) = self.read.get(at + FRAME_HEADER..at + FRAME_HEADER + length) else { break };
            at += FRAME_HEADER + length;
            match kind {
                HEADERS if flags & END_HEADERS != 0 && flags & END_STREAM == 0 => {
                    // The tables may be resized first (RFC 7541 §6.3).
                    let status = payload.iter().find(|byte| **byte & 0xe0 != 0x20);
                    if status != Some(&OK) {
                        return Err(format!("a reply that is no 200: {payload:02x?}").into());
                    }
                }
                DATA => {
                    let come = self.open.get_mut(&stream).ok_or("data of a stream that is not open")?;
                    if expected.get(*come..*come + length) != Some(payload) {
                        return Err(format!("a wrong body: {}", String::from_utf8_lossy(payload)).into());
                    }
                    *come += length;
                    if flags & END_STREAM != 0 {
                        if *come != expected.len() {
                            return Err("a body that is too short".into());
                        }
                        self.open.remove(&stream);
                        done += 1;
                    }
                }
                SETTINGS if flags & ACK == 0 => frame(&mut self.out, SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => {
                    let payload = payload.to_vec();
                    frame(&mut self.out, PING, ACK, 0, &payload);
                }
                SETTINGS | PING | WINDOW_UPDATE => {}
                _ => return Err(format!("a frame of kind {kind} with flags {flags:02x}: {payload:02x?}").into()),
            }
        }
        self.read.drain(..at);
        Ok(done)
    }
}

/// Adds a frame.
fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let [low, middle, high, ..] = payload.len().to_le_bytes();
    out.extend([high, middle, low, kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}
