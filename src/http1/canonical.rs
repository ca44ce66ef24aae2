//! The head of a request in its strictest form: nothing in it that needs a second thought.
//!
//! Most requests are written like this. What is not (another protocol asked for, a body in chunks, an expectation, a
//! target or version in another form) is no less valid; it is read by those who know all of HTTP.

use http::Method;
use smallvec::SmallVec;

use super::field::{line_end, token_length, trim};
use super::head::split;
use super::{Framing, HeadLimits, content_length};

/// Bytes of a field's name; hyper takes no longer one.
const MAX_NAME: usize = u16::MAX as usize;

/// The fields of a head: name as it was sent and value without white space around it.
type Fields<'a> = SmallVec<[(&'a [u8], &'a [u8]); 24]>;

/// A head in its strictest form. Whatever it is, [`HeadReader`](super::HeadReader) takes it for the same request.
#[derive(Debug)]
pub struct CanonicalHead<'a> {
    /// One of those that any upstream knows; never `OPTIONS`, `CONNECT` or `TRACE`.
    pub method: Method,
    /// In origin form (RFC 9112 §3.2.1): visible ASCII that begins with a slash and has no fragment.
    pub target: &'a str,
    /// The one `Host`.
    pub host: &'a [u8],
    /// [`Framing::None`] or [`Framing::Length`].
    pub framing: Framing,
    /// Whether the client wants the connection to end after this request.
    pub closes: bool,
    /// Bytes of the head, the empty line included.
    pub length: usize,
    fields: Fields<'a>,
}

/// What bytes are, as the strictest reader sees them.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "made once for a request, and borrowed from there")]
pub enum Canonical<'a> {
    /// They begin with this head.
    Head(CanonicalHead<'a>),
    /// They may become one.
    Incomplete,
    /// They are something else, valid or not.
    Other,
}

impl<'a> CanonicalHead<'a> {
    /// All fields in their order, `Host` and `Content-Length` among them.
    pub fn fields(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.fields.iter().copied()
    }

    /// The values of the fields with this name (in lower case), in their order.
    pub fn values(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.fields().filter(move |(one, _)| one.eq_ignore_ascii_case(name.as_bytes())).map(|(_, value)| value)
    }

    /// The target without its query.
    pub fn path(&self) -> &'a str {
        self.target.split_once('?').map_or(self.target, |(path, _)| path)
    }
}

impl<'a> Canonical<'a> {
    /// Reads the head that `bytes` begin with.
    pub fn read(bytes: &'a [u8], limits: &HeadLimits) -> Self {
        // No further than a head may go.
        let bytes = bytes.get(..limits.bytes).unwrap_or(bytes);
        match read(bytes, limits) {
            Ok(Some(head)) => Self::Head(head),
            // What is longer than it may be is refused by who knows how.
            Ok(None) if bytes.len() < limits.bytes => Self::Incomplete,
            Ok(None) | Err(Otherwise) => Self::Other,
        }
    }
}

/// It is no head in its strictest form.
struct Otherwise;

fn read<'a>(bytes: &'a [u8], limits: &HeadLimits) -> Result<Option<CanonicalHead<'a>>, Otherwise> {
    let Some(end) = line_end(bytes, 0).map_err(|_malformed| Otherwise)? else { return Ok(None) };
    let (method, target) = request_line(&bytes[..end])?;
    let mut fields = Fields::new();
    let (mut host, mut framing, mut connection) = (None, Framing::None, None);
    let mut at = end + 2;
    loop {
        let Some(end) = line_end(bytes, at).map_err(|_malformed| Otherwise)? else { return Ok(None) };
        let line = &bytes[at..end];
        at = end + 2;
        if line.is_empty() {
            break;
        }
        if fields.len() == limits.fields {
            return Err(Otherwise);
        }
        let (name, value) = split(line).map_err(|_malformed| Otherwise)?;
        let value = trim(value);
        if name.len() > MAX_NAME {
            return Err(Otherwise);
        }
        // By length first: most names are none of these, and are seen not to be by one comparison.
        match name.len() {
            2 if name.eq_ignore_ascii_case(b"te") => return Err(Otherwise),
            4 if name.eq_ignore_ascii_case(b"host") && host.replace(value).is_some() => return Err(Otherwise),
            6 if name.eq_ignore_ascii_case(b"expect") => return Err(Otherwise),
            7 if name.eq_ignore_ascii_case(b"upgrade") || name.eq_ignore_ascii_case(b"trailer") => {
                return Err(Otherwise);
            }
            10 if name.eq_ignore_ascii_case(b"connection") && connection.replace(value).is_some() => {
                return Err(Otherwise);
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                if framing != Framing::None {
                    return Err(Otherwise);
                }
                framing = Framing::Length(content_length(value).ok_or(Otherwise)?);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => return Err(Otherwise),
            _ => {}
        }
        fields.push((name, value));
    }
    let closes = match connection {
        None => false,
        Some(value) if value.eq_ignore_ascii_case(b"keep-alive") => false,
        Some(value) if value.eq_ignore_ascii_case(b"close") => true,
        // It names fields.
        Some(_) => return Err(Otherwise),
    };
    let host = host.ok_or(Otherwise)?;
    Ok(Some(CanonicalHead { method, target, host, framing, closes, length: at, fields }))
}

/// Method and target of `GET /path HTTP/1.1`.
fn request_line(line: &[u8]) -> Result<(Method, &str), Otherwise> {
    let length = token_length(line);
    let method = match &line[..length] {
        b"GET" => Method::GET,
        b"HEAD" => Method::HEAD,
        b"POST" => Method::POST,
        b"PUT" => Method::PUT,
        b"PATCH" => Method::PATCH,
        b"DELETE" => Method::DELETE,
        _ => return Err(Otherwise),
    };
    let target = line[length..].strip_prefix(b" ").and_then(|rest| rest.strip_suffix(b" HTTP/1.1")).ok_or(Otherwise)?;
    // Not what only some readers take for a part of a target.
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'#' | b'"' | b'<' | b'>' | b'`');
    if target.first() != Some(&b'/') || !target.iter().all(is_plain) {
        return Err(Otherwise);
    }
    let target = std::str::from_utf8(target).map_err(|_not_ascii| Otherwise)?;
    Ok((method, target))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::HeadReader;
    use super::*;

    fn read(text: &str) -> Option<CanonicalHead<'_>> {
        match Canonical::read(text.as_bytes(), &HeadLimits::default()) {
            Canonical::Head(head) => Some(head),
            Canonical::Incomplete | Canonical::Other => None,
        }
    }

    #[test]
    fn what_most_clients_send_is_taken() {
        let text = "POST /a?b=c HTTP/1.1\r\nHost: shop.example:8443\r\nAccept:*/* \r\ncontent-length: 17\r\n\r\nbody";
        let head = read(text).unwrap();
        assert_eq!((head.method.as_str(), head.target, head.path()), ("POST", "/a?b=c", "/a"));
        assert_eq!((head.host, head.framing, head.closes), (&b"shop.example:8443"[..], Framing::Length(17), false));
        assert_eq!(&text[head.length..], "body");
        assert_eq!(head.values("accept").collect::<Vec<_>>(), [b"*/*"]);
        assert_eq!(head.fields().count(), 3);
        for (connection, closes) in [("keep-alive", false), ("Keep-Alive", false), ("close", true), ("CLOSE", true)] {
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\n\r\n");
            assert_eq!(read(&text).map(|head| head.closes), Some(closes), "{connection}");
        }
    }

    #[test]
    fn what_needs_a_second_thought_is_left_to_others() {
        let cases = [
            ("another method", "OPTIONS / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("a method in lower case", "get / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("a tunnel", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"),
            ("the absolute form", "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("the asterisk form", "GET * HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("a fragment", "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("bytes beyond ASCII", "GET /\u{fc} HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("a space in the target", "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("two spaces", "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\n\r\n"),
            ("no host", "GET / HTTP/1.1\r\nAccept: */*\r\n\r\n"),
            ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"),
            ("an upgrade", "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n"),
            ("an expectation", "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"),
            ("trailers taken", "GET / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\n\r\n"),
            ("trailers told of", "GET / HTTP/1.1\r\nHost: a\r\nTrailer: a\r\n\r\n"),
            ("chunks", "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"),
            ("two lengths", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n"),
            ("a length with a sign", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n"),
            ("a length with a zero", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 01\r\n\r\n"),
            ("fields of this hop", "GET / HTTP/1.1\r\nHost: a\r\nConnection: x-a\r\n\r\n"),
            ("two wishes", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nConnection: close\r\n\r\n"),
            ("a list of wishes", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close, te\r\n\r\n"),
            ("an empty line before", "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
            ("a folded line", "GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n"),
            ("a space behind a name", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
            ("a bare LF", "GET / HTTP/1.1\nHost: a\n\n"),
            ("a bare CR", "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n"),
            ("a control byte", "GET / HTTP/1.1\r\nHost: a\r\nA: \u{1}\r\n\r\n"),
        ];
        let taken: Vec<_> = cases
            .iter()
            .filter(|(_, text)| !matches!(Canonical::read(text.as_bytes(), &HeadLimits::default()), Canonical::Other))
            .collect();
        assert!(taken.is_empty(), "{taken:?}");
    }

    #[test]
    fn a_name_that_hyper_would_refuse_is_left_to_it() {
        let text = |length| format!("GET / HTTP/1.1\r\nHost: a\r\n{}: b\r\n\r\n", "x".repeat(length));
        let limits = HeadLimits { bytes: 100_000, ..HeadLimits::default() };
        assert!(matches!(Canonical::read(text(MAX_NAME).as_bytes(), &limits), Canonical::Head(_)));
        assert!(matches!(Canonical::read(text(MAX_NAME + 1).as_bytes(), &limits), Canonical::Other));
    }

    #[test]
    fn the_bounds_of_a_head_hold() {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nA: b\r\n\r\n";
        let read = |bytes, fields| Canonical::read(text, &HeadLimits { bytes, fields });
        assert!(matches!(read(text.len(), 2), Canonical::Head(_)));
        assert!(matches!(read(text.len() - 1, 2), Canonical::Other));
        assert!(matches!(read(text.len(), 1), Canonical::Other));
        for end in 0..text.len() {
            let part = Canonical::read(&text[..end], &HeadLimits::default());
            assert!(matches!(part, Canonical::Incomplete), "{end}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4000))]
        /// Both readers see the same request, and so does hyper's parser.
        #[test]
        fn whatever_is_taken_every_other_reader_takes_for_the_same(
            method in prop::sample::select(vec!["GET", "HEAD", "POST", "PUT", "get", "OPTIONS"]),
            target in "/[ -~]{0,12}",
            lines in prop::collection::vec(prop_oneof![
                "[A-Za-z_-]{1,9}:[ \t]{0,2}[ -~\u{80}-\u{ff}]{0,9}",
                prop::sample::select(vec!["Content-Length: 3", "Connection: close", "Host: b", "TE: trailers", "A :b", " a"])
                    .prop_map(str::to_owned),
            ], 0..5),
            place in any::<prop::sample::Index>(),
            byte in prop::option::of(any::<u8>()),
        ) {
            let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.iter().map(|line| format!("{line}\r\n")).collect::<String>())
                .into_bytes();
            if let Some(byte) = byte {
                bytes.insert(place.index(bytes.len()), byte);
            }
            let limits = HeadLimits::default();
            let Canonical::Head(head) = Canonical::read(&bytes, &limits) else { return Ok(()) };
            let strict = HeadReader::default().read(&bytes, &limits);
            let strict = strict.unwrap().unwrap();
            prop_assert_eq!((strict.length, strict.framing, strict.may_switch), (head.length, head.framing, false));
            let mut fields = [httparse::EMPTY_HEADER; 32];
            let mut request = httparse::Request::new(&mut fields);
            prop_assert_eq!(request.parse(&bytes).unwrap(), httparse::Status::Complete(head.length));
            prop_assert_eq!((request.method, request.path, request.version), (Some(head.method.as_str()), Some(head.target), Some(1)));
            let parsed: Vec<_> = request.headers.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
            prop_assert_eq!(parsed, head.fields().collect::<Vec<_>>());
            prop_assert!(http::Uri::try_from(head.target).is_ok());
        }
    }
}
