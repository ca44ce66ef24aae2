//! The real program in front of real servers, asked by real clients, all of them written by others: what is promised of
//! any backend is shown with those that are in use.
#![expect(clippy::expect_used, clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod asgi;
mod curl;
mod grpc;
mod keep_alive;
mod large_files;
mod live_ends;
mod outages;
mod support;
mod websockets;
mod wsgi;
