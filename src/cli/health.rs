//! `portcullis health`

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpStream;

use crate::cli::keys_offline::runtime;
use crate::cli::output::{Failure, Format, Outcome, causes, print, print_json, printable};

/// For the whole exchange: shorter than what container runtimes wait for a health check.
const DEADLINE: Duration = Duration::from_secs(5);
/// Of the answer. It has a few words.
const MOST_BYTES: usize = 64 * 1024;

/// Ask a running gateway whether it is ready: for a container's health check
///
/// Exit code 0 when it is ready, 1 when it is not or does not answer. Asks the admin listener; no token is needed.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  portcullis health --url http://127.0.0.1:9443")]
pub(super) struct Args {
    /// Where the admin listener is
    #[arg(long, value_name = "URL", env = "PORTCULLIS_ADMIN", default_value = "http://127.0.0.1:9443")]
    url: Uri,
}

pub(super) fn run(args: &Args, format: Format) -> Result<Outcome, Failure> {
    let url = &args.url;
    let Some(authority) = url.authority().filter(|_| url.scheme_str() == Some("http")) else {
        return Err(Failure::Usage(format!("--url {url} is not a URL such as http://127.0.0.1:9443")));
    };
    let port = authority.port_u16().unwrap_or(80);
    let exchange = async {
        match tokio::time::timeout(DEADLINE, ask(authority.host(), port, authority.as_str())).await {
            Ok(answer) => answer.map_err(|error| causes(&*error)),
            Err(_) => Err(format!("no answer within {DEADLINE:?}")),
        }
    };
    let answer = runtime()?.block_on(exchange).map_err(|why| Failure::Failed(format!("{url}: {why}")))?;
    let ready = answer.status() == StatusCode::OK;
    let said = String::from_utf8_lossy(answer.body());
    match format {
        Format::Json => print_json(&json!({ "ready": ready, "status": answer.status().as_u16() }))?,
        Format::Human if ready => print("ready")?,
        Format::Human => print(&format!("not ready: {} {}", answer.status(), printable(said.trim())))?,
    }
    Ok(if ready { Outcome::Done } else { Outcome::Refused })
}

async fn ask(
    host: &str,
    port: u16,
    authority: &str,
) -> Result<Response<Bytes>, Box<dyn std::error::Error + Send + Sync>> {
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port)).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = Request::get("/readyz").header(header::HOST, authority).body(Empty::<Bytes>::new())?;
    let (parts, body) = sender.send_request(request).await?.into_parts();
    let body = Limited::new(body, MOST_BYTES).collect().await?.to_bytes();
    connection.abort();
    Ok(Response::from_parts(parts, body))
}
