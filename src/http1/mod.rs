//! HTTP/1.1 as RFC 9112 writes it, and no other way: which bytes of a connection are one request, without a second
//! reading.
//!
//! Two readers of the same bytes who differ about where a request ends are what request smuggling is made of. What this
//! room lets pass has one reading for the most lenient and the strictest of them, so it does not matter how lenient the
//! parser is that comes after. It never changes a byte: it passes them, or refuses the rest of the connection.

mod canonical;
mod chunked;
mod field;
mod head;
mod response;

pub use canonical::{Canonical, CanonicalHead};
pub use chunked::{Chunked, Piece};
pub use head::{Framing, Head, HeadLimits, HeadReader};
pub(crate) use head::{content_length, transfer_coding};
pub use response::{MAX_RESPONSE_FIELDS, ResponseFraming, ResponseHead};

/// Why the bytes of a connection are no request. The connection cannot go on: where the next one begins is unknown.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// The request line is not method, target and version with one space between (RFC 9112 §3).
    #[error("malformed request line")]
    RequestLine,
    /// A target in none of the forms a gateway gets, or with bytes that no URI has (RFC 9112 §3.2).
    #[error("malformed request target")]
    Target,
    /// A field line that is folded, has white space around its name, or a byte that has no place in it (RFC 9112 §5).
    #[error("malformed header field")]
    Field,
    /// A line that does not end with CR LF (RFC 9112 §2.2).
    #[error("line does not end with CR LF")]
    LineEnd,
    /// Not one canonical `Content-Length` or one `chunked` (RFC 9112 §6).
    #[error("ambiguous framing")]
    Framing,
    /// A transfer coding besides `chunked` (RFC 9112 §6.1), or a tunnel (RFC 9110 §9.3.6).
    #[error("not implemented")]
    NotImplemented,
    /// A header of more bytes or fields than allowed.
    #[error("header too large")]
    TooLarge,
    /// A request line longer than a header may be.
    #[error("request line too long")]
    TooLong,
    /// A chunk whose size, extension, end or trailer is not as it must be (RFC 9112 §7.1).
    #[error("malformed chunk")]
    Chunk,
}

/// Reads the requests of a connection one after the other, and tells how far its bytes may pass.
#[derive(Debug, Default)]
pub struct Requests {
    limits: HeadLimits,
    at: At,
    heads: u32,
}

/// Where in the connection's bytes the reader is.
#[derive(Debug)]
enum At {
    Head(HeadReader),
    /// So many bytes of a body are still to come.
    Length(u64),
    Chunked(Chunked),
    /// Behind the head of a request that asks for another protocol: what follows is a request or that protocol.
    Undecided,
}

impl Default for At {
    fn default() -> Self {
        Self::Head(HeadReader::default())
    }
}

/// What became of some bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Judged {
    /// So many of them may pass; what comes after them is to be shown again, with more.
    pub passes: usize,
    /// What is wrong with what comes after them.
    pub fault: Option<Malformed>,
}

impl Requests {
    /// For one connection.
    pub fn new(limits: HeadLimits) -> Self {
        Self { limits, at: At::default(), heads: 0 }
    }

    /// How many heads passed; after 2³² of them it begins anew.
    pub fn heads(&self) -> u32 {
        self.heads
    }

    /// Whether a head has begun and is not complete.
    pub fn is_in_head(&self) -> bool {
        matches!(&self.at, At::Head(reader) if reader.has_begun())
    }

    /// Whether a body has begun and is not complete.
    pub fn is_in_body(&self) -> bool {
        matches!(self.at, At::Length(_) | At::Chunked(_))
    }

    /// Whether what follows depends on the answer to the last request: [`Self::decline`] goes on with requests.
    pub fn is_undecided(&self) -> bool {
        matches!(self.at, At::Undecided)
    }

    /// The last request was answered otherwise than with `101`: requests go on.
    pub fn decline(&mut self) {
        if self.is_undecided() {
            self.at = At::default();
        }
    }

    /// Judges `bytes`, which begin with what did not pass the last time.
    pub fn judge(&mut self, bytes: &[u8]) -> Judged {
        let mut passes = 0;
        loop {
            let rest = bytes.get(passes..).unwrap_or_default();
            let step = match &mut self.at {
                At::Undecided => Ok((0, None)),
                _ if rest.is_empty() => Ok((0, None)),
                At::Head(reader) => reader.read(rest, &self.limits).map(|read| match read {
                    None => (0, None),
                    Some(head) => {
                        self.heads = self.heads.wrapping_add(1);
                        (head.length, Some(after(&head)))
                    }
                }),
                At::Length(left) => {
                    let count = usize::try_from(*left).unwrap_or(usize::MAX).min(rest.len());
                    *left -= count as u64;
                    Ok((count, (*left == 0).then(At::default)))
                }
                At::Chunked(chunks) => {
                    let (count, state) = chunks.read(rest, &self.limits);
                    passes += count;
                    state.map(|ended| (0, ended.then(At::default)))
                }
            };
            match step {
                Err(fault) => return Judged { passes, fault: Some(fault) },
                Ok((count, next)) => {
                    passes += count;
                    match next {
                        Some(next) => self.at = next,
                        None => return Judged { passes, fault: None },
                    }
                }
            }
        }
    }
}

/// What follows a head.
fn after(head: &Head) -> At {
    match head.framing {
        Framing::Chunked => At::Chunked(Chunked::default()),
        Framing::Length(length) if length > 0 => At::Length(length),
        _ if head.may_switch => At::Undecided,
        _ => At::default(),
    }
}

#[cfg(test)]
mod tests;
