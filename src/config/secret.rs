//! Secrets, which stand elsewhere: the file only says where.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::Secret;
use super::reader::Value;
use super::server::io_reason;

/// What a secret is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// One that we ask for, in an `Authorization` header.
    Token,
    /// One that another server chose.
    Password,
}

/// Fewest bytes of a token: 128 bits even when each byte was drawn from all 256.
const LEAST_TOKEN_BYTES: usize = 16;

/// Most bytes that are read of a secret's file: it may be a device without end.
const MOST_SECRET_BYTES: u64 = 4096;

/// Reads a secret from where the value says. No fault shows the secret, nor a value that may be one.
pub(super) fn secret(value: &Value<'_>, kind: Kind) -> Option<Secret> {
    let expected = "\"file:PATH\" or \"env:NAME\"";
    let text = value.text(expected)?;
    let read = if let Some(path) = text.strip_prefix("file:").filter(|path| !path.is_empty()) {
        let path = value.document().base_dir().join(path);
        read_bounded(&path)
            .map(|secret| (secret, format!("the file {}", path.display())))
            .map_err(|why| format!("cannot be read from {}: {why}", path.display()))
    } else if let Some(name) = text.strip_prefix("env:").filter(|name| is_variable_name(name)) {
        match value.document().variable(name).map(std::ffi::OsString::into_string) {
            Some(Ok(secret)) => Ok((secret, format!("the environment variable {name}"))),
            Some(Err(_)) => Err(format!("cannot be read: the environment variable {name} is not UTF-8")),
            None => Err(format!("cannot be read: the environment variable {name} is not set")),
        }
    } else {
        Err(format!("is not a reference to a secret, expected {expected}; the secret itself may not stand here"))
    };
    let checked = read.and_then(|(secret, place)| {
        let secret = Secret::new(secret);
        let trimmed = secret.expose().strip_suffix('\n').unwrap_or(secret.expose());
        let trimmed = trimmed.strip_suffix('\r').unwrap_or(trimmed);
        let bytes = trimmed.len();
        match kind {
            Kind::Token if bytes == 0 => {
                Err(format!("is empty in {place}, expected at least {LEAST_TOKEN_BYTES} bytes"))
            }
            Kind::Token if bytes < LEAST_TOKEN_BYTES => {
                Err(format!("is too short in {place}, expected at least {LEAST_TOKEN_BYTES} bytes"))
            }
            // It could never be sent in an Authorization header.
            Kind::Token if !trimmed.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Err(format!("has spaces, line ends or bytes that are not ASCII in {place}"))
            }
            Kind::Password if bytes == 0 => Err(format!("is empty in {place}, expected at least 1 byte")),
            // Most likely another file than was meant.
            Kind::Password if trimmed.chars().any(char::is_control) => {
                Err(format!("has line ends or control characters in {place}"))
            }
            _ => Ok(Secret::new(trimmed.to_owned())),
        }
    });
    checked.map_err(|why| value.report(why)).ok()
}

fn read_bounded(path: &Path) -> Result<String, String> {
    // As large as it can get: growing would leave copies behind in memory.
    let mut text = String::with_capacity(MOST_SECRET_BYTES as usize + 1);
    let read = File::open(path).and_then(|file| file.take(MOST_SECRET_BYTES + 1).read_to_string(&mut text));
    // Its memory is cleared also when it is refused.
    let text = Secret::new(text);
    match read {
        Err(error) => Err(io_reason(&error)),
        Ok(length) if length as u64 > MOST_SECRET_BYTES => Err(format!("it has more than {MOST_SECRET_BYTES} bytes")),
        Ok(_) => Ok(text.expose().to_owned()),
    }
}

fn is_variable_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
