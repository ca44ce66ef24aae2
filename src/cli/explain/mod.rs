//! `portcullis explain`: what would become of a request, found out by the functions that judge real ones.

mod request;
mod verdict;

use std::net::{IpAddr, Ipv4Addr};

use http::Method;

use crate::cli::output::{Failure, Format, Outcome, print, print_json};
use crate::cli::{ConfigArg, keys_offline, token};
use crate::clock::UnixTime;
use crate::config::Config;

/// Tell what would become of a request: its route, who is calling, and the headers its upstream would get
///
/// Nothing is sent and no gateway need be running. Exit code 0 when the request would be answered, 1 when it
/// would be refused.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  portcullis explain GET https://shop.example.com/orders/7\n  \
    portcullis explain --token \"$ACCESS\" --header 'X-User-Id: admin' GET https://shop.example.com/orders/7\n  \
    portcullis explain --header 'Host: shop.example.com' POST /orders")]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
    /// The client's access token: itself, @FILE, or - for standard input
    #[arg(long, value_name = "TOKEN", allow_hyphen_values = true)]
    token: Option<String>,
    /// A header field the client sends; may be given several times
    #[arg(long = "header", short = 'H', value_name = "NAME: VALUE")]
    headers: Vec<String>,
    /// The address the client connects from
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    from: IpAddr,
    /// Fetch the keys of trusted issuers that have a jwks_url
    #[arg(long)]
    fetch: bool,
    /// GET, POST, …
    method: Method,
    /// https://HOST/PATH, or http:// when it comes without TLS, or /PATH with a Host header
    url: String,
}

pub(super) fn run(args: &Args, format: Format) -> Result<Outcome, Failure> {
    let token = args.token.as_deref().map(token::argument).transpose()?;
    let asked = request::asked(args.method.clone(), &args.url, &args.headers, token.as_ref().map(|token| &***token))
        .map_err(Failure::Usage)?;
    let config = Config::load(&args.config.file)?;
    let (verifier, notes) = keys_offline::load(&config, args.fetch)?;
    let now = UnixTime::now();
    let explained = verdict::explain(&config, &verifier, asked, args.from, now, notes);
    match format {
        Format::Json => print_json(&explained)?,
        Format::Human => print(&explained.human(&format!("{} {}", args.method, args.url), now))?,
    }
    Ok(if explained.refused() { Outcome::Refused } else { Outcome::Done })
}
