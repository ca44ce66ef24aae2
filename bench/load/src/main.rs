//! The load generator of `bench/compare` for what wrk and h2load do not measure. One job as JSON on standard input, one
//! result as JSON on standard output.
//!
//! [`transport`] connections with and without TLS, [`target`] whom they lead to and what is sent, [`latency`] HTTP/1.1 at
//! a fixed rate, [`http2`] as many requests as are answered, [`handshakes`] TLS alone, with the [`tickets`] that resume it.

mod handshakes;
mod hpack;
mod http2;
mod latency;
mod target;
mod tickets;
mod transport;

use std::error::Error;
use std::process::ExitCode;

/// What can be asked for.
#[derive(serde::Deserialize)]
#[serde(tag = "job", rename_all = "snake_case")]
enum Job {
    Latency(latency::Job),
    Http2(http2::Job),
    Handshakes(handshakes::Job),
}

/// Whatever ends a job: a text for whoever asked.
type Fault = Box<dyn Error + Send + Sync>;

fn main() -> ExitCode {
    match run() {
        Ok(result) => {
            println!("{result}");
            ExitCode::SUCCESS
        }
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<serde_json::Value, Fault> {
    let result = match serde_json::from_reader(std::io::stdin())? {
        Job::Latency(job) => serde_json::to_value(job.run()?)?,
        Job::Http2(job) => serde_json::to_value(job.run()?)?,
        Job::Handshakes(job) => serde_json::to_value(job.run()?)?,
    };
    Ok(result)
}
