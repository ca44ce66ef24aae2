//! The access log: one line a request, written when its response has ended.
//!
//! Workers format into a buffer of their own; one thread writes to standard output. When the output does not keep up,
//! lines are dropped and counted: a full pipe must not stop requests.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, StatusCode, Version};
use smallvec::SmallVec;

use super::metrics::WorkerMetrics;
use crate::clock::UnixTime;
use crate::config::{AccessLog, Log};
use crate::headers::answer::AnswerFields;
use crate::live::Stream;
use crate::reject::Reason;
use crate::route::Route;
use crate::token::Identity;
use crate::token::cache::Verified;

/// A worker hands its lines over when it has so many bytes of them.
const FULL: usize = 32 * 1024;
/// Buffers under way between all workers and the writer.
const QUEUE: usize = 256;

/// The writing thread's end.
#[derive(Debug)]
pub struct AccessWriter {
    sender: SyncSender<Vec<u8>>,
    thread: Option<std::thread::JoinHandle<()>>,
    human: bool,
    what: AccessLog,
}

impl AccessWriter {
    /// Starts the thread that writes to standard output.
    ///
    /// # Errors
    /// When no thread can be started.
    pub fn start(log: &Log) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        let human = super::is_human(log.format, std::io::stdout().is_terminal());
        let thread = std::thread::Builder::new().name("access-log".into()).spawn(move || write_all(&receiver))?;
        Ok(Self { sender, thread: Some(thread), human, what: log.access })
    }

    /// What makes a worker's end, on the worker's thread.
    pub fn sender(&self) -> AccessSender {
        AccessSender { sender: self.sender.clone(), human: self.human, what: self.what }
    }

    /// Waits until everything handed over is written. Call it once the workers are gone.
    pub fn finish(mut self) {
        drop(self.sender);
        if let Some(thread) = self.thread.take() {
            // A panic there was already printed by its thread.
            drop(thread.join());
        }
    }
}

/// The way to the writing thread.
#[derive(Debug)]
pub struct AccessSender {
    sender: SyncSender<Vec<u8>>,
    human: bool,
    what: AccessLog,
}

impl AccessSender {
    /// A worker's end; `routes` are their names by index.
    pub fn worker(self, metrics: Arc<WorkerMetrics>, routes: Vec<Arc<str>>) -> Rc<WorkerLog> {
        Rc::new(WorkerLog {
            buffer: RefCell::new(Vec::with_capacity(FULL)),
            sender: self.sender,
            metrics,
            human: self.human,
            what: self.what,
            sampled: std::cell::Cell::new(0.0),
            routes,
        })
    }
}

fn write_all(receiver: &Receiver<Vec<u8>>) {
    while let Ok(lines) = receiver.recv() {
        // Locked for one write only: others in this process print, too.
        let mut out = std::io::stdout().lock();
        // Nobody reads standard output any more: requests go on without a log.
        if out.write_all(&lines).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

/// A worker's buffer of lines.
#[derive(Debug)]
pub struct WorkerLog {
    buffer: RefCell<Vec<u8>>,
    sender: SyncSender<Vec<u8>>,
    metrics: Arc<WorkerMetrics>,
    human: bool,
    what: AccessLog,
    sampled: std::cell::Cell<f64>,
    /// Names by index.
    routes: Vec<Arc<str>>,
}

impl WorkerLog {
    /// Hands the lines over to the writer; called now and then by the worker, and at its end.
    pub fn flush(&self) {
        let mut buffer = self.buffer.borrow_mut();
        if buffer.is_empty() {
            return;
        }
        let lines = std::mem::replace(&mut *buffer, Vec::with_capacity(FULL));
        if let Err(TrySendError::Full(lines) | TrySendError::Disconnected(lines)) = self.sender.try_send(lines) {
            let dropped = lines.iter().filter(|b| **b == b'\n').count();
            self.metrics.log_dropped.add(u64::try_from(dropped).unwrap_or(u64::MAX));
        }
    }

    fn wants(&self, entry: &AccessEntry) -> bool {
        let fine = entry.reason.is_none() && entry.would_refuse.is_none();
        let good = fine && !entry.status.is_some_and(|status| status.is_server_error());
        match self.what {
            AccessLog::All => true,
            AccessLog::Off => false,
            AccessLog::Refused => !good,
            AccessLog::Sample(share) => {
                if !good {
                    return true;
                }
                // Every n-th on average, evenly spread, without a random number.
                let sum = self.sampled.get() + share;
                self.sampled.set(sum.fract());
                sum >= 1.0
            }
        }
    }

    fn write(&self, entry: &AccessEntry) {
        if !self.wants(entry) {
            return;
        }
        let mut buffer = self.buffer.borrow_mut();
        if self.human {
            entry.write_human(&mut Text(&mut buffer));
        } else {
            entry.write_json(&mut Text(&mut buffer));
        }
        let full = buffer.len() >= FULL;
        drop(buffer);
        if full {
            self.flush();
        }
    }
}

/// Bytes as a place to format into, which never fails.
struct Text<'a>(&'a mut Vec<u8>);

impl std::fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// What is told of a request itself.
#[derive(Debug)]
pub struct Asked<'r> {
    /// Its method.
    pub method: Method,
    /// That of the client's connection.
    pub version: Version,
    /// The host it names, as the client wrote it.
    pub host: Option<&'r str>,
    /// Without the query: people put secrets there.
    pub path: &'r str,
}

impl<'r> Asked<'r> {
    /// Of a request in hyper's terms.
    pub fn of(request: &'r http::request::Parts) -> Self {
        let field = || request.headers.get(http::header::HOST)?.to_str().ok();
        Self {
            method: request.method.clone(),
            version: request.version,
            host: request.uri.authority().map(http::uri::Authority::as_str).or_else(field),
            path: request.uri.path(),
        }
    }
}

/// One request, from its header to the end of its response. Counted and written when dropped.
#[derive(Debug)]
pub struct AccessEntry {
    log: Rc<WorkerLog>,
    start: Instant,
    /// The client, behind trusted proxies too.
    pub client: IpAddr,
    method: Method,
    version: Version,
    /// Host and path, one after the other: short enough mostly to need no memory of their own.
    text: SmallVec<[u8; 96]>,
    /// Bytes of the host in `text`; `None` when the request names none that is text.
    host: Option<usize>,
    /// `X-Request-Id`
    pub request_id: HeaderValue,
    /// Index of the route: its name is looked up when it is written, for a count shared by all threads must not be
    /// touched by each request.
    route: Option<usize>,
    /// Who was calling.
    pub identity: Option<Rc<Verified>>,
    /// The status that was answered.
    pub status: Option<StatusCode>,
    /// Why it was refused or went wrong.
    pub reason: Option<Reason>,
    /// Why it would have been refused on a route that did not only observe.
    pub would_refuse: Option<Reason>,
    /// What the answer must tell, whoever gives it.
    pub answer_fields: Option<Box<AnswerFields>>,
    /// From handing the request over to the response header.
    pub upstream_time: Option<Duration>,
    /// `host:port` of the server that got the request.
    pub server: Option<Rc<str>>,
    /// Bytes of the response body handed to the connection.
    pub sent: u64,
}

impl AccessEntry {
    /// At the end of a request's header.
    pub fn begin(log: Rc<WorkerLog>, client: IpAddr, request: Asked<'_>, request_id: HeaderValue) -> Self {
        let mut text = SmallVec::from_slice(request.host.unwrap_or_default().as_bytes());
        text.extend_from_slice(request.path.as_bytes());
        Self {
            log,
            start: Instant::now(),
            client,
            method: request.method,
            version: request.version,
            text,
            host: request.host.map(str::len),
            request_id,
            route: None,
            identity: None,
            status: None,
            reason: None,
            would_refuse: None,
            answer_fields: None,
            upstream_time: None,
            server: None,
            sent: 0,
        }
    }

    /// The route it took.
    pub fn set_route(&mut self, route: &Route) {
        self.route = Some(route.index());
    }

    /// Who is calling, as the upstream may know it: nobody whom the route would have refused.
    pub fn caller(&self) -> Option<&Identity> {
        if self.would_refuse.is_some() { None } else { self.identity.as_deref().map(|known| &known.identity) }
    }

    /// Notes how a stream ended that began well: cut with its session, or left open after it on a route that observes.
    pub fn note_end(&mut self, stream: &Stream) {
        self.reason = stream.is_cut().or(self.reason);
        self.would_refuse = self.would_refuse.or(stream.would_end());
    }

    /// What the answer must tell, to be added to.
    pub fn answer_fields(&mut self) -> &mut AnswerFields {
        self.answer_fields.get_or_insert_default()
    }

    fn fields(&self) -> Fields<'_> {
        let duration = self.start.elapsed();
        Fields {
            duration,
            host: self.host.and_then(|length| text(self.text.get(..length)?)),
            path: self.text.get(self.host.unwrap_or_default()..).and_then(text).unwrap_or_default(),
            route: self.route.and_then(|index| self.log.routes.get(index)).map_or("-", |name| name),
            status: self.status.map_or(0, |status| status.as_u16()),
            protocol: match self.version {
                Version::HTTP_2 => "HTTP/2",
                Version::HTTP_10 => "HTTP/1.0",
                _ => "HTTP/1.1",
            },
        }
    }

    /// One JSON object.
    fn write_json(&self, out: &mut Text<'_>) {
        let fields = self.fields();
        let _ = write!(out, "{{\"time\":\"{}\",\"client\":\"{}\",\"method\":\"", UnixTime::now(), self.client);
        escape(out, self.method.as_str());
        let _ = write!(out, "\",\"protocol\":\"{}\"", fields.protocol);
        if let Some(host) = fields.host {
            out.0.extend_from_slice(b",\"host\":\"");
            escape(out, host);
            out.0.push(b'"');
        }
        out.0.extend_from_slice(b",\"path\":\"");
        escape(out, fields.path);
        out.0.extend_from_slice(b"\",\"route\":\"");
        escape(out, fields.route);
        let _ = write!(
            out,
            "\",\"status\":{},\"duration_ms\":{:.3},\"body_bytes\":{}",
            fields.status,
            millis(fields.duration),
            self.sent
        );
        if let Some(time) = self.upstream_time {
            let _ = write!(out, ",\"upstream_ms\":{:.3}", millis(time));
        }
        if let Some(server) = &self.server {
            out.0.extend_from_slice(b",\"upstream\":\"");
            escape(out, server);
            out.0.push(b'"');
        }
        if let Some(known) = &self.identity {
            out.0.extend_from_slice(b",\"user\":\"");
            escape(out, known.identity.user.as_str());
            out.0.extend_from_slice(b"\",\"session\":\"");
            escape(out, known.identity.session_header.to_str().unwrap_or("-"));
            out.0.push(b'"');
        }
        if let Some(reason) = self.reason {
            let _ = write!(out, ",\"reason\":\"{}\"", reason.as_str());
        }
        if let Some(reason) = self.would_refuse {
            let _ = write!(out, ",\"would_refuse\":\"{}\"", reason.as_str());
        }
        out.0.extend_from_slice(b",\"request_id\":\"");
        escape(out, self.request_id.to_str().unwrap_or("-"));
        out.0.extend_from_slice(b"\"}\n");
    }

    fn write_human(&self, out: &mut Text<'_>) {
        let fields = self.fields();
        let _ = write!(out, "{} {} ", UnixTime::now(), self.client);
        escape(out, self.method.as_str());
        out.0.push(b' ');
        escape(out, fields.host.unwrap_or("-"));
        escape(out, fields.path);
        let _ = write!(out, " {} {} {:.1}ms route=\"", fields.protocol, fields.status, millis(fields.duration));
        escape(out, fields.route);
        out.0.push(b'"');
        if let Some(known) = &self.identity {
            out.0.extend_from_slice(b" user=\"");
            escape(out, known.identity.user.as_str());
            out.0.extend_from_slice(b"\" session=");
            escape(out, known.identity.session_header.to_str().unwrap_or("-"));
        }
        if let Some(time) = self.upstream_time {
            let _ = write!(out, " upstream={:.1}ms", millis(time));
        }
        if let Some(reason) = self.reason {
            let _ = write!(out, " reason={}", reason.as_str());
        }
        if let Some(reason) = self.would_refuse {
            let _ = write!(out, " would_refuse={}", reason.as_str());
        }
        out.0.push(b'\n');
    }
}

/// Both parts of it were text.
fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

struct Fields<'a> {
    duration: Duration,
    host: Option<&'a str>,
    path: &'a str,
    route: &'a str,
    status: u16,
    protocol: &'static str,
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// A line stays one line and a string one string, whatever a client put in it.
fn escape(out: &mut Text<'_>, text: &str) {
    if text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'"' && b != b'\\') {
        out.0.extend_from_slice(text.as_bytes());
        return;
    }
    for character in text.chars() {
        match character {
            '"' => out.0.extend_from_slice(b"\\\""),
            '\\' => out.0.extend_from_slice(b"\\\\"),
            ' '..='~' => out.0.push(character as u8),
            other => {
                let mut units = [0; 2];
                for unit in other.encode_utf16(&mut units) {
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
}

impl Drop for AccessEntry {
    fn drop(&mut self) {
        let metrics = &self.log.metrics;
        if self.status.is_none() {
            // Dropped before an answer: the client closed its connection or reset its stream.
            self.reason = Some(Reason::ClientGone);
            self.status = Some(Reason::ClientGone.status());
        }
        let route = self.route.unwrap_or(metrics.requests.len() - 1);
        let class = self.status.map_or(0, |status| usize::from(status.as_u16() / 100)).min(5);
        metrics.requests[route][class].add(1);
        if let Some(reason) = self.reason {
            metrics.refused[reason.index()].add(1);
        }
        if let Some(reason) = self.would_refuse {
            metrics.would_refuse[reason.index()].add(1);
        }
        metrics.duration.observe(self.start.elapsed());
        let log = self.log.clone();
        log.write(self);
    }
}
