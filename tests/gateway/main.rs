//! The gateway from its front door: real sockets, real TLS, a real store, a backend that writes down what it saw.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod access;
mod attacks;
mod bodies;
mod caching;
mod command_line;
mod cors;
mod demo;
mod example;
mod grpc;
mod header_rules;
mod hosts;
mod http2;
mod identity_headers;
mod ipv6;
mod limits;
mod listeners;
mod live_ends;
mod oauth_client;
mod observe;
mod plain_http2;
mod process;
mod proxy_protocol;
mod races;
mod rate_limits;
mod redirects;
mod rewriting;
mod routing;
mod sessions;
mod shutdown;
mod store_faults;
mod support;
mod tls;
mod upgrades;
mod upstreams;
