//! Portcullis: a reverse-proxy authentication gateway.
pub mod clock;
pub mod config;
pub mod ids;
pub mod path;
pub mod revocation;
pub mod session;
pub mod token;
