//! Sockets: accept, the PROXY protocol, TLS, HTTP versions, deadlines, drain. Knows nothing of routes and tokens.

pub mod accept;
mod activity;
mod allowance;
mod conn;
mod frames;
mod lane;
pub mod listener;
mod metered;
mod preface;
mod prefixed;
mod proxy_protocol;
mod streams;
mod strict;
pub mod tls;
mod unread;
mod watched;
pub mod worker;

#[cfg(any(test, fuzzing))]
pub(crate) use self::proxy_protocol::fuzzing::header as any_proxy_header;
