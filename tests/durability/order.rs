//! The order of the system calls themselves: the write of a change, the sync of its file, and only then the answer.
//!
//! A trace shows it for every single answer, whatever the disk would have done.

use std::collections::HashMap;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::power_cuts::{logout, successor, toml};
use crate::support::{Backend, Client, Process, Workplace, signal};

const CLIENTS: usize = 12;
const EACH: usize = 25;

/// strace at work on a process.
struct Trace {
    strace: Child,
}

impl Trace {
    fn start(process: &Process) -> Self {
        let calls = "trace=write,writev,sendto,sendmsg,pwrite64,fsync,fdatasync";
        let mut strace = Command::new("strace")
            // Follows all threads, names files, prints what is not text in hexadecimal, and nothing short.
            .args(["-f", "-y", "-x", "-s", "1000000", "-e", calls, "-e", "signal=none", "-o"])
            .arg(process.place.path("trace"))
            .args(["-p", &process.child.id().to_string()])
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace, which the check of a change installs");
        // It says so once it is attached to all threads, or why it may not.
        let mut told = String::new();
        let mut stderr = strace.stderr.take().unwrap();
        let start = Instant::now();
        while !told.contains("attached") {
            let mut some = [0; 1000];
            let length = stderr.read(&mut some).unwrap();
            told.push_str(&String::from_utf8_lossy(&some[..length]));
            assert!(length > 0 && start.elapsed() < Duration::from_secs(30), "strace may not trace here: {told}");
        }
        // What it says later must go somewhere.
        std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
        Self { strace }
    }

    /// Ends it; every line is written by then.
    fn stop(mut self) {
        signal(&self.strace, "INT");
        self.strace.wait().unwrap();
    }
}

/// One call: the lines of the trace at which it began and ended, and what it was given.
struct Call {
    name: String,
    file: String,
    began: usize,
    ended: usize,
    arguments: String,
}

fn calls(trace: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut unfinished: HashMap<&str, usize> = HashMap::new();
    for (number, line) in trace.lines().enumerate() {
        let Some((thread, text)) = line.split_once(' ') else { continue };
        let text = text.trim_start();
        if text.starts_with("<... ") {
            if let Some(call) = unfinished.remove(thread) {
                calls[call].ended = number;
            }
            continue;
        }
        let Some((name, arguments)) = text.split_once('(') else { continue };
        let file = arguments.split_once('<').and_then(|(_, rest)| rest.split_once('>')).map_or("", |(file, _)| file);
        let ended = if text.ends_with("<unfinished ...>") {
            unfinished.insert(thread, calls.len());
            usize::MAX
        } else {
            number
        };
        let (name, file, arguments) = (name.to_owned(), file.to_owned(), arguments.to_owned());
        calls.push(Call { name, file, began: number, ended, arguments });
    }
    calls
}

/// The bytes of the first string among the arguments, which has something that is not text in it.
fn bytes(arguments: &str) -> Vec<u8> {
    let text = arguments.split_once("\"\\x").map_or("", |(_, rest)| rest);
    let text = text.split('"').next().unwrap();
    text.split("\\x").map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// What was written to the journal: all of it, and behind which byte each write ended.
struct Journal<'a> {
    bytes: Vec<u8>,
    writes: Vec<(usize, &'a Call)>,
    syncs: Vec<&'a Call>,
}

impl<'a> Journal<'a> {
    fn new(calls: &'a [Call]) -> Self {
        let mut journal = Self { bytes: Vec::new(), writes: Vec::new(), syncs: Vec::new() };
        for call in calls.iter().filter(|call| call.file.ends_with(".jnl")) {
            match call.name.as_str() {
                "write" => {
                    journal.bytes.extend(bytes(&call.arguments));
                    journal.writes.push((journal.bytes.len(), call));
                }
                "fsync" | "fdatasync" => journal.syncs.push(call),
                other => panic!("a call to the journal that is not known here: {other}"),
            }
        }
        journal
    }

    /// Why an answer came too early that acknowledges what `find` finds; it gives the end of that in the journal.
    fn too_early(&self, answer: &Call, find: impl Fn(&[u8]) -> bool, length: usize) -> Option<&'static str> {
        let Some(at) = self.bytes.windows(length).position(find) else { return Some("is not in the journal") };
        let write = self.writes.iter().find(|(end, _)| *end >= at + length).unwrap().1;
        let synced = self.syncs.iter().any(|sync| sync.began > write.ended && sync.ended < answer.began);
        (!synced).then_some("was answered before its sync had ended")
    }
}

#[test]
fn the_sync_of_every_rotation_sign_in_and_end_precedes_its_answer() {
    let backend = Backend::start();
    let place = Arc::new(Workplace::new());
    let process = Process::start(&place, &toml(), &backend);
    let trace = Trace::start(&process);
    // Signed in and out one after the other: answers without a token are told apart by their order.
    let mut ended = Vec::new();
    for number in 0..EACH {
        let (access, token) = process.sign_in(&format!("gone-{number}"));
        assert_eq!(Client::plain(process.address).ask(logout(&access)).status, 204);
        ended.push(parts(&token).0);
    }
    // Many at once share their syncs.
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let process = &process;
            scope.spawn(move || {
                let mut token = process.sign_in(&format!("user-{number}")).1;
                let mut client = Client::plain(process.address);
                for _ in 0..EACH {
                    token = successor(&mut client, &token).unwrap();
                }
            });
        }
    });
    trace.stop();
    let text = std::fs::read_to_string(place.path("trace")).unwrap();
    let calls = calls(&text);
    let journal = Journal::new(&calls);
    let answers = || calls.iter().filter(|call| call.file.starts_with("socket:") || call.file.starts_with("TCP"));
    let mut wrong = Vec::new();

    let mut rotations = 0;
    for answer in answers().filter(|call| call.arguments.contains("HTTP/1.1 20")) {
        let Some(at) = answer.arguments.find("pcr_") else { continue };
        let (session, counter) = parts(&answer.arguments[at..]);
        rotations += 1;
        // Session, version, time of the last request, counter: the start of a row behind its key.
        let row = |bytes: &[u8]| bytes[..16] == session && bytes[16] == 1 && bytes[25..] == counter;
        let fault = journal.too_early(answer, row, 33);
        wrong.extend(fault.map(|fault| format!("counter {counter:?} of {session:?} {fault}")));
    }
    let signed_out: Vec<_> = answers().filter(|call| call.arguments.contains("HTTP/1.1 204")).collect();
    assert_eq!(signed_out.len(), ended.len());
    for (answer, session) in signed_out.into_iter().zip(&ended) {
        // The key of a revocation: kind, session.
        let entry = |bytes: &[u8]| bytes[0] == 1 && bytes[1..] == *session;
        let fault = journal.too_early(answer, entry, 17);
        wrong.extend(fault.map(|fault| format!("the end of {session:?} {fault}")));
    }
    let syncs = journal.syncs.len();
    println!("traced: {rotations} rotations and sign-ins, {} ends, {syncs} syncs of the journal", ended.len());
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(rotations >= EACH + CLIENTS * (EACH + 1), "only {rotations} answers were seen");
}

/// Session and counter of a refresh token.
fn parts(token: &str) -> ([u8; 16], [u8; 8]) {
    let text: String =
        token["pcr_".len()..].chars().take_while(|char| char.is_ascii_alphanumeric() || "-_".contains(*char)).collect();
    let body = BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
    // Version, key, session, counter.
    (body[5..21].try_into().unwrap(), body[21..29].try_into().unwrap())
}
