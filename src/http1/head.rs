//! The head of a request: its request line and header fields (RFC 9112 §2 to §6).

use super::Malformed;
use super::field::{is_token, line_end, token_length, trim};

/// The longest target that a URI can hold; a longer one hyper refuses without a word.
const MAX_TARGET: usize = 65_534;

/// Bounds of a head.
#[derive(Clone, Copy, Debug)]
pub struct HeadLimits {
    /// Bytes, from the request line to the empty line.
    pub bytes: usize,
    /// Field lines.
    pub fields: usize,
}

impl Default for HeadLimits {
    fn default() -> Self {
        Self { bytes: 32 * 1024, fields: 100 }
    }
}

/// How the body of a request is framed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Framing {
    /// There is none (RFC 9112 §6.3).
    #[default]
    None,
    /// `Content-Length`: so many bytes.
    Length(u64),
    /// `Transfer-Encoding: chunked`
    Chunked,
}

/// What a complete head says about what follows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Head {
    /// Bytes of the head, the empty line included.
    pub length: usize,
    /// How the body is framed.
    pub framing: Framing,
    /// It asks for another protocol and has no body: what follows may be that protocol.
    pub may_switch: bool,
}

/// Reads one head, as its bytes come. What was read is not read again, so a client that sends byte by byte costs no more
/// than its bytes.
#[derive(Debug, Default)]
pub struct HeadReader {
    /// Where the line begins that is not complete yet.
    line: usize,
    /// No end of it is before this.
    searched: usize,
    /// A byte came that is of no empty line.
    begun: bool,
    requested: bool,
    is_http10: bool,
    fields: usize,
    framing: Framing,
    asks_to_switch: bool,
}

impl HeadReader {
    /// Whether any byte has come, but for the empty line that may be before a head.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Reads on in `bytes`, which begin with the head; `None` when it is not complete yet.
    ///
    /// # Errors
    /// When it cannot become one.
    pub fn read(&mut self, bytes: &[u8], limits: &HeadLimits) -> Result<Option<Head>, Malformed> {
        // No further than a head may go: what is wrong beyond that is of no head, and is not to be worked for.
        let bytes = bytes.get(..=limits.bytes).unwrap_or(bytes);
        loop {
            let Some(end) = line_end(bytes, self.searched)? else {
                // A CR at the end is looked at again with what follows it.
                self.searched = bytes.len().saturating_sub(1).max(self.line);
                self.begun = self.requested || bytes.len() > self.line;
                return if bytes.len() > limits.bytes { Err(self.too_much()) } else { Ok(None) };
            };
            let line = &bytes[self.line..end];
            let next = end + 2;
            if next > limits.bytes {
                return Err(self.too_much());
            }
            if !self.requested {
                // One empty line before a request is left over from the body of a faulty client (RFC 9112 §2.2).
                if !line.is_empty() || self.line > 0 {
                    self.is_http10 = request_line(line)?;
                    self.requested = true;
                }
            } else if line.is_empty() {
                let may_switch =
                    self.asks_to_switch && !matches!(self.framing, Framing::Length(1..) | Framing::Chunked);
                return Ok(Some(Head { length: next, framing: self.framing, may_switch }));
            } else {
                self.fields += 1;
                if self.fields > limits.fields {
                    return Err(Malformed::TooLarge);
                }
                self.field(line)?;
            }
            (self.line, self.searched) = (next, next);
        }
    }

    fn too_much(&self) -> Malformed {
        if self.requested { Malformed::TooLarge } else { Malformed::TooLong }
    }

    fn field(&mut self, line: &[u8]) -> Result<(), Malformed> {
        let (name, value) = split(line)?;
        match name.len() {
            7 if name.eq_ignore_ascii_case(b"upgrade") => self.asks_to_switch = !self.is_http10,
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                // A second one is refused even when it says the same: not all who come after us compare.
                if self.framing != Framing::None {
                    return Err(Malformed::Framing);
                }
                self.framing = Framing::Length(content_length(trim(value)).ok_or(Malformed::Framing)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                // In HTTP/1.0 it is a sign of faulty framing (RFC 9112 §6.1); beside a length, of an attack (§6.3).
                if self.framing != Framing::None || self.is_http10 {
                    return Err(Malformed::Framing);
                }
                self.framing = transfer_coding(trim(value))?;
            }
            _ => {}
        }
        Ok(())
    }
}

/// The name and the value of a field line.
///
/// # Errors
/// [`Malformed::Field`]: the name is empty or has white space after it, or the line goes on with the one before
/// (`obs-fold`): readers differ about what such a field is called (RFC 9112 §5.1, §5.2).
pub(super) fn split(line: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let length = token_length(line);
    match (length, line.get(length)) {
        (1.., Some(b':')) => Ok((&line[..length], &line[length + 1..])),
        _ => Err(Malformed::Field),
    }
}

/// Judges a request line. Whether its version is 1.0.
fn request_line(line: &[u8]) -> Result<bool, Malformed> {
    let method = token_length(line);
    // A method begins with a letter. Tokens may begin otherwise, but no registered method does.
    if !line.first().is_some_and(u8::is_ascii_alphabetic) || line.get(method) != Some(&b' ') {
        return Err(Malformed::RequestLine);
    }
    let rest = &line[method + 1..];
    let length = rest.iter().position(|byte| *byte == b' ').ok_or(Malformed::RequestLine)?;
    let is_http10 = match &rest[length + 1..] {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err(Malformed::RequestLine),
    };
    // What follows its head would not be HTTP (RFC 9110 §9.3.6), and a gateway opens no tunnels.
    if &line[..method] == b"CONNECT" {
        return Err(Malformed::NotImplemented);
    }
    target(&rest[..length])?;
    Ok(is_http10)
}

/// Judges a request target (RFC 9112 §3.2). A fragment has no place in one: some cut it off, others take it for path.
fn target(target: &[u8]) -> Result<(), Malformed> {
    if target.len() > MAX_TARGET {
        return Err(Malformed::TooLong);
    }
    let is_form = match target {
        [b'/', ..] | b"*" => true,
        _ => ["http://", "https://"].iter().any(|scheme| {
            target.len() > scheme.len() && target[..scheme.len()].eq_ignore_ascii_case(scheme.as_bytes())
        }),
    };
    if !is_form {
        return Err(Malformed::Target);
    }
    let mut is_plain = target[0] == b'/';
    for byte in target {
        match byte {
            b'#' => return Err(Malformed::Target),
            b'"' | b'<' | b'>' | b'`' => is_plain = false,
            byte if byte.is_ascii_graphic() => {}
            _ => return Err(Malformed::Target),
        }
    }
    // What hyper's URI does not take it refuses without a word, `http:///` for one: only some targets can be such.
    if is_plain || http::Uri::try_from(target).is_ok() { Ok(()) } else { Err(Malformed::Target) }
}

/// A `Content-Length` in its one canonical form: digits, no sign, no leading zero, no list (RFC 9110 §8.6).
pub(crate) fn content_length(value: &[u8]) -> Option<u64> {
    match value {
        b"0" => Some(0),
        [b'1'..=b'9', ..] => value.iter().try_fold(0_u64, |length, byte| {
            let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
            // Not all bits: nobody after us shall count with a sign, and hyper keeps the largest for itself.
            length.checked_mul(10)?.checked_add(u64::from(digit)).filter(|length| *length <= i64::MAX as u64)
        }),
        _ => None,
    }
}

/// A `Transfer-Encoding`, which must be `chunked` and nothing else (RFC 9112 §6.1).
pub(crate) fn transfer_coding(value: &[u8]) -> Result<Framing, Malformed> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(Framing::Chunked);
    }
    // `gzip, chunked` is well framed, but in a coding that is not taken off here.
    let mut codings = value.split(|byte| *byte == b',').map(trim);
    let known = codings.clone().filter(|coding| coding.eq_ignore_ascii_case(b"chunked")).count();
    let last = codings.clone().next_back().is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    if known == 1 && last && codings.all(|coding| !coding.is_empty() && coding.iter().all(|byte| is_token(*byte))) {
        return Err(Malformed::NotImplemented);
    }
    Err(Malformed::Framing)
}
