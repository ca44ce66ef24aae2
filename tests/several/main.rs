//! Several gateways on one Redis: real processes, real servers, and what goes wrong between them.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod away;
mod ends;
mod faults;
mod idle;
mod moving;
mod races;
mod reaching;
mod streams;
mod support;
