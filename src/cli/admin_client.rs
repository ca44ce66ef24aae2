//! Requests to the admin listener of a running gateway.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use super::output::Failure;
use crate::causes::chain;
use crate::config::{Config, Secret};

/// From nothing to a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// From the connection to the last byte of the answer. The listener itself answers within 10 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// Most bytes of an answer: a page of 1000 sessions with the largest claims has about 6 MB.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// Where the admin listener is and what opens it.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct AdminArgs {
    /// Where the admin listener is, such as http://127.0.0.1:9443; by default where the configuration says
    #[arg(long, global = true, value_name = "URL", env = "PORTCULLIS_ADMIN")]
    admin: Option<String>,
    /// The admin token: file:PATH or env:NAME; by default the one of the configuration
    #[arg(long, global = true, value_name = "SECRET")]
    token: Option<String>,
    /// The configuration of the gateway
    #[arg(long, short = 'c', global = true, value_name = "FILE")]
    #[arg(env = "PORTCULLIS_CONFIG", default_value = "portcullis.toml")]
    config: PathBuf,
}

fn failed(text: impl Into<String>) -> Failure {
    Failure::Failed(text.into())
}

/// One admin listener.
#[derive(Debug)]
pub(super) struct AdminClient {
    base: String,
    authorization: HeaderValue,
    runtime: tokio::runtime::Runtime,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl AdminClient {
    /// Reads the configuration only for what the arguments do not say.
    pub(super) fn new(args: &AdminArgs) -> Result<Self, Failure> {
        let base = args.admin.as_deref().map(base_url).transpose()?;
        let token = args.token.as_deref().map(secret).transpose()?;
        let (base, token) = match (base, token) {
            (Some(base), Some(token)) => (base, token),
            (base, token) => {
                let admin = Config::load(&args.config)?
                    .admin
                    .ok_or_else(|| failed(format!("{} has no [admin]", args.config.display())))?;
                (base.unwrap_or_else(|| url_of(admin.listen)), token.unwrap_or(admin.token))
            }
        };
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.expose()))
            .map_err(|_invalid| failed("the admin token has bytes that cannot stand in a header"))?;
        authorization.set_sensitive(true);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| failed(format!("cannot start: {error}")))?;
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new()).build(connector);
        Ok(Self { base, authorization, runtime, client })
    }

    /// The answer's JSON; null when there is none.
    pub(super) fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let url = format!("{}{path}", self.base);
        let away = |why: &str| failed(format!("cannot ask the admin listener at {}: {why}", self.base));
        let mut request = Request::builder()
            .method(method)
            .uri(&url)
            .body(Full::from(body.map(Value::to_string).unwrap_or_default()))
            .map_err(|error| Failure::Usage(format!("{url} is no URL: {error}")))?;
        request.headers_mut().insert(header::AUTHORIZATION, self.authorization.clone());
        if body.is_some() {
            request.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| away(&chain(&error)))?;
            let status = response.status();
            let answer = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
            let bytes = answer.map_err(|error| away(&error.to_string()))?.to_bytes();
            Ok::<_, Failure>((status, bytes))
        };
        let deadline = CONNECT_TIMEOUT + ANSWER_TIMEOUT;
        let (status, bytes) = self.runtime.block_on(async {
            tokio::time::timeout(deadline, exchange).await.map_err(|_elapsed| away("no answer in time"))?
        })?;
        understand(status, &bytes)
    }
}

fn understand(status: StatusCode, bytes: &[u8]) -> Result<Value, Failure> {
    let json = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice::<Value>(bytes) };
    if status.is_success() {
        return json.map_err(|error| failed(format!("the admin listener's answer is no JSON: {error}")));
    }
    let json = json.unwrap_or_default();
    let reason = json["reason"].as_str().unwrap_or(status.canonical_reason().unwrap_or("no reason given"));
    Err(failed(match json["message"].as_str() {
        Some(message) => format!("refused ({}, {reason}): {}", status.as_u16(), plain(message)),
        None => format!("refused ({}, {})", status.as_u16(), plain(reason)),
    }))
}

/// `text` without what a terminal would act on.
pub(super) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `text` as one segment of a path or one value of a query.
pub(super) fn encoded(text: &str) -> String {
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}

/// Scheme and authority of `text`.
fn base_url(text: &str) -> Result<String, Failure> {
    let wrong =
        |what: &str| Failure::Usage(format!("--admin {text}: {what}, expected a URL such as http://127.0.0.1:9443"));
    let url: Uri = text.parse().map_err(|_invalid| wrong("is no URL"))?;
    if url.scheme_str() != Some("http") {
        return Err(wrong("does not begin with http://"));
    }
    let authority = url.authority().ok_or_else(|| wrong("names no host"))?;
    if authority.as_str().contains('@') || url.query().is_some() || url.path() != "/" {
        return Err(wrong("has more than host and port"));
    }
    Ok(format!("http://{authority}"))
}

/// Where to connect to for what listens on `address`.
fn url_of(mut address: SocketAddr) -> String {
    // Listening on every address, it listens on the loopback one too.
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{address}")
}

/// The secret that `--token` names. The secret itself may not stand there: every user of the machine sees arguments.
fn secret(reference: &str) -> Result<Secret, Failure> {
    let read = if let Some(path) = reference.strip_prefix("file:") {
        std::fs::read_to_string(path)
            .map_err(|error| failed(format!("cannot read the admin token from {path}: {error}")))?
    } else if let Some(name) = reference.strip_prefix("env:") {
        std::env::var(name).map_err(|error| failed(format!("cannot read the admin token from {name}: {error}")))?
    } else {
        return Err(Failure::Usage("--token: expected file:PATH or env:NAME, not the token itself".to_owned()));
    };
    let text = Secret::new(read);
    let line = text.expose().strip_suffix('\n').unwrap_or(text.expose());
    let line = line.strip_suffix('\r').unwrap_or(line);
    if line.is_empty() {
        return Err(failed("the admin token is empty"));
    }
    Ok(Secret::new(line.to_owned()))
}

/// The JSON as the server gave it, on a line of its own.
pub(super) fn json_line(value: &Value) -> String {
    format!("{value}\n")
}

/// Rows in columns, the first row being their names. The last column is as wide as it is.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(width).collect();
    rows.iter().fold(String::new(), |mut text, row| {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        text.push_str(line.trim_end());
        text.push('\n');
        text
    })
}

/// A member as text for people: `-` when it is null or not there.
pub(super) fn shown(object: &Value, name: &str) -> String {
    match &object[name] {
        Value::Null => "-".to_owned(),
        Value::String(text) => plain(text),
        other => plain(&other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_scheme_host_and_port() {
        for good in ["http://127.0.0.1:9443", "http://127.0.0.1:9443/", "http://[::1]:9443", "http://admin.internal"] {
            assert_eq!(base_url(good).unwrap(), good.trim_end_matches('/'));
        }
        for bad in [
            "127.0.0.1:9443",
            "https://a",
            "ftp://a",
            "http://",
            "http://a/v1",
            "http://a?x",
            "http://u:p@a",
            "a b",
            "",
        ] {
            assert!(matches!(base_url(bad), Err(Failure::Usage(_))), "{bad}");
        }
    }

    #[test]
    fn a_listener_on_all_addresses_is_asked_on_loopback() {
        for (listens, url) in [
            ("0.0.0.0:9443", "http://127.0.0.1:9443"),
            ("[::]:9443", "http://[::1]:9443"),
            ("10.0.0.1:1", "http://10.0.0.1:1"),
        ] {
            assert_eq!(url_of(listens.parse().unwrap()), url);
        }
    }

    #[test]
    fn a_token_is_read_from_where_it_is_and_never_given_as_it_is() {
        let dir = tempfile::TempDir::new().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, "s3cret\r\n").unwrap();
        assert_eq!(secret(&format!("file:{}", file.display())).unwrap().expose(), "s3cret");
        std::fs::write(&file, "\n").unwrap();
        assert!(matches!(secret(&format!("file:{}", file.display())), Err(Failure::Failed(_))));
        assert!(matches!(secret("file:/nowhere/token"), Err(Failure::Failed(_))));
        assert!(matches!(secret("env:PORTCULLIS_NO_SUCH_VARIABLE"), Err(Failure::Failed(_))));
        let Err(Failure::Usage(text)) = secret("s3cret") else { panic!("taken as it is") };
        assert!(!text.contains("s3cret"));
    }

    #[test]
    fn any_user_id_is_one_segment() {
        assert_eq!(encoded("a-Z_0.~"), "a-Z_0.~");
        assert_eq!(encoded("ann lee/?#%+&="), "ann%20lee%2F%3F%23%25%2B%26%3D");
    }

    #[test]
    fn a_terminal_is_told_nothing_by_an_answer() {
        assert_eq!(plain("a\u{1b}[31m\u{9b}b\n"), "a\u{fffd}[31m\u{fffd}b\u{fffd}");
        assert_eq!(table(&[vec!["A".into(), "B".into()], vec!["long".into(), "x".into()]]), "A     B\nlong  x\n");
    }
}
