//! What a route does with a request: send it to an upstream, send the client elsewhere, or answer.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};

use super::headers;
use crate::config::nearest::suggestion;
use crate::config::reader::{Table, Value};
use crate::config::server::io_reason;
use crate::config::{Upstream, names, shape};

/// What becomes of a request that a route lets through: a route has exactly one of the keys `upstream`, `redirect` and
/// `respond`.
#[derive(Clone, Debug)]
pub enum Action {
    /// `upstream`
    Forward(Forward),
    /// `redirect`
    Redirect(Redirect),
    /// `respond`
    Respond(Respond),
}

/// `route.upstream`
#[derive(Clone, Debug)]
pub struct Forward {
    /// Index into [`Config::upstreams`](crate::config::Config::upstreams).
    pub upstream: usize,
    /// `strip_prefix` or `rewrite`; without them the path is forwarded as it came.
    pub rewrite: Option<Rewrite>,
}

/// What stands in place of the route's own path when a request is forwarded.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Rewrite {
    /// `strip_prefix = true`: nothing; the path itself becomes `/`.
    Strip,
    /// `rewrite`: this canonical path, without a slash at its end.
    To(String),
}

/// `route.redirect`
#[derive(Clone, Debug)]
pub struct Redirect {
    /// An absolute `http` or `https` URL.
    pub target: String,
    /// Whether `target` ends behind its host: the request's path and query are put behind it then.
    pub keeps_path: bool,
    /// `redirect_status`: 301, 302, 303, 307 or 308, the default.
    pub status: StatusCode,
}

/// `route.respond`: the same answer for every request.
#[derive(Clone, Debug)]
pub struct Respond {
    /// `status`, 200 by default; 200 to 599.
    pub status: StatusCode,
    /// `body`, or what `body_file` held when it was read; empty by default, at most 1 MiB.
    pub body: Bytes,
    /// `body_file`
    pub body_file: Option<PathBuf>,
    /// `content_type`, `text/plain; charset=utf-8` by default when there is a body.
    pub content_type: Option<HeaderValue>,
    /// `headers`: more fields.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

/// Most bytes of a fixed body: it stays in memory.
const MOST_BODY_BYTES: u64 = 1 << 20;

const DEFAULT_CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The keys that say something of a request on its way to an upstream.
const OF_FORWARDING: [&str; 8] = [
    "strip_prefix",
    "rewrite",
    "forward_token",
    "response_timeout",
    "early_hints",
    "on_token_expiry",
    "upgrades",
    "request_headers",
];

/// Reads the action of the route at `path`. `upstreams` are the names it may use.
pub(super) fn action(table: &Table<'_>, path: &str, upstreams: &[Upstream]) -> Action {
    const KEYS: [&str; 3] = ["upstream", "redirect", "respond"];
    let mut given = KEYS.into_iter().filter_map(|key| table.get(key).map(|value| (key, value)));
    let first = given.next();
    if let (Some((first, _)), Some((_, second))) = (&first, given.next()) {
        second.report(format_args!("stands beside {first}, expected one of upstream, redirect and respond"));
    }
    if let Some((key @ ("redirect" | "respond"), _)) = first {
        for value in OF_FORWARDING.into_iter().filter_map(|key| table.get(key)) {
            value.report(format_args!("has no effect with {key}, which forwards nothing"));
        }
    }
    if let Some(status) = table.get("redirect_status").filter(|_| !matches!(first, Some(("redirect", _)))) {
        status.report("has no effect without redirect");
    }
    match first {
        Some(("redirect", value)) => Action::Redirect(redirect(table, &value)),
        Some(("respond", _)) => Action::Respond(respond(table)),
        Some((_, value)) => Action::Forward(Forward {
            upstream: upstream_index(&value, upstreams).unwrap_or(usize::MAX),
            rewrite: rewrite(table, path),
        }),
        None => {
            table.missing("upstream", "the name of an [upstream.NAME], or redirect or respond in its place");
            Action::Forward(Forward { upstream: usize::MAX, rewrite: rewrite(table, path) })
        }
    }
}

fn upstream_index(value: &Value<'_>, upstreams: &[Upstream]) -> Option<usize> {
    let name = value.text("the name of an [upstream.NAME]")?;
    let index = upstreams.iter().position(|upstream| &*upstream.name == name);
    if index.is_none() {
        let known = upstreams.iter().map(|upstream| &*upstream.name);
        value.fault_absent(format_args!("is not defined{}", suggestion(name, known)));
    }
    index
}

fn rewrite(table: &Table<'_>, path: &str) -> Option<Rewrite> {
    let (strip, to) = (table.get("strip_prefix"), table.get("rewrite"));
    if let (Some(_), Some(to)) = (&strip, &to) {
        to.report("stands beside strip_prefix, expected one of them");
    }
    if let Some(strip) = strip {
        let strips = strip.flag()?;
        if strips && path == "/" {
            strip.report("has no effect with path \"/\", of which nothing can be cut off");
        }
        return strips.then_some(Rewrite::Strip);
    }
    let value = to?;
    let to = value.parsed("a path such as \"/v2/api\"", super::path_of)?;
    if to == path {
        value.fault("is the route's own path, expected another");
    } else if to == "/" {
        value.fault("is what strip_prefix = true says");
    }
    Some(Rewrite::To(to))
}

fn redirect(table: &Table<'_>, value: &Value<'_>) -> Redirect {
    const STATUSES: [u64; 5] = [301, 302, 303, 307, 308];
    let example = "https://new.example.com";
    let target = value.parsed(&format!("a URL such as {example:?}"), |text| {
        // It is sent in a header, byte for byte.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(String::from("has spaces or letters that are not ASCII, expected them percent-encoded"));
        }
        let uri = names::url(text, example)?;
        let (scheme, authority) = (uri.scheme_str().unwrap_or_default(), uri.authority().map(|it| it.as_str()));
        let origin = scheme.len() + "://".len() + authority.unwrap_or_default().len();
        Ok((text.to_owned(), text.len() == origin))
    });
    let (target, keeps_path) = target.unwrap_or_default();
    let status = table.get("redirect_status").and_then(|value| {
        let status = value.count(301..=308, None)?;
        if !STATUSES.contains(&status) {
            value.fault("is no status of a redirect, expected 301, 302, 303, 307 or 308");
        }
        u16::try_from(status).ok().and_then(|status| StatusCode::from_u16(status).ok())
    });
    Redirect { target, keeps_path, status: status.unwrap_or(StatusCode::PERMANENT_REDIRECT) }
}

fn respond(table: &Table<'_>) -> Respond {
    let table = table.inner("respond", &shape::RESPOND);
    let status = table.get("status").and_then(|value| value.count(200..=599, None));
    let status = status.and_then(|status| u16::try_from(status).ok().and_then(|it| StatusCode::from_u16(it).ok()));
    let status = status.unwrap_or(StatusCode::OK);
    let (text, file) = (table.get("body"), table.get("body_file"));
    if let (Some(_), Some(file)) = (&text, &file) {
        file.report("stands beside body, expected one of them");
    }
    let body_file = file.as_ref().and_then(Value::path);
    let body = match (&text, &file, &body_file) {
        (Some(text), ..) => text.text("a text").map(|text| Bytes::from(text.to_owned())),
        (None, Some(file), Some(path)) => read_bounded(path)
            .map_err(|why| file.report(format_args!("cannot be read from {}: {why}", path.display())))
            .ok(),
        _ => None,
    };
    let body = body.unwrap_or_default();
    // RFC 9110 §15.3.5, §15.3.6, §15.4.5: these have none.
    if matches!(status.as_u16(), 204 | 205 | 304)
        && let Some(value) = text.as_ref().or(file.as_ref())
    {
        value.report(format_args!("has no effect with status {}, which has no body", status.as_u16()));
    }
    if text.is_some() && body.len() as u64 > MOST_BODY_BYTES {
        table.fault("body has more than 1MiB");
    }
    let content_type = table.get("content_type");
    if let Some(value) = content_type.as_ref().filter(|_| text.is_none() && file.is_none()) {
        value.report("has no effect without body or body_file");
    }
    let content_type = content_type.and_then(|value| headers::value_of(&value));
    let headers = table.get("headers").map(|value| headers::fields(&value, names::answered_header));
    Respond {
        status,
        content_type: content_type.or_else(|| (!body.is_empty()).then_some(DEFAULT_CONTENT_TYPE)),
        body,
        body_file,
        headers: headers.unwrap_or_default(),
    }
}

/// The bytes of a regular file: any other could be without end, or never be ready.
fn read_bounded(path: &Path) -> Result<Bytes, String> {
    let metadata = std::fs::metadata(path).map_err(|error| io_reason(&error))?;
    if !metadata.is_file() {
        return Err(String::from(if metadata.is_dir() { "it is a directory" } else { "it is not a regular file" }));
    }
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MOST_BODY_BYTES + 1).read_to_end(&mut bytes));
    match read {
        Err(error) => Err(io_reason(&error)),
        Ok(length) if length as u64 > MOST_BODY_BYTES => Err(String::from("it has more than 1MiB")),
        Ok(_) => Ok(Bytes::from(bytes)),
    }
}
