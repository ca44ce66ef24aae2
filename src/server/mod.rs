//! Sockets: accept, TLS, HTTP versions, deadlines, drain. Knows nothing of routes and tokens.

pub mod accept;
mod conn;
pub mod tls;
pub mod worker;
