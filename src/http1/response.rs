//! The head of an upstream's response (RFC 9112 §4 to §6), read by the parser that hyper's client has.

use std::mem::MaybeUninit;

use http::StatusCode;
use smallvec::SmallVec;

use super::Malformed;
use super::field::trim;

/// Fields of a response; one with more is refused.
pub const MAX_RESPONSE_FIELDS: usize = 200;

/// Bytes of a field's name; hyper's client takes no longer one.
const MAX_NAME: usize = u16::MAX as usize;

/// A complete head.
#[derive(Debug)]
pub struct ResponseHead<'b> {
    /// Its status.
    pub status: StatusCode,
    /// What it says beside the status, when that is not what the status is called.
    pub reason: Option<&'b str>,
    /// Bytes of the head, the empty line included.
    pub length: usize,
    is_http10: bool,
    fields: SmallVec<[(&'b str, &'b [u8]); 24]>,
}

/// How the body of a response is framed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResponseFraming {
    /// There is none.
    None,
    /// So many bytes.
    Length(u64),
    /// In chunks.
    Chunked,
    /// It ends with the connection.
    UntilClose,
}

impl<'b> ResponseHead<'b> {
    /// Reads the head that `bytes` begin with; `None` when it is not complete yet.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(bytes: &'b [u8]) -> Result<Option<Self>, Malformed> {
        let mut fields = [const { MaybeUninit::uninit() }; MAX_RESPONSE_FIELDS];
        let mut response = httparse::Response::new(&mut []);
        let parsed =
            httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, bytes, &mut fields);
        let length = match parsed {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(httparse::Error::TooManyHeaders) => return Err(Malformed::TooLarge),
            Err(_) => return Err(Malformed::Field),
        };
        let status = response.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or(Malformed::RequestLine)?;
        let reason = response.reason.filter(|reason| Some(*reason) != status.canonical_reason());
        if response.headers.iter().any(|field| field.name.len() > MAX_NAME) {
            return Err(Malformed::TooLarge);
        }
        let fields = response.headers.iter().map(|field| (field.name, field.value)).collect();
        Ok(Some(Self { status, reason, length, is_http10: response.version == Some(0), fields }))
    }

    /// All fields in their order.
    pub fn fields(&self) -> impl Iterator<Item = (&'b str, &'b [u8])> {
        self.fields.iter().copied()
    }

    fn values(&self, name: &str) -> impl Iterator<Item = &'b [u8]> {
        self.fields().filter(move |(one, _)| one.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The one way its body is framed (RFC 9112 §6.3). `is_head`: it answers a `HEAD`.
    ///
    /// # Errors
    /// [`Malformed::Framing`]: a coding that is not taken off here, a coding beside a length, or lengths that differ. The
    /// client would get something else than was meant.
    pub fn framing(&self, is_head: bool) -> Result<ResponseFraming, Malformed> {
        let mut codings = self.values("transfer-encoding");
        let mut lengths = self.values("content-length").peekable();
        let has_none = is_head || matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        match (codings.next(), codings.next()) {
            (None, _) => {}
            (Some(coding), None)
                if trim(coding).eq_ignore_ascii_case(b"chunked")
                    && lengths.peek().is_none()
                    && (has_none || !self.is_http10) =>
            {
                return Ok(if has_none { ResponseFraming::None } else { ResponseFraming::Chunked });
            }
            _ => return Err(Malformed::Framing),
        }
        if lengths.peek().is_none() {
            return Ok(if has_none { ResponseFraming::None } else { ResponseFraming::UntilClose });
        }
        let mut said = lengths.flat_map(|value| value.split(|byte| *byte == b',')).map(|text| digits(trim(text)));
        let first = said.next().flatten().ok_or(Malformed::Framing)?;
        if !said.all(|other| other == Some(first)) {
            return Err(Malformed::Framing);
        }
        Ok(if has_none { ResponseFraming::None } else { ResponseFraming::Length(first) })
    }

    /// The length that it tells, of a body that need not come (RFC 9110 §8.6): once, however often it was told. For a
    /// head whose [`framing`](Self::framing) was found good.
    pub fn length_told(&self) -> Option<u64> {
        let first = self.values("content-length").next()?.split(|byte| *byte == b',').next()?;
        digits(trim(first))
    }

    /// Whether the connection goes on after it (RFC 9112 §9.3).
    pub fn keeps_alive(&self) -> bool {
        let mut tokens = self.values("connection").flat_map(|value| value.split(|byte| *byte == b','));
        if self.is_http10 {
            let (mut keeps, mut closes) = (false, false);
            for token in tokens {
                keeps |= trim(token).eq_ignore_ascii_case(b"keep-alive");
                closes |= trim(token).eq_ignore_ascii_case(b"close");
            }
            return keeps && !closes;
        }
        !tokens.any(|token| trim(token).eq_ignore_ascii_case(b"close"))
    }

    /// Whether `Connection` names more than the connection's own fate: fields that belong to this hop.
    pub fn names_fields(&self) -> bool {
        let mut tokens = self.values("connection").flat_map(|value| value.split(|byte| *byte == b','));
        let is_usual = |token: &[u8]| token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close");
        tokens.any(|token| !is_usual(trim(token)))
    }
}

/// A length in digits alone.
fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |length, byte| {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        // The last two are what hyper's client keeps for itself.
        length.checked_mul(10)?.checked_add(u64::from(digit)).filter(|length| *length < u64::MAX - 1)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(head: &str, is_head: bool) -> Result<ResponseFraming, Malformed> {
        let text = format!("{head}\r\n\r\nbody");
        let read = ResponseHead::read(text.as_bytes())?.ok_or(Malformed::Field)?;
        assert_eq!(read.length, head.len() + 4);
        read.framing(is_head)
    }

    #[test]
    fn a_response_has_one_framing_or_none() {
        use ResponseFraming::{Chunked, Length, UntilClose};
        let cases = [
            ("HTTP/1.1 200 OK\r\nContent-Length: 4", Ok(Length(4))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0", Ok(Length(0))),
            ("HTTP/1.1 200 OK\r\nContent-Length: 4, 4\r\ncontent-length: 4", Ok(Length(4))),
            ("HTTP/1.0 200 OK\r\nContent-Length: 4", Ok(Length(4))),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", Ok(Chunked)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked ", Ok(Chunked)),
            ("HTTP/1.1 200 OK", Ok(UntilClose)),
            ("HTTP/1.0 200", Ok(UntilClose)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5", Err(Malformed::Framing)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 4, 5", Err(Malformed::Framing)),
            ("HTTP/1.1 200 OK\r\nContent-Length: +4", Err(Malformed::Framing)),
            ("HTTP/1.1 200 OK\r\nContent-Length: -4", Err(Malformed::Framing)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 0x4", Err(Malformed::Framing)),
            ("HTTP/1.1 200 OK\r\nContent-Length:", Err(Malformed::Framing)),
            ("HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551616", Err(Malformed::Framing)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 4", Err(Malformed::Framing)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked", Err(Malformed::Framing)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked", Err(Malformed::Framing)),
            ("HTTP/1.1 200 OK\r\nTransfer-Encoding: identity", Err(Malformed::Framing)),
            ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked", Err(Malformed::Framing)),
        ];
        let failed: Vec<_> = cases.iter().filter(|(head, expected)| framing(head, false) != *expected).collect();
        assert!(failed.is_empty(), "{failed:?}");
    }

    #[test]
    fn some_responses_have_no_body_whatever_they_say() {
        for status in ["204 No Content", "304 Not Modified"] {
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: 4");
            assert_eq!(framing(&head, false), Ok(ResponseFraming::None), "{status}");
        }
        assert_eq!(framing("HTTP/1.1 200 OK\r\nContent-Length: 4", true), Ok(ResponseFraming::None));
        assert_eq!(framing("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked", true), Ok(ResponseFraming::None));
        let both = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 4";
        assert_eq!(framing(both, true), Err(Malformed::Framing), "the next reader may believe it");
    }

    #[test]
    fn the_connection_goes_on_unless_the_server_says_no() {
        let keeps =
            |head: &str| ResponseHead::read(format!("{head}\r\n\r\n").as_bytes()).unwrap().unwrap().keeps_alive();
        for (head, expected) in [
            ("HTTP/1.1 200 OK", true),
            ("HTTP/1.1 200 OK\r\nConnection: Close", false),
            ("HTTP/1.1 200 OK\r\nConnection: keep-alive, close", false),
            ("HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close", false),
            ("HTTP/1.0 200 OK", false),
            ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive", true),
            ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nConnection: close", false),
        ] {
            assert_eq!(keeps(head), expected, "{head}");
        }
    }

    #[test]
    fn what_is_no_response_is_refused_and_what_is_incomplete_waits() {
        for bad in
            ["SSH-2.0-x\r\n", "HTTP/1.1 20 OK\r\n\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 200 OK\r\nA b: c\r\n\r\n"]
        {
            assert!(ResponseHead::read(bad.as_bytes()).is_err(), "{bad}");
        }
        for early in ["", "HTTP/1.1 2", "HTTP/1.1 200 OK\r\nA: b\r\n"] {
            assert!(ResponseHead::read(early.as_bytes()).unwrap().is_none(), "{early}");
        }
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "A: b\r\n".repeat(MAX_RESPONSE_FIELDS + 1));
        assert!(ResponseHead::read(many.as_bytes()).is_err());
    }
}
