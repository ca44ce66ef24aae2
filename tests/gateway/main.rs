//! The gateway from its front door: real sockets, real TLS, a real store, a backend that writes down what it saw.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod attacks;
mod bodies;
mod command_line;
mod demo;
mod example;
mod grpc;
mod http2;
mod identity_headers;
mod limits;
mod live_ends;
mod oauth_client;
mod process;
mod races;
mod routing;
mod sessions;
mod shutdown;
mod store_faults;
mod support;
mod tls;
mod upgrades;
mod upstreams;
