//! Secrets that a scenario used, and the search for them in all that was said to anybody.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};

use crate::support::{ADMIN_TOKEN, Process, Reply, Toml, Workplace, leaks};

/// Every crate's events, the most that can be asked for. With a directive, so that the level is not for ours alone.
pub(super) const EVERYTHING: &str = "[log]\naccess = \"all\"\nformat = \"json\"\nlevel = \"trace,portcullis=trace\"\n";

/// `toml` with all events and a line for each request.
pub(super) fn loud(text: &str) -> String {
    assert!(text.contains("[log]\naccess = \"off\"\n"), "{text}");
    text.replace("[log]\naccess = \"off\"\n", EVERYTHING)
}

pub(super) fn start(place: &Arc<Workplace>, toml: &Toml, servers: &[String]) -> Process {
    Process::start_with(place, &loud(&toml.text_before(servers)))
}

/// What was used as a secret, under a name that a failure may show.
#[derive(Default)]
pub(super) struct Secrets {
    by_name: BTreeMap<String, Vec<Vec<u8>>>,
}

impl Secrets {
    /// The admin token and the private key of `place`.
    pub(super) fn of(place: &Workplace) -> Self {
        let mut secrets = Self::default();
        secrets.add("admin token", ADMIN_TOKEN);
        secrets.add_pem("TLS key", &place.path("key.pem"));
        secrets
    }

    /// As text, and as the base64 of it that `Basic` and configurations carry.
    pub(super) fn add(&mut self, name: &str, text: &str) {
        assert!(text.len() >= 8, "{name} is too short to be searched for");
        let encoded = BASE64_STANDARD.encode(text);
        self.by_name.entry(name.to_owned()).or_default().extend([text.into(), encoded.into_bytes()]);
    }

    /// The whole, the part that makes it one (a signature, or a MAC), and that part's bytes.
    pub(super) fn add_token(&mut self, name: &str, token: &str) {
        let proof = match token.rsplit_once('.') {
            Some((_, signature)) => signature,
            None => &token[token.len() - 42..],
        };
        self.add(name, token);
        self.add(&format!("{name}: proof"), proof);
        // Of a refresh token the MAC begins within a character: its last 30 bytes are whole.
        if let Ok(bytes) = BASE64_URL_SAFE_NO_PAD.decode(&proof[proof.len() - 40..]) {
            self.by_name.entry(format!("{name}: bytes of the proof")).or_default().push(bytes);
        }
    }

    pub(super) fn add_pem(&mut self, name: &str, path: &Path) {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains("PRIVATE KEY"), "{}", path.display());
        for line in text.lines().filter(|line| line.len() >= 20 && !line.starts_with('-')) {
            self.add(name, line);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// The names of those that are in `bytes`, with where that is.
    pub(super) fn found_in(&self, bytes: &[u8], place: &str) -> Vec<String> {
        // Byte by byte as characters: texts are searched faster than bytes.
        let text = |bytes: &[u8]| bytes.iter().map(|byte| char::from(*byte)).collect::<String>();
        let searched = text(bytes);
        let found =
            self.by_name.iter().filter(|(_, spellings)| spellings.iter().any(|one| searched.contains(&text(one))));
        found.map(|(name, _)| format!("{name} in {place}")).collect()
    }

    /// In a whole directory, but not below those of `except`; how many files there were.
    pub(super) fn found_below(&self, directory: &Path, except: &[&str], found: &mut Vec<String>) -> usize {
        let mut files = 0;
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && !except.contains(&name.as_str()) {
                files += self.found_below(&path, except, found);
            } else if path.is_file() {
                files += 1;
                found.extend(self.found_in(&std::fs::read(&path).unwrap(), &path.display().to_string()));
            }
        }
        files
    }

    /// In what a process wrote: the known ones, and whatever has the shape of a token.
    pub(super) fn found_in_outputs(&self, place: &Workplace) -> Vec<String> {
        let mut found = Vec::new();
        for output in ["log", "access"] {
            let bytes = std::fs::read(place.path(output)).unwrap();
            found.extend(self.found_in(&bytes, output));
            let shaped = leaks(&String::from_utf8_lossy(&bytes), place.root());
            found.extend(shaped.into_iter().map(|token| format!("{token} in {output}")));
        }
        found
    }
}

/// A reply as it came, but for where lines end.
pub(super) fn whole(reply: &Reply) -> Vec<u8> {
    let headers = reply.headers.iter().map(|(name, value)| format!("{name}: {value}\n")).collect::<String>();
    [headers.as_bytes(), &reply.body].concat()
}
