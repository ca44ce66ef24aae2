//! HTTP/1.1 as its standard writes it (RFC 9112), read by a parser that shares no code with the gateway: it knows one
//! spelling of everything and gives up at any other.

/// A request as it stood on the wire.
#[derive(Clone, Debug, Default)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) is_http10: bool,
    /// Names as they were written; values without the white space around them.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
}

impl Request {
    pub(crate) fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    pub(crate) fn all(&self, name: &str) -> Vec<&[u8]> {
        all(&self.fields, name)
    }

    /// Whether the connection ends with it.
    pub(crate) fn is_last(&self) -> bool {
        let says = |word: &[u8]| {
            self.all("connection")
                .iter()
                .flat_map(|value| value.split(|byte| *byte == b','))
                .any(|token| trim(token).eq_ignore_ascii_case(word))
        };
        says(b"close") || self.is_http10 && !says(b"keep-alive")
    }
}

/// A response as it stood on the wire.
#[derive(Clone, Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, Vec<u8>)>,
}

impl Response {
    /// The value of the one field of this name; nothing when there is none, or more than one.
    pub(crate) fn one(&self, name: &str) -> &[u8] {
        match all(&self.fields, name)[..] {
            [value] => value,
            _ => b"",
        }
    }
}

/// Why there is not one more message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Stop {
    /// It may still become one.
    Unfinished,
    /// It never will.
    Faulty(&'static str),
}

type Fields = Vec<(String, Vec<u8>)>;
type Read<T> = Result<(T, usize), Stop>;

/// The request at the start of `bytes`, and how long it is.
pub(crate) fn request(bytes: &[u8]) -> Read<Request> {
    let (lines, length) = head(bytes)?;
    let (line, fields) = lines.split_first().ok_or(Stop::Faulty("no request line"))?;
    let parts: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
    let [method, target, version] = parts[..] else { return Err(Stop::Faulty("request line")) };
    let is_http10 = match version {
        b"HTTP/1.1" => false,
        b"HTTP/1.0" => true,
        _ => return Err(Stop::Faulty("version")),
    };
    if !is_token(method) || !method[0].is_ascii_alphabetic() {
        return Err(Stop::Faulty("method"));
    }
    if target.is_empty() || !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err(Stop::Faulty("target"));
    }
    let fields = read_fields(fields)?;
    let (body, trailers, more) = body(&bytes[length..], &fields, is_http10)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let request = Request { method: text(method), target: text(target), is_http10, fields, body, trailers };
    Ok((request, length + more))
}

/// All requests at the start of `bytes` up to the one that ends the connection, as the strictest server reads them: one
/// empty line before each is passed over (RFC 9112 §2.2). What follows the last of them, when it is none.
pub(crate) fn requests(mut bytes: &[u8]) -> (Vec<Request>, Option<Stop>) {
    let mut all = Vec::new();
    loop {
        bytes = bytes.strip_prefix(b"\r\n").unwrap_or(bytes);
        if bytes.is_empty() {
            return (all, None);
        }
        match request(bytes) {
            // What follows is not HTTP (RFC 9110 §9.3.6).
            Ok((request, _)) if request.method == "CONNECT" => return (all, Some(Stop::Faulty("tunnel"))),
            Ok((request, length)) => {
                let is_last = request.is_last();
                all.push(request);
                if is_last {
                    return (all, None);
                }
                bytes = &bytes[length..];
            }
            Err(stop) => return (all, Some(stop)),
        }
    }
}

/// The response at the start of `bytes` and how long it is; interim ones (1xx) are passed over. `closed`: no more will
/// come.
pub(crate) fn response(bytes: &[u8], to_head: bool, closed: bool) -> Read<Response> {
    let mut start = 0;
    loop {
        let (lines, length) = head(&bytes[start..])?;
        start += length;
        let (line, fields) = lines.split_first().ok_or(Stop::Faulty("no status line"))?;
        let status = match line.split(|byte| *byte == b' ').collect::<Vec<_>>()[..] {
            [b"HTTP/1.1" | b"HTTP/1.0", status, ..] => std::str::from_utf8(status).ok().and_then(|it| it.parse().ok()),
            _ => None,
        };
        let status: u16 = status.filter(|it| (100..600).contains(it)).ok_or(Stop::Faulty("status line"))?;
        let fields = read_fields(fields)?;
        if status < 200 && status != 101 {
            continue;
        }
        let rest = &bytes[start..];
        let is_framed = !all(&fields, "content-length").is_empty() || !all(&fields, "transfer-encoding").is_empty();
        let (body, trailers, more) = if to_head || matches!(status, 101 | 204 | 304) {
            (Vec::new(), Vec::new(), 0)
        } else if is_framed {
            body(rest, &fields, false)?
        } else if closed {
            (rest.to_vec(), Vec::new(), rest.len())
        } else {
            return Err(Stop::Unfinished);
        };
        return Ok((Response { status, fields, body, trailers }, start + more));
    }
}

/// The lines of a head, without the empty one, and its length.
fn head(bytes: &[u8]) -> Read<Vec<&[u8]>> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").ok_or(Stop::Unfinished)?;
    let mut lines = Vec::new();
    let mut rest = &bytes[..end + 2];
    while let Some(at) = rest.windows(2).position(|window| window == b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    if lines.iter().any(|line| line.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t')) {
        return Err(Stop::Faulty("control byte in a head"));
    }
    Ok((lines, end + 4))
}

fn read_fields(lines: &[&[u8]]) -> Result<Fields, Stop> {
    let field = |line: &&[u8]| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (&line[..colon], &line[colon + 1..]);
        is_token(name).then(|| (String::from_utf8_lossy(name).into_owned(), trim(value).to_vec()))
    };
    lines.iter().map(|line| field(line).ok_or(Stop::Faulty("field line"))).collect()
}

/// Body, trailers, and how many bytes they take.
fn body(bytes: &[u8], fields: &Fields, is_http10: bool) -> Result<(Vec<u8>, Fields, usize), Stop> {
    match (&all(fields, "content-length")[..], &all(fields, "transfer-encoding")[..]) {
        ([], []) => Ok((Vec::new(), Vec::new(), 0)),
        ([length], []) => {
            let length = number(length).ok_or(Stop::Faulty("length"))?;
            let length = usize::try_from(length).map_err(|_too_long| Stop::Unfinished)?;
            let body = bytes.get(..length).ok_or(Stop::Unfinished)?;
            Ok((body.to_vec(), Vec::new(), length))
        }
        ([], [coding]) if coding.eq_ignore_ascii_case(b"chunked") && !is_http10 => chunks(bytes),
        _ => Err(Stop::Faulty("framing")),
    }
}

fn chunks(bytes: &[u8]) -> Result<(Vec<u8>, Fields, usize), Stop> {
    let mut body = Vec::new();
    let mut at = 0;
    loop {
        let line = line(bytes, at)?;
        at += line.len() + 2;
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let is_extension = matches!(line.get(digits), None | Some(b';')) && line.len() - digits <= 257;
        if !(1..=16).contains(&digits) || !is_extension {
            return Err(Stop::Faulty("chunk size"));
        }
        let size = std::str::from_utf8(&line[..digits]).ok().and_then(|text| i64::from_str_radix(text, 16).ok());
        let size = size.and_then(|size| usize::try_from(size).ok()).ok_or(Stop::Faulty("chunk size"))?;
        if size == 0 {
            break;
        }
        let end = at.checked_add(size).ok_or(Stop::Unfinished)?;
        body.extend_from_slice(bytes.get(at..end).ok_or(Stop::Unfinished)?);
        match bytes.get(end..end + 2) {
            Some(b"\r\n") => at = end + 2,
            Some(_) => return Err(Stop::Faulty("end of a chunk")),
            None => return Err(Stop::Unfinished),
        }
    }
    let mut lines = Vec::new();
    loop {
        let line = line(bytes, at)?;
        at += line.len() + 2;
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let trailers = read_fields(&lines)?;
    let never = ["content-length", "transfer-encoding", "host"];
    if trailers.iter().any(|(name, _)| never.iter().any(|never| name.eq_ignore_ascii_case(never))) {
        return Err(Stop::Faulty("framing in trailers"));
    }
    Ok((body, trailers, at))
}

/// The line at `at`, without its end.
fn line(bytes: &[u8], at: usize) -> Result<&[u8], Stop> {
    let rest = &bytes[at..];
    let end = rest.windows(2).position(|window| window == b"\r\n");
    let line = &rest[..end.unwrap_or(rest.len())];
    // The last byte may be the CR of an end that is not all there.
    let certain = if end.is_none() { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
    if certain.iter().any(|byte| byte.is_ascii_control() && *byte != b'\t') {
        return Err(Stop::Faulty("control byte in a line"));
    }
    end.map(|_| line).ok_or(Stop::Unfinished)
}

/// A number in its one canonical form.
fn number(text: &[u8]) -> Option<u64> {
    let number = std::str::from_utf8(text).ok()?.parse::<u64>().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

fn all<'f>(fields: &'f Fields, name: &str) -> Vec<&'f [u8]> {
    let named = fields.iter().filter(|(one, _)| one.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_slice()).collect()
}

fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

fn trim(value: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !is_space(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !is_space(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// What judges all else is judged first.
#[test]
fn the_strict_reader_knows_one_spelling_of_everything() {
    let good: [(&[u8], &str); 4] = [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", ""),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "abc"),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nabc\r\n0\r\nX-A: b\r\n\r\n", "abc"),
        (b"GET / HTTP/1.0\r\n\r\n", ""),
    ];
    for (bytes, body) in good {
        let (read, length) = request(bytes).expect("a request");
        assert_eq!((read.body.as_slice(), length), (body.as_bytes(), bytes.len()));
        for end in 0..bytes.len() {
            assert_eq!(request(&bytes[..end]).err(), Some(Stop::Unfinished), "{}", bytes[..end].escape_ascii());
        }
    }
    for bad in [
        &b"GET / HTTP/1.1\nHost: a\r\n\r\n"[..],
        b"GET  / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.2\r\n\r\n",
        b"GET /#a HTTP/1.1\r\n\r\n",
        b"- / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-A : b\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-A: b\r\n c\r\n\r\n",
        b"GET / HTTP/1.1\r\nX-A: \0\r\n\r\n",
        b"GET / HTTP/1.1\r\nContent-Length: 03\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
        b"GET / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nHost: b\r\n\r\n",
    ] {
        assert!(matches!(request(bad), Err(Stop::Faulty(_))), "{}", bad.escape_ascii());
    }
    let (all, stop) = requests(b"GET /1 HTTP/1.1\r\n\r\n\r\nGET /2 HTTP/1.1\r\n\r\nGET /3");
    assert_eq!((all.len(), stop), (2, Some(Stop::Unfinished)));
}
