//! Sockets: accept, the PROXY protocol, TLS, HTTP versions, deadlines, drain. Knows nothing of routes and tokens.

pub mod accept;
mod conn;
pub mod listener;
mod preface;
mod prefixed;
mod proxy_protocol;
pub mod tls;
mod unread;
pub mod worker;
