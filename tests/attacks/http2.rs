//! HTTP/2 frames that no honest client sends.

pub(crate) mod client;
mod conformance;
pub(crate) mod floods;
mod headers;
mod resets;
