//! The keys of trusted issuers: fetched or read, kept fresh, never taken back by a failure.
//!
//! One task for each issuer. Requests never wait for it: they see the keys there are, and tell it of a `kid` that is not
//! among them.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Empty, LengthLimitError, Limited};
use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::AsyncReadExt as _;
use tokio::time::{Instant, sleep_until, timeout};

use super::IssuerIndex;
use super::keys::{KeySet, KeySetError, MAX_JWKS_BYTES, SkippedKey};
use super::verify::Verifier;
use crate::clock::UnixTime;
use crate::config::{JwksSource, TrustedIssuer};

/// For a whole fetch, from the name's resolution to the last byte: a server that trickles holds up nothing but itself.
pub const FETCH_DEADLINE: Duration = Duration::from_secs(10);

/// After a first failure; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// An issuer that was away is noticed this soon, or after its `refresh_interval` if that is less.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// Why an issuer's keys could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JwksError {
    /// The system has no usable CA certificates.
    #[error("cannot load the system's CA certificates")]
    Roots(#[source] io::Error),
    /// The file could not be read.
    #[error("cannot read {}", path.display())]
    File {
        /// `jwks_file`
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No connection, no TLS, or no HTTP answer.
    #[error("cannot fetch {uri}")]
    Request {
        /// `jwks_url`
        uri: Uri,
        /// Why not.
        source: Box<dyn Error + Send + Sync>,
    },
    /// An answer other than 200. Redirects are not followed: the file names who is trusted.
    #[error("{uri} answered {status}, expected 200")]
    Status {
        /// `jwks_url`
        uri: Uri,
        /// The answer.
        status: StatusCode,
    },
    /// Longer than [`MAX_JWKS_BYTES`].
    #[error("key document longer than {MAX_JWKS_BYTES} bytes")]
    TooLarge,
    /// Not complete in time.
    #[error("key document not complete within {0:?}")]
    TimedOut(Duration),
    /// It was loaded and is no good.
    #[error("key document cannot be used")]
    Keys(#[source] KeySetError),
}

/// Loads an issuer's key document, any number of times.
#[derive(Debug)]
pub struct Loader {
    source: Source,
    deadline: Duration,
}

type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

#[derive(Debug)]
enum Source {
    File(PathBuf),
    Url { uri: Uri, client: Box<HttpClient> },
}

impl Loader {
    /// `roots` instead of the system's CA certificates.
    ///
    /// # Errors
    /// [`JwksError::Roots`] when an `https` URL needs the system's certificates and there are none.
    pub fn new(source: &JwksSource, roots: Option<RootCertStore>) -> Result<Self, JwksError> {
        let source = match source {
            JwksSource::File(path) => Source::File(path.clone()),
            JwksSource::Url(uri) => Source::Url { uri: uri.clone(), client: Box::new(client(uri, roots)?) },
        };
        Ok(Self { source, deadline: FETCH_DEADLINE })
    }

    /// The document, at most [`MAX_JWKS_BYTES`], within [`FETCH_DEADLINE`].
    ///
    /// # Errors
    /// [`JwksError`], any but [`JwksError::Keys`]: the document is not looked at.
    pub async fn load(&self) -> Result<Vec<u8>, JwksError> {
        let loading = async {
            match &self.source {
                Source::File(path) => read(path).await,
                Source::Url { uri, client } => fetch(uri, client).await,
            }
        };
        match timeout(self.deadline, loading).await {
            Ok(result) => result,
            Err(_) => Err(JwksError::TimedOut(self.deadline)),
        }
    }
}

fn client(uri: &Uri, roots: Option<RootCertStore>) -> Result<HttpClient, JwksError> {
    let plain = uri.scheme() == Some(&http::uri::Scheme::HTTP);
    // Said here, not taken from the process: a library that sets a default would choose for us.
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| JwksError::Roots(io::Error::other(e)))?;
    let builder = match roots {
        Some(roots) => builder.with_root_certificates(roots),
        None if plain => builder.with_root_certificates(RootCertStore::empty()),
        None => builder.with_native_roots().map_err(JwksError::Roots)?,
    };
    let builder = HttpsConnectorBuilder::new().with_tls_config(builder.with_no_client_auth());
    let builder = if plain { builder.https_or_http() } else { builder.https_only() };
    // Minutes pass between two fetches: a kept connection would mostly be a dead one.
    Ok(Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build(builder.enable_http1().build()))
}

async fn fetch(uri: &Uri, client: &HttpClient) -> Result<Vec<u8>, JwksError> {
    let failed = |source: Box<dyn Error + Send + Sync>| JwksError::Request { uri: uri.clone(), source };
    let request = Request::get(uri)
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::USER_AGENT, concat!("portcullis/", env!("CARGO_PKG_VERSION")))
        .body(Empty::new())
        .map_err(|e| failed(e.into()))?;
    let response = client.request(request).await.map_err(|e| failed(e.into()))?;
    if response.status() != StatusCode::OK {
        return Err(JwksError::Status { uri: uri.clone(), status: response.status() });
    }
    match Limited::new(response.into_body(), MAX_JWKS_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes().into()),
        Err(e) if e.is::<LengthLimitError>() => Err(JwksError::TooLarge),
        Err(e) => Err(failed(e)),
    }
}

async fn read(path: &PathBuf) -> Result<Vec<u8>, JwksError> {
    let reading = async {
        // Opening a pipe would block a thread until someone writes to it.
        if !tokio::fs::metadata(path).await?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        let mut bytes = Vec::new();
        let file = tokio::fs::File::open(path).await?;
        file.take(MAX_JWKS_BYTES as u64 + 1).read_to_end(&mut bytes).await?;
        Ok(bytes)
    };
    let bytes = reading.await.map_err(|source| JwksError::File { path: path.clone(), source })?;
    if bytes.len() > MAX_JWKS_BYTES { Err(JwksError::TooLarge) } else { Ok(bytes) }
}

/// An issuer's key document, loaded once: at start, or to check a configuration.
///
/// # Errors
/// As [`Loader::new`] and [`Loader::load`].
pub async fn load_once(config: &TrustedIssuer) -> Result<Vec<u8>, JwksError> {
    Loader::new(&config.jwks, None)?.load().await
}

/// Keeps the keys of `issuer` in `verifier` fresh until `shutdown` resolves.
///
/// Loads at once, then every `refresh_interval`; after a failure sooner, with growing pauses. A `kid` that the issuer
/// does not have brings the next load forward, to `cooldown` after the one before: however many such tokens come, it is
/// one load in that time, also while loads fail. A failure leaves the keys as they are.
pub async fn keep_fresh(
    issuer: IssuerIndex,
    config: TrustedIssuer,
    verifier: Arc<Verifier>,
    shutdown: impl Future<Output = ()>,
) {
    keep_fresh_with_roots(issuer, config, None, verifier, shutdown).await;
}

/// As [`keep_fresh`], with `roots` instead of the system's CA certificates.
pub async fn keep_fresh_with_roots(
    issuer: IssuerIndex,
    config: TrustedIssuer,
    roots: Option<RootCertStore>,
    verifier: Arc<Verifier>,
    shutdown: impl Future<Output = ()>,
) {
    let unknown_kid = verifier.unknown_kid(issuer);
    let mut task = Task { issuer, config, roots, verifier, loader: None, skipped: Vec::new() };
    let mut shutdown = pin!(shutdown);
    loop {
        // Tokens that asked before this load are answered by it: what they left must not cause another one.
        pin!(unknown_kid.notified()).enable();
        let pause = tokio::select! {
            biased;
            () = &mut shutdown => return,
            pause = task.refresh() => pause,
        };
        let loaded_at = Instant::now();
        let asked_for = async {
            unknown_kid.notified().await;
            sleep_until(loaded_at + task.config.cooldown).await;
        };
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            () = sleep_until(loaded_at + pause) => {}
            () = asked_for => {}
        }
    }
}

struct Task {
    issuer: IssuerIndex,
    config: TrustedIssuer,
    roots: Option<RootCertStore>,
    verifier: Arc<Verifier>,
    /// Made by the first load, and again by each until that succeeds.
    loader: Option<Loader>,
    /// Keys passed over last time, so that they are told of once.
    skipped: Vec<SkippedKey>,
}

impl Task {
    /// Loads once and says how long to wait for the next time.
    async fn refresh(&mut self) -> Duration {
        let result = self.load().await;
        let name = self.config.issuer.as_str();
        let success = result.is_ok().then(UnixTime::now);
        let failures = self.verifier.note_load(self.issuer, success);
        match result {
            Ok(keys) => {
                if failures > 0 {
                    tracing::info!(issuer = name, failures, "keys of the issuer can be loaded again");
                }
                self.take(keys);
                jittered(self.config.refresh_interval)
            }
            Err(error) => {
                let error = crate::causes::chain(&error);
                let keys = self.verifier.keys(self.issuer).len();
                // Once for each time it begins: a day without the issuer should not fill the log.
                if failures == 0 {
                    tracing::warn!(issuer = name, error, keys, "cannot load keys of the issuer, keeping those known");
                } else {
                    tracing::debug!(issuer = name, error, keys, failures, "cannot load keys of the issuer");
                }
                jittered(retry_after(failures).min(self.config.refresh_interval))
            }
        }
    }

    async fn load(&mut self) -> Result<KeySet, JwksError> {
        let loader = match &mut self.loader {
            Some(loader) => loader,
            none => none.insert(Loader::new(&self.config.jwks, self.roots.clone())?),
        };
        let document = loader.load().await?;
        let previous = self.verifier.keys(self.issuer);
        KeySet::from_jwks(&document, &self.config.algorithms, &previous).map_err(JwksError::Keys)
    }

    fn take(&mut self, keys: KeySet) {
        if self.skipped != keys.skipped() {
            self.skipped = keys.skipped().to_vec();
            for key in &self.skipped {
                let kid = key.kid.as_ref().map(tracing::field::display);
                tracing::warn!(issuer = %self.config.issuer, kid, index = key.index, reason = %key.reason, "key of the issuer is not used");
            }
        }
        // The same keys again are no change: no cached token need be looked at anew.
        if !keys.same_keys(&self.verifier.keys(self.issuer)) {
            tracing::info!(issuer = %self.config.issuer, keys = keys.len(), "keys of the issuer loaded");
            self.verifier.swap_keys(self.issuer, keys);
        }
    }
}

/// `failures` in a row before the one just now.
fn retry_after(failures: u32) -> Duration {
    FIRST_RETRY.saturating_mul(1 << failures.min(6)).min(LONGEST_RETRY)
}

/// Between 80 and 100 % of `duration`: gateways started together do not fetch together for ever.
fn jittered(duration: Duration) -> Duration {
    let mut random = [0];
    // Without randomness there is no jitter, which harms nobody.
    let _unfilled = aws_lc_rs::rand::fill(&mut random);
    duration.mul_f64(1.0 - 0.2 * f64::from(random[0]) / 255.0)
}

#[cfg(test)]
mod tests;
