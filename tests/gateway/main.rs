//! The gateway from its front door: real sockets, real TLS, a real store, a backend that writes down what it saw.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod attacks;
mod balance;
mod bodies;
mod command_line;
mod connection_limits;
mod demo;
mod ejection;
mod example;
mod health;
mod http2;
mod identity_headers;
mod limits;
mod names;
mod oauth_client;
mod process;
mod races;
mod retries;
mod routing;
mod sessions;
mod shutdown;
mod store_faults;
mod support;
mod tls;
mod unix;
mod upstream_http2;
mod upstream_tls;
mod upstreams;
