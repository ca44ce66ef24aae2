//! Many requests over connections that are kept, each answer held against what was asked.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Front;
use super::common::{Client, Reply};

/// No answer after this is a hanging gateway.
const PATIENCE: Duration = Duration::from_secs(20);

/// A load on a gateway that speaks plain HTTP.
pub(crate) struct Load {
    address: SocketAddr,
    access: String,
    method: &'static str,
    path: String,
    pause: fn(usize) -> Duration,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// Answers that were right.
    pub(crate) good: usize,
    /// All answers by status; for a refusal of the gateway with its reason.
    pub(crate) statuses: BTreeMap<String, usize>,
    /// How long the slowest answer took.
    pub(crate) slowest: Duration,
    /// What was in the good ones.
    pub(crate) bodies: Vec<String>,
}

impl Counts {
    fn add(&mut self, other: Self) {
        self.good += other.good;
        self.slowest = self.slowest.max(other.slowest);
        self.bodies.extend(other.bodies);
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
    }
}

impl Load {
    pub(crate) fn new(front: &Front) -> Self {
        let (address, access) = (front.address(), front.access.clone());
        Self { address, access, method: "GET", path: "/".into(), pause: |_| Duration::ZERO }
    }

    /// `{n}` in the path becomes the number of the request.
    pub(crate) fn get(mut self, path: &str) -> Self {
        path.clone_into(&mut self.path);
        self
    }

    /// Sends `POST` with a body of four bytes.
    pub(crate) fn post(mut self, path: &str) -> Self {
        self.method = "POST";
        self.get(path)
    }

    /// Waits so long before a request, by its number within its thread.
    pub(crate) fn pausing(mut self, pause: fn(usize) -> Duration) -> Self {
        self.pause = pause;
        self
    }

    /// `threads` clients with a connection each send `each` requests, one after the other. `is_right` judges a reply by
    /// the number of its request, and knows the thread.
    pub(crate) fn run(
        &self,
        threads: usize,
        each: usize,
        is_right: impl Fn(usize, usize, &Reply) -> bool + Sync,
    ) -> Counts {
        let mut counts = Counts::default();
        std::thread::scope(|scope| {
            let is_right = &is_right;
            let clients: Vec<_> =
                (0..threads).map(|thread| scope.spawn(move || self.one(thread, each, is_right))).collect();
            for client in clients {
                counts.add(client.join().expect("a client that does not panic"));
            }
        });
        counts
    }

    fn one(&self, thread: usize, each: usize, is_right: &impl Fn(usize, usize, &Reply) -> bool) -> Counts {
        let mut counts = Counts::default();
        let mut client = None;
        for at in 0..each {
            std::thread::sleep((self.pause)(at));
            let number = thread * each + at;
            let start = Instant::now();
            let answer = self.ask(&mut client, number);
            counts.slowest = counts.slowest.max(start.elapsed());
            let status = match answer {
                Ok(reply) if is_right(number, thread, &reply) => {
                    counts.good += 1;
                    counts.bodies.push(reply.text());
                    reply.status.to_string()
                }
                Ok(reply) if reply.status < 400 => format!("{} wrong", reply.status),
                Ok(reply) => match serde_json::from_slice::<serde_json::Value>(&reply.body) {
                    Ok(json) => format!("{} {}", reply.status, json["reason"].as_str().unwrap_or("-")),
                    Err(_) => format!("{} of the server", reply.status),
                },
                Err(error) => format!("no answer: {}", error.kind()),
            };
            *counts.statuses.entry(status).or_default() += 1;
        }
        counts
    }

    /// One request, sent once; a connection that broke is replaced for the next.
    fn ask(&self, kept: &mut Option<Client>, number: usize) -> std::io::Result<Reply> {
        let mut client = match kept.take() {
            Some(client) => client,
            None => Client::try_plain(self.address, PATIENCE)?,
        };
        let body = if self.method == "POST" { "Content-Length: 4\r\n\r\nbody" } else { "\r\n" };
        client.try_send(format!(
            "{} {} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\n{body}",
            self.method,
            self.path.replace("{n}", &number.to_string()),
            self.access,
        ))?;
        let reply = client.try_reply(false)?;
        if reply.header("connection").is_none_or(|value| !value.eq_ignore_ascii_case("close")) {
            *kept = Some(client);
        }
        Ok(reply)
    }
}
