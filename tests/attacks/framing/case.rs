//! One named attempt, what must become of it, and whether it did.

use super::front::{Came, Front};
use super::recorder::Seen;
use super::wire::Request;

/// What is sent behind each case: answered only when the end of the case is beyond doubt. It ends the connection.
pub(crate) const AFTER: &str = "GET /public/after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

/// What the gateway writes into every request.
const OURS: [&str; 7] =
    ["via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "traceparent", "x-request-id"];

/// A request as the upstream must see it, besides what the gateway adds to all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Form {
    /// Method and target.
    pub(crate) line: &'static str,
    pub(crate) host: &'static str,
    /// All other fields of the client's that reach it; in any order.
    pub(crate) fields: &'static [(&'static str, &'static str)],
    pub(crate) body: &'static str,
}

/// What must become of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Verdict {
    /// Its framing is in doubt: this status, no byte to the upstream, and the connection ends.
    Refuse(u16),
    /// Its head is sound, its body is not: this status, the upstream sees nothing whole, and the connection ends.
    Break(u16),
    /// Refused for another reason: this status. What follows may be answered.
    Deny(u16),
    /// The client ends in the middle: nothing whole reaches the upstream. No answer is owed.
    Cut,
    /// It arrives so, and so does what follows.
    Forward(Form),
    /// It arrives so, and is the last of its connection.
    Last(Form),
    /// The requests it is made of arrive so, and so does what follows.
    Several(&'static [Form]),
    /// A request arrives so; the one behind it is refused with this status, and the connection ends.
    Then(Form, u16),
}

/// A case by name.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    pub(crate) verdict: Verdict,
}

/// `GET /public/c` with these fields.
pub(crate) const fn gets(fields: &'static [(&'static str, &'static str)]) -> Verdict {
    Verdict::Forward(Form { line: "GET /public/c", host: "a", fields, body: "" })
}

/// `POST /public/c` with this body.
pub(crate) const fn posts(body: &'static str) -> Verdict {
    Verdict::Forward(Form { line: "POST /public/c", host: "a", fields: &[], body })
}

impl Case {
    pub(crate) fn new(name: impl Into<String>, bytes: impl AsRef<[u8]>, verdict: Verdict) -> Self {
        Self { name: name.into(), bytes: bytes.as_ref().to_vec(), verdict }
    }

    /// `POST /public/c` with raw field lines and a raw body.
    pub(crate) fn post(area: &str, name: &str, fields: &[u8], body: &[u8], verdict: Verdict) -> Self {
        let head = b"POST /public/c HTTP/1.1\r\nHost: a\r\n";
        Self::new(format!("{area}: {name}"), [head, fields, b"\r\n", body].concat(), verdict)
    }

    /// `GET /public/c` with raw field lines.
    pub(crate) fn get(area: &str, name: &str, fields: &[u8], verdict: Verdict) -> Self {
        let head = b"GET /public/c HTTP/1.1\r\nHost: a\r\n";
        Self::new(format!("{area}: {name}"), [head, fields, b"\r\n"].concat(), verdict)
    }

    pub(crate) fn is_cut(&self) -> bool {
        matches!(self.verdict, Verdict::Cut)
    }

    /// As it is sent: with the request behind it, unless the client ends in the middle.
    pub(crate) fn wire(&self) -> Vec<u8> {
        let after = if self.is_cut() { "" } else { AFTER };
        [&self.bytes, after.as_bytes()].concat()
    }

    /// Sends it at once and judges it; what was wrong.
    pub(crate) fn run(&self, front: &Front) -> Result<(), String> {
        let came = front.tell(&self.wire(), self.is_cut());
        self.conclude(front, &came)
    }

    /// The same in pieces.
    pub(crate) fn run_cut(&self, front: &Front, pieces: &[&[u8]]) -> Result<(), String> {
        let came = front.tell_cut(pieces, self.is_cut());
        self.conclude(front, &came)
    }

    fn conclude(&self, front: &Front, came: &Came) -> Result<(), String> {
        if (self.is_cut() || matches!(self.verdict, Verdict::Break(_))) && !front.barrier() {
            return Err("the gateway serves no more".to_owned());
        }
        let mut seen = front.recorder.take();
        seen.requests.retain(|request| request.target != "/public/barrier");
        self.judge(came, &seen).map_err(|wrong| {
            let came = came.bytes.escape_ascii().to_string();
            format!("{wrong}\n    client got {}\n    upstream saw {seen:?}", came.get(..400).unwrap_or(&came))
        })
    }

    fn judge(&self, came: &Came, seen: &Seen) -> Result<(), String> {
        let (responses, stop) = came.responses(self.bytes.starts_with(b"HEAD "));
        let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
        check(seen.faults.is_empty(), "the upstream was sent what is no request")?;
        check(seen.pending == 0, "the upstream waits for the rest of a request")?;
        check(!statuses.iter().any(|status| *status >= 500 && *status != 501), "a 5xx for what a client sent")?;
        for request in &seen.requests {
            is_ours(request)?;
        }
        let (forms, refused, goes_on) = match self.verdict {
            Verdict::Forward(form) => (vec![form], None, true),
            Verdict::Several(forms) => (forms.to_vec(), None, true),
            Verdict::Last(form) => (vec![form], None, false),
            Verdict::Then(form, status) => (vec![form], Some(status), false),
            Verdict::Refuse(status) | Verdict::Break(status) => (Vec::new(), Some(status), false),
            Verdict::Deny(status) => (Vec::new(), Some(status), seen.requests.len() == 1),
            Verdict::Cut => {
                check(seen.requests.is_empty(), "a request without its end was forwarded")?;
                return check(statuses.iter().all(|status| *status >= 400), "answered without its end");
            }
        };
        check(stop.is_none(), "the answers are no HTTP")?;
        check(came.closed, "the connection stayed open")?;
        if !matches!(self.verdict, Verdict::Break(_)) {
            check(seen.unfinished.is_empty(), "a piece of a request reached the upstream")?;
        }
        let mut expected = vec![200; forms.len()];
        expected.extend(refused);
        expected.extend(goes_on.then_some(200));
        check(statuses == expected, &format!("statuses {statuses:?}, not {expected:?}"))?;
        let after = goes_on.then_some(Form { line: "GET /public/after", host: "a", fields: &[], body: "" });
        let meant: Vec<Form> = forms.into_iter().chain(after).collect();
        check(seen.requests.len() == meant.len(), &format!("{} requests for {}", seen.requests.len(), meant.len()))?;
        for (request, form) in seen.requests.iter().zip(&meant) {
            form.is(request)?;
        }
        if matches!(self.verdict, Verdict::Refuse(400 | 413 | 414 | 431 | 501) | Verdict::Break(_) | Verdict::Then(..))
        {
            let last = responses.last().map(|response| response.one("connection")).unwrap_or_default();
            check(last == b"close", "the end of the connection is not announced")?;
        }
        // Each answer is that to its own request, and a refusal says why.
        let mut asked = seen.requests.iter();
        for (response, to_head) in responses.iter().zip([self.bytes.starts_with(b"HEAD "), false, false, false]) {
            if response.status == 200 {
                let is_its = asked.next().is_some_and(|request| to_head || response.body == request.line().as_bytes());
                check(is_its, "an answer is not that to its request")?;
            } else {
                check(to_head || response.body.starts_with(b"{\"error\":"), "refused without a word")?;
            }
        }
        Ok(())
    }
}

impl Form {
    fn is(&self, request: &Request) -> Result<(), String> {
        check(request.line() == self.line, &format!("{:?}, not {:?}", request.line(), self.line))?;
        check(request.body == self.body.as_bytes(), "another body")?;
        check(request.all("host") == [self.host.as_bytes()], "another host")?;
        let is_framing = |name: &str| matches!(name, "host" | "content-length" | "transfer-encoding");
        let mut got: Vec<(&str, String)> = request
            .fields
            .iter()
            .filter(|(name, _)| !OURS.contains(&name.as_str()) && !is_framing(name))
            .map(|(name, value)| (name.as_str(), value.escape_ascii().to_string()))
            .collect();
        let mut meant: Vec<(&str, String)> = self.fields.iter().map(|(name, it)| (*name, (*it).to_owned())).collect();
        got.sort_unstable();
        meant.sort_unstable();
        check(got == meant, &format!("fields {got:?}, not {meant:?}"))
    }
}

/// Whether a request is one that the gateway wrote: our names, each once; no name that a backend could fold into
/// another; nobody's identity, since nobody signed in.
pub(crate) fn is_ours(request: &Request) -> Result<(), String> {
    for name in OURS {
        check(request.all(name).len() == 1, &format!("{name} {} times", request.all(name).len()))?;
    }
    check(request.all("via")[0].ends_with(b"1.1 portcullis"), "`Via` of another")?;
    check(!request.is_http10 && request.target.starts_with('/'), "not the form of ours")?;
    let is_plain =
        |name: &str| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    check(request.fields.iter().chain(&request.trailers).all(|(name, _)| is_plain(name)), "a name that is not plain")?;
    check(request.all("x-user-id").is_empty() && request.all("x-session-id").is_empty(), "an identity")
}

fn check(holds: bool, wrong: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(wrong.to_owned()) }
}
