//! `portcullis token inspect`, and how commands are given a token.

use std::io::Read;
use std::path::PathBuf;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::cli::keys_offline;
use crate::cli::output::{Failure, Format, Outcome, causes, from_now, print, print_json, printable, remark, seconds};
use crate::clock::{LEEWAY, UnixTime};
use crate::config::Config;
use crate::token::verify::{self, Verifier};
use crate::token::{Identity, TokenError};

/// Look into access tokens
#[derive(Debug, clap::Subcommand)]
#[command(after_help = "Example:\n  portcullis token inspect \"$ACCESS\"")]
pub(super) enum Command {
    Inspect(Inspect),
}

/// Show what an access token says, and with --config whether it is good
///
/// Without a configuration nothing is verified: anyone can write a token that says anything.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  portcullis token inspect \"$ACCESS\"\n  \
    portcullis token inspect --config portcullis.toml @token.txt\n  pbpaste | portcullis token inspect -")]
pub(super) struct Inspect {
    /// The token, @FILE to read it from a file, or - for standard input
    #[arg(value_name = "TOKEN", allow_hyphen_values = true)]
    token: String,
    /// Verify it by the keys and issuers of this configuration file
    #[arg(long, short = 'c', value_name = "FILE", env = "PORTCULLIS_CONFIG")]
    config: Option<PathBuf>,
    /// Fetch the keys of trusted issuers that have a jwks_url
    #[arg(long, requires = "config")]
    fetch: bool,
}

pub(super) fn run(command: &Command, format: Format) -> Result<Outcome, Failure> {
    let Command::Inspect(args) = command;
    let now = UnixTime::now();
    let token = argument(&args.token)?;
    if token.starts_with("pcr_") {
        return Err(Failure::Failed(String::from(
            "this is a refresh token: it says nothing about itself, only the gateway can read it",
        )));
    }
    let verdict = match &args.config {
        Some(file) => {
            let (verifier, notes) = keys_offline::load(&Config::load(file)?, args.fetch)?;
            notes.iter().for_each(|note| remark("note", note));
            Some(Verdict::of(&verifier, &token, now))
        }
        None => None,
    };
    let (header, claims) = match verify::inspect(&token) {
        Ok((header, claims)) => (serde_json::from_str(&header)?, serde_json::from_str(&claims)?),
        Err(error) => {
            return Err(Failure::Failed(format!("this is no access token: {error} ({})", error.as_str())));
        }
    };
    match format {
        Format::Json => print_json(&json!({
            "header": header,
            "claims": claims,
            "verified": verdict.as_ref().map(Verdict::to_json),
        }))?,
        Format::Human => print(&human(&header, &claims, verdict.as_ref(), now))?,
    }
    Ok(if verdict.is_none_or(|verdict| verdict.result.is_ok()) { Outcome::Done } else { Outcome::Refused })
}

/// What a verifier says of a token.
struct Verdict {
    result: Result<Identity, TokenError>,
    issuer: String,
}

impl Verdict {
    fn of(verifier: &Verifier, token: &str, now: UnixTime) -> Self {
        let result = verifier.verify(token, now);
        let issuer = result.as_ref().map(|identity| verifier.issuer_name(identity.issuer).to_owned());
        Self { issuer: issuer.unwrap_or_default(), result }
    }

    fn to_json(&self) -> Value {
        match &self.result {
            Ok(identity) => json!({
                "ok": true,
                "issuer": self.issuer,
                "user_id": identity.user.as_str(),
                "session_id": identity.session.to_string(),
                "expires_at": seconds(identity.expires_at),
            }),
            Err(error) => json!({ "ok": false, "reason": error.as_str() }),
        }
    }
}

fn human(header: &Value, claims: &Value, verdict: Option<&Verdict>, now: UnixTime) -> String {
    let mut text = format!("header {header:#}\nclaims {claims:#}\n");
    for (claim, meaning) in [("iat", "issued"), ("nbf", "valid from"), ("exp", "expires")] {
        if let Some(at) = claims.get(claim).and_then(Value::as_f64).filter(|at| (0.0..9e15).contains(at)) {
            let at = UnixTime::from_secs(at as u64);
            let meaning = if claim == "exp" && at <= now { "expired" } else { meaning };
            text += &format!("\n{meaning:<10}  {}  {}", seconds(at), from_now(at, now));
        }
    }
    text += "\n\n";
    text += &match verdict {
        None => String::from(
            "Nothing was verified: anyone can write a token that says this. Give --config FILE to have signature, \
             issuer, audience and times checked.",
        ),
        Some(Verdict { result: Ok(identity), issuer }) => format!(
            "good: user {} in session {}, signed by {issuer}\n\
             accepted until {} ({LEEWAY:?} leeway included), unless the session ends: that is known to the running \
             gateway only",
            identity.user,
            identity.session,
            seconds(identity.expires_at.plus(LEEWAY)),
        ),
        Some(Verdict { result: Err(error), .. }) => format!("refused: {error} ({})", error.as_str()),
    };
    // What the token's author wrote goes to a terminal.
    printable(&text)
}

/// A token as commands take it: itself, `@FILE`, or `-` for standard input. White space around it is dropped.
///
/// # Errors
/// When it cannot be read, or is more than 1 MiB.
pub(super) fn argument(text: &str) -> Result<Zeroizing<String>, Failure> {
    if text == "-" {
        return read(std::io::stdin().lock(), "standard input");
    }
    match text.strip_prefix('@') {
        Some(path) => {
            let file = std::fs::File::open(path)
                .map_err(|error| Failure::Failed(format!("cannot read {path}: {}", causes(&error))))?;
            read(file, path)
        }
        None => Ok(Zeroizing::new(text.trim().to_owned())),
    }
}

fn read(source: impl Read, name: &str) -> Result<Zeroizing<String>, Failure> {
    const MOST_BYTES: u64 = 1024 * 1024;
    let mut text = Zeroizing::new(String::new());
    let read = source.take(MOST_BYTES + 1).read_to_string(&mut text);
    match read {
        Ok(bytes) if bytes as u64 > MOST_BYTES => Err(Failure::Failed(format!("{name} is longer than a token"))),
        Ok(_) => Ok(Zeroizing::new(text.trim().to_owned())),
        Err(error) => Err(Failure::Failed(format!("cannot read {name}: {}", causes(&error)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixTime = UnixTime::from_secs(1_700_000_000);

    #[test]
    fn times_are_told_and_that_nothing_was_verified() {
        let claims = json!({ "iat": 1_699_996_000, "exp": 1_700_002_520, "nbf": "soon", "x": "\u{9b}" });
        let text = human(&json!({ "alg": "none" }), &claims, None, NOW);
        assert!(text.contains("issued      2023-11-14T21:06:40Z  66 min ago"), "{text}");
        assert!(text.contains("expires     2023-11-14T22:55:20Z  in 42 min"), "{text}");
        assert!(!text.contains("valid from"), "{text}");
        assert!(text.contains("Nothing was verified"), "{text}");
        assert!(!text.contains('\u{9b}'), "{text}");
    }

    #[test]
    fn a_verdict_is_told_with_its_word() {
        let verdict = Verdict { result: Err(TokenError::BadSignature), issuer: String::new() };
        let text = human(&json!({}), &json!({ "exp": 1_699_989_200 }), Some(&verdict), NOW);
        assert!(text.contains("expired     2023-11-14T19:13:20Z  3 h ago"), "{text}");
        assert!(text.ends_with("refused: bad signature (bad_signature)"), "{text}");
        assert_eq!(verdict.to_json(), json!({ "ok": false, "reason": "bad_signature" }));
    }

    #[test]
    fn a_token_comes_from_the_line_or_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "a.b.c\n").unwrap();
        assert_eq!(argument(" a.b.c ").unwrap().as_str(), "a.b.c");
        assert_eq!(argument(&format!("@{}", file.display())).unwrap().as_str(), "a.b.c");
        assert!(argument(&format!("@{}", dir.path().join("none").display())).is_err());
    }
}
