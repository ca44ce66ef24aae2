//! What an attacker tries, from the network: each case has a name, goes through real sockets, and is judged by what a
//! backend that writes down every byte has seen.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[expect(dead_code, unused_imports, reason = "shared with the tests of the gateway, which use more of it")]
#[path = "../gateway/support/mod.rs"]
mod support;

mod framing;
mod headers;
mod http2;
mod locked;
mod measure;
mod paths;
mod responses;
mod secrets;
mod sessions;
mod slow_clients;
mod threat_model;
mod tls;
mod tokens;
