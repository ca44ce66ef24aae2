//! Portcullis: a reverse-proxy authentication gateway.
//!
//! The rooms in reading order; each imports only those before it.
//!
//! - [`ids`], [`clock`]: identifiers that carry their checks, and time.
//! - `causes`: errors as they are told.
//! - `shared_files`: files that several processes change: seeing it, and taking turns.
//! - [`path`]: which spellings of a path have one reading.
//! - [`http1`]: which bytes of a connection are one request.
//! - [`config`]: the TOML file, checked whole.
//! - [`certificate`]: certificates and keys in files, checked when they are read.
//! - [`token`]: access tokens: taken from a request, verified, remembered, minted.
//! - [`revocation`]: ended sessions and users.
//! - [`session`]: sign-in, refresh, end; the rules once, the stores beneath.
//! - [`interim`], [`headers`]: responses before the response, and what of a header goes on.
//! - [`limiter`], [`route`]: so many in so long, and where a request goes.
//! - [`reject`]: every refusal and its status.
//! - [`live`]: open streams, and the sessions they belong to.
//! - [`telemetry`]: events, access log, metrics.
//! - [`body`], [`upstream`]: bodies on their way, and the connections to servers.
//! - [`tunnel`]: what follows an upgrade: bytes in both directions.
//! - [`auth_api`]: the public endpoints.
//! - [`gateway`]: a request, end to end.
//! - [`server`]: sockets, TLS, deadlines, workers.
//! - [`sandbox`]: what the process gives up before it serves.
//! - [`admin`]: the admin listener.
//! - [`tasks`], [`app`]: background work, and the assembly.
//! - [`cli`]: the command line.
//!
//! Beside them, in tests and under a fuzzer only, `fuzzing`: what must hold of any bytes; and `measured`, for benchmarks.

pub mod admin;
pub mod app;
pub mod auth_api;
pub mod body;
mod causes;
pub mod certificate;
pub mod cli;
pub mod clock;
pub mod config;
// Not a part of the library: it is only there when it is tested.
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod fuzzing;
pub mod gateway;
pub mod headers;
pub mod http1;
pub mod ids;
pub mod interim;
pub mod limiter;
pub mod live;
// No room of the library: what benchmarks reach that nobody else has a use for.
#[doc(hidden)]
pub mod measured;
pub mod path;
pub mod reject;
pub mod revocation;
pub mod route;
pub mod sandbox;
pub mod server;
pub mod session;
mod shared_files;
pub mod tasks;
pub mod telemetry;
pub mod token;
pub mod tunnel;
pub mod upstream;
