//! What must hold of any bytes: a function for each target in `fuzz/`.
//!
//! The same functions read the committed inputs in the ordinary tests, so that what a fuzzer once found stays found.

pub(crate) mod naive;
mod paths;
mod readings;
mod tokens;

use std::path::Path;

use http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::{Config, HeaderRules};
use crate::headers::{Forwarding, HeaderPolicy, Peer, to_upstream};
use crate::http1::{Framing, HeadLimits, HeadReader, Requests};

pub use self::paths::route;
pub use self::tokens::{bearer, refresh_token, token};

/// A target: its name, which is that of its directories, and what it does with bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: &[Target] = &[
    ("admin", admin),
    ("bearer", bearer),
    ("config", config),
    ("headers", headers),
    ("http1", http1),
    ("proxy_header", proxy_header),
    ("refresh_token", refresh_token),
    ("route", route),
    ("token", token),
];

/// The body of a request to the admin listener.
pub fn admin(data: &[u8]) {
    crate::admin::fuzzing::bodies(data);
}

/// The header of the PROXY protocol.
pub fn proxy_header(data: &[u8]) {
    crate::server::any_proxy_header(data);
}

/// A configuration file: read, or every fault told.
pub fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Files and variables are not the target, and some devices never end.
    if text.contains("file:") || text.contains("env:") || text.contains("/dev/") || text.contains("/proc/") {
        return;
    }
    if let Err(faults) = Config::parse(text, "fuzz.toml", Path::new("/nonexistent")) {
        assert!(!faults.to_string().trim().is_empty(), "refused without a reason");
    }
}

/// The fields of a request, a line each: what leaves has the gateway's identity and no other, and nothing of this hop.
pub fn headers(data: &[u8]) {
    let mut fields = HeaderMap::new();
    for line in data.split(|b| *b == b'\n').take(64) {
        let colon = line.iter().position(|b| *b == b':').unwrap_or(line.len());
        let value = line.get(colon + 1..).unwrap_or_default().trim_ascii();
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..colon]), HeaderValue::from_bytes(value)) {
            fields.append(name, value);
        }
    }
    let name = HeaderName::from_static;
    let policy = HeaderPolicy::new(name("x-user-id"), name("x-session-id"), vec![name("x-roles")]);
    let host = HeaderValue::from_static("shop.example");
    for (trusted, http2) in [(false, false), (true, true)] {
        let mut headers = fields.clone();
        let peer = Peer::new(std::net::IpAddr::from([192, 0, 2, 7]), trusted, true);
        let rules = HeaderRules::default();
        let forwarding = Forwarding {
            peer: &peer,
            forward_token: false,
            restricts_methods: true,
            http2,
            stripped: None,
            rules: &rules,
            identity: None,
        };
        to_upstream(&mut headers, &policy, &host, &forwarding);
        for (name, value) in &headers {
            let folded: String =
                name.as_str().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
            assert!(!matches!(&*folded, "x-user-id" | "x-session-id" | "x-roles"), "{name} arrived");
            assert!(
                !matches!(
                    &*folded,
                    "transfer-encoding" | "content-length" | "upgrade" | "keep-alive" | "authorization"
                ),
                "{name} arrived"
            );
            assert!(folded != "connection" || value == "te", "connection: {value:?}");
            assert!(folded != "te" || value == "trailers", "te: {value:?}");
        }
        let last = |name: &str| headers.get_all(name).iter().next_back().map(|value| value.as_bytes().to_vec());
        assert!(last("x-forwarded-for").is_some_and(|value| value.ends_with(b"192.0.2.7")));
        assert!(last("via").is_some_and(|value| value.ends_with(b" portcullis")));
    }
}

/// The bytes of a connection of HTTP/1.1: judged alike however they are cut, and what passes is taken for the same requests
/// by a parser that is more lenient.
pub fn http1(data: &[u8]) {
    let limits = HeadLimits { bytes: 1024, fields: 16 };
    let whole = Requests::new(limits).judge(data);
    let (mut pieces, mut passed) = (Requests::new(limits), 0);
    for end in 1..=data.len() {
        let piece = pieces.judge(&data[passed..end]);
        passed += piece.passes;
        if piece.fault.is_some() {
            assert_eq!(piece.fault, whole.fault, "byte by byte");
            break;
        }
    }
    assert_eq!(passed, whole.passes, "byte by byte");
    let head = HeadReader::default().read(data, &limits);
    if let Ok(Some(head)) = head {
        let mut fields = [httparse::EMPTY_HEADER; 16];
        let mut request = httparse::Request::new(&mut fields);
        let parsed = request.parse(data);
        // It refuses some targets that are left to whoever routes them.
        if let Ok(length) = parsed {
            assert_eq!(length, httparse::Status::Complete(head.length), "where the head ends");
            let of = |name: &str| request.headers.iter().filter(|field| field.name.eq_ignore_ascii_case(name)).count();
            let expected = match head.framing {
                Framing::None => (0, 0),
                Framing::Length(_) => (1, 0),
                Framing::Chunked => (0, 1),
            };
            assert_eq!((of("content-length"), of("transfer-encoding")), expected);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    use super::*;

    /// Committed inputs of a target, in the order of their names.
    fn seeds(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(name);
        let files = std::fs::read_dir(directory).unwrap_or_else(|error| panic!("{name}: {error}"));
        let mut paths: Vec<PathBuf> = files.map(|file| file.unwrap().path()).collect();
        paths.sort();
        paths.into_iter().map(|path| (path.clone(), std::fs::read(&path).unwrap())).collect()
    }

    #[test]
    fn every_committed_input_is_read_without_a_fault() {
        let mut count = 0;
        for (name, run) in TARGETS {
            let seeds = seeds(name);
            assert!(seeds.len() >= 3, "{name} has too few inputs");
            for (path, bytes) in seeds {
                println!("{}", path.display());
                run(&bytes);
                count += 1;
            }
        }
        println!("fuzzing: {count} inputs of {} targets", TARGETS.len());
    }
    /// xorshift64*
    struct Chance(u64);

    impl Chance {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 >> 12;
            self.0 ^= self.0 << 25;
            self.0 ^= self.0 >> 27;
            let word = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
            usize::try_from(word).unwrap() % bound.max(1)
        }

        /// One of `seeds` with a few changes, most of them such as its readers know.
        fn mutant(&mut self, seeds: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
            let mut bytes = seeds[self.below(seeds.len())].1.clone();
            for _ in 0..=self.below(4) {
                let at = self.below(bytes.len() + 1);
                let end = (at + 1 + self.below(8)).min(bytes.len()).max(at);
                match self.below(6) {
                    0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
                    1 => bytes.insert(at, u8::try_from(self.below(256)).unwrap()),
                    2 => drop(bytes.drain(at..end)),
                    3 => bytes.splice(at..at, bytes[at..end].to_vec()).for_each(drop),
                    4 => {
                        let other = &seeds[self.below(seeds.len())].1;
                        let from = self.below(other.len() + 1);
                        let piece = other[from..].iter().take(self.below(24)).copied().collect::<Vec<_>>();
                        bytes.splice(at..at, piece).for_each(drop);
                    }
                    _ => {
                        const WORDS: [&[u8]; 16] = [
                            b"/",
                            b"//",
                            b"..",
                            b"%2e",
                            b"%2f",
                            b"%25",
                            b"%",
                            b";",
                            b"\\",
                            b"\"",
                            b",",
                            b"\n",
                            b"\r\n",
                            b"\xef\xbd\x81",
                            b"%e2%80%a5",
                            b"-",
                        ];
                        bytes.splice(at..end, WORDS[self.below(WORDS.len())].iter().copied()).for_each(drop);
                    }
                }
            }
            bytes
        }
    }

    /// Without a look at what the code does, and so no match for `scripts/fuzz`, but on every machine. For a minute each
    /// with `PORTCULLIS_LONG_ATTACKS=1`.
    #[test]
    fn inputs_near_the_committed_ones_are_read_without_a_fault() {
        let is_long = std::env::var_os("PORTCULLIS_LONG_ATTACKS").is_some_and(|value| value == "1");
        for (name, run) in TARGETS {
            let seeds = seeds(name);
            let (mut chance, start) = (Chance(0x9e37_79b9_7f4a_7c15), Instant::now());
            let mut count = 0;
            while if is_long { start.elapsed() < Duration::from_secs(60) } else { count < 500 } {
                let bytes = chance.mutant(&seeds);
                if let Err(fault) = std::panic::catch_unwind(|| run(&bytes)) {
                    println!("{name}: {:?}", String::from_utf8_lossy(&bytes));
                    std::panic::resume_unwind(fault);
                }
                count += 1;
            }
            println!("fuzzing: {count} inputs of {name} in {:?}", start.elapsed());
        }
    }
}
