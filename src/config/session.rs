//! `[session]`, `[auth]` and `[[trusted_issuer]]`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use http::{HeaderName, Method};
use jsonwebtoken::Algorithm;

use super::nearest::suggestion;
use super::reader::{Table, Value};
use super::route::cors;
use super::{Auth, JwksSource, Mode, Session, TrustedIssuer, names, shape};

const SECOND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(1);

const DEFAULT_ACCESS_TOKEN_TTL: Duration = Duration::from_secs(3600);

/// Long enough for a retry after a lost reply, short enough that a stolen token is noticed.
const DEFAULT_REFRESH_GRACE: Duration = Duration::from_secs(10);

const DEFAULT_MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 3600);
const DEFAULT_REFRESH_INTERVAL: Duration = Duration::from_secs(300);
const DEFAULT_COOLDOWN: Duration = Duration::from_secs(10);

pub(super) fn session(root: &Table<'_>) -> Option<Session> {
    let table = root.section("session", &shape::SESSION);
    if !table.is_present() {
        return None;
    }
    let text = |key, expected| {
        table.require(key, expected).and_then(|value| value.name(expected)).unwrap_or_default().to_owned()
    };
    let time_or_never = |key| table.get(key).and_then(|value| value.duration_or_never(SECOND)).flatten();
    let files = |key| {
        let value = table.get(key);
        value.map(|value| value.each(value.some_items("paths of files"), Value::path)).unwrap_or_default()
    };
    Some(Session {
        issuer: text("issuer", "the name that own tokens have as iss"),
        audience: text("audience", "the name that own tokens have as aud"),
        access_token_ttl: table
            .get("access_token_ttl")
            .and_then(|value| value.duration(SECOND))
            .unwrap_or(DEFAULT_ACCESS_TOKEN_TTL),
        idle_timeout: time_or_never("idle_timeout"),
        max_lifetime: time_or_never("max_lifetime"),
        max_per_user: table.get("max_per_user").and_then(|value| max_per_user(&value)),
        refresh_grace: table
            .get("refresh_grace")
            .and_then(|value| value.duration(TICK))
            .unwrap_or(DEFAULT_REFRESH_GRACE),
        signing_keys: files("signing_keys"),
        refresh_keys: files("refresh_keys"),
        keys: table.get("keys").and_then(|value| value.path()),
    })
}

fn max_per_user(value: &Value<'_>) -> Option<NonZeroU32> {
    if value.is_word("unlimited") {
        return None;
    }
    let count = value.count(1..=u64::from(u32::MAX), Some("unlimited"))?;
    u32::try_from(count).ok().and_then(NonZeroU32::new)
}

pub(super) fn auth(root: &Table<'_>) -> Auth {
    let table = root.section("auth", &shape::AUTH);
    let header = |key, default: &'static str| {
        let value = table.get(key);
        let name = value.and_then(|value: Value<'_>| value.parsed("the name of a header", names::identity_header));
        name.unwrap_or(HeaderName::from_static(default))
    };
    Auth {
        prefix: table
            .get("prefix")
            .and_then(|value| value.parsed("a path such as \"/auth\"", prefix))
            .unwrap_or_else(|| String::from("/auth")),
        public_url: table
            .get("public_url")
            .and_then(|value| value.parsed("a URL such as \"https://shop.example.com\"", names::public_url)),
        user_header: header("user_header", "x-user-id"),
        session_header: header("session_header", "x-session-id"),
        strip_headers: table
            .get("strip_headers")
            .map(|value| {
                value.each(value.items("names of headers"), |item| {
                    item.parsed("the name of a header", names::stripped_header)
                })
            })
            .unwrap_or_default(),
        mode: table.get("mode").and_then(|value| value.choice(&Mode::WORDS)).unwrap_or(Mode::Enforce),
        cors: cors(&table, &shape::AUTH_CORS, vec![Method::GET, Method::HEAD, Method::POST]),
    }
}

fn prefix(text: &str) -> Result<String, String> {
    names::canonical_route_path(text)?;
    match text.trim_end_matches('/') {
        "" => Err(String::from("would leave no path for routes, expected one such as \"/auth\"")),
        path if path == "/.well-known" || path.starts_with("/.well-known/") => {
            Err(String::from("is where the key set and the metadata are, expected another path"))
        }
        trimmed if trimmed == text => Ok(text.to_owned()),
        trimmed => Err(format!("has a slash at its end, expected {trimmed:?}")),
    }
}

pub(super) fn trusted_issuers(root: &Table<'_>) -> Vec<TrustedIssuer> {
    let tables = root.sections("trusted_issuer", &shape::TRUSTED_ISSUER, |entries| {
        let issuer = entries.get("issuer")?.get_ref().as_str()?;
        Some(format!("trusted_issuer {issuer:?}"))
    });
    tables.iter().map(trusted_issuer).collect()
}

fn trusted_issuer(table: &Table<'_>) -> TrustedIssuer {
    const ISSUER: &str = "the exact iss of its tokens";
    let issuer = table.require("issuer", ISSUER).and_then(|value| value.name(ISSUER));
    let duration =
        |key, least, default| table.get(key).and_then(|value: Value<'_>| value.duration(least)).unwrap_or(default);
    const AUDIENCE: &str = "names, one of which must be in aud";
    let audience = table.require("audience", &format!("an array of {AUDIENCE}"));
    TrustedIssuer {
        issuer: issuer.unwrap_or_default().to_owned(),
        audience: audience
            .map(|value| {
                value.each(value.some_items(AUDIENCE), |item| item.name("the name of an audience").map(str::to_owned))
            })
            .unwrap_or_default(),
        jwks: jwks(table),
        algorithms: table
            .get("algorithms")
            .map(|value| value.each(value.some_items("algorithms such as \"ES256\""), algorithm))
            .unwrap_or_else(|| vec![Algorithm::ES256]),
        session_claim: table
            .get("session_claim")
            .and_then(|value| session_claim(&value))
            .unwrap_or_else(|| String::from("sid")),
        max_token_lifetime: duration("max_token_lifetime", SECOND, DEFAULT_MAX_TOKEN_LIFETIME),
        refresh_interval: duration("refresh_interval", SECOND, DEFAULT_REFRESH_INTERVAL),
        cooldown: duration("cooldown", TICK, DEFAULT_COOLDOWN),
    }
}

fn jwks(table: &Table<'_>) -> JwksSource {
    let url = table.get("jwks_url").map(|value| {
        let url = value.parsed("a URL such as \"https://id.example.com/jwks.json\"", names::jwks_url);
        url.map(JwksSource::Url)
    });
    let file = table.get("jwks_file");
    if let (Some(_), Some(file)) = (&url, &file) {
        file.report("stands beside jwks_url, expected one of them");
    }
    let file = file.map(|value| value.path().map(JwksSource::File));
    let source = url.or(file);
    if source.is_none() {
        table.missing("jwks_url", "it or jwks_file: where the issuer's keys are");
    }
    source.flatten().unwrap_or(JwksSource::File(PathBuf::new()))
}

fn algorithm(value: &Value<'_>) -> Option<Algorithm> {
    const KNOWN: [(&str, Algorithm); 9] = [
        ("ES256", Algorithm::ES256),
        ("ES384", Algorithm::ES384),
        ("RS256", Algorithm::RS256),
        ("RS384", Algorithm::RS384),
        ("RS512", Algorithm::RS512),
        ("PS256", Algorithm::PS256),
        ("PS384", Algorithm::PS384),
        ("PS512", Algorithm::PS512),
        ("EdDSA", Algorithm::EdDSA),
    ];
    value.parsed("an algorithm such as \"ES256\"", |text| {
        if let Some((_, algorithm)) = KNOWN.iter().find(|(name, _)| *name == text) {
            return Ok(*algorithm);
        }
        match text.to_ascii_uppercase().as_str() {
            // One secret for signing and verifying: every verifier could sign in whomever it likes.
            "HS256" | "HS384" | "HS512" => Err(String::from(
                "is symmetric: whoever can verify such a token can also make one, expected one such as \"ES256\"",
            )),
            "NONE" => Err(String::from("is no signature at all, expected one such as \"ES256\"")),
            _ => Err(format!("is not known{}", suggestion(text, KNOWN.map(|(name, _)| name)))),
        }
    })
}

fn session_claim(value: &Value<'_>) -> Option<String> {
    // Claims that are checked for what they are; as the name of a session each would be the same for many.
    const TAKEN: [&str; 6] = ["iss", "sub", "aud", "exp", "nbf", "iat"];
    let name = value.name("the claim that names the session, such as \"sid\"")?;
    if TAKEN.contains(&name) {
        value.fault("is a claim with another meaning, expected one that names the session, such as \"sid\"");
        return None;
    }
    Some(name.to_owned())
}
