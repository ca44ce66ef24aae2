//! The keys a running gateway would have, gathered without one.

use crate::app::{keys_directory, trusted, verifier};
use crate::cli::output::{Failure, causes};
use crate::config::{Config, JwksSource, TrustedIssuer};
use crate::token::OWN_ISSUER;
use crate::token::jwks::{self, JwksError};
use crate::token::keys::KeySet;
use crate::token::signing::{SigningKeys, SigningKeysError};
use crate::token::verify::Verifier;

/// A verifier with the keys of all issuers that could be had, and what should be known about those that could not.
///
/// Changes nothing on disk. Key documents at a URL are fetched with `fetch` only.
///
/// # Errors
/// When the system gives no runtime.
pub(super) fn load(config: &Config, fetch: bool) -> Result<(Verifier, Vec<String>), Failure> {
    let verifier = verifier(config);
    let mut notes = Vec::new();
    if config.session.is_some() {
        match own(config) {
            Ok(keys) => verifier.swap_keys(OWN_ISSUER, keys.key_set()),
            Err(SigningKeysError::NoKeys(place)) => {
                notes.push(format!("no own signing keys in {} yet: the first start makes them", place.display()));
            }
            Err(error) => notes.push(format!("own signing keys cannot be used: {}", causes(&error))),
        }
    }
    let runtime = runtime()?;
    for (index, issuer) in trusted(config) {
        if let (JwksSource::Url(url), false) = (&issuer.jwks, fetch) {
            notes.push(format!("keys of {} are at {url}: give --fetch to have them fetched", issuer.issuer));
            continue;
        }
        match runtime.block_on(key_set(issuer)) {
            Ok(keys) => verifier.swap_keys(index, keys),
            Err(error) => notes.push(format!("keys of {} cannot be used: {}", issuer.issuer, causes(&error))),
        }
    }
    Ok((verifier, notes))
}

/// The own signing keys, to look at.
///
/// # Errors
/// As [`SigningKeys::read_only`] and [`SigningKeys::from_files`].
fn own(config: &Config) -> Result<SigningKeys, SigningKeysError> {
    match config.session.as_ref().map(|session| session.signing_keys.as_slice()) {
        None | Some([]) => SigningKeys::read_only(&keys_directory(config)),
        Some(files) => SigningKeys::from_files(files),
    }
}

/// The usable keys of a trusted issuer, loaded now.
///
/// # Errors
/// [`JwksError`]
pub(super) async fn key_set(issuer: &TrustedIssuer) -> Result<KeySet, JwksError> {
    let document = jwks::load_once(issuer).await?;
    KeySet::from_jwks(&document, &issuer.algorithms, &KeySet::default()).map_err(JwksError::Keys)
}

/// For a command's few calls that wait.
///
/// # Errors
/// When the system gives none.
pub(super) fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
