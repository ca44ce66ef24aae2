//! `[upstream.NAME.tls]`

use std::fmt;
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::reader::Table;
use super::{Certificate, names, shape};

/// What is written before the hash, as `curl --pinnedpubkey` has it.
const PIN_PREFIX: &str = "sha256/";

/// `[upstream.NAME.tls]`: how the `https` servers of an upstream are known, and how we are known to them.
///
/// There is nothing that turns the checks off: a server with a certificate of no known authority has `ca` or `pins`.
#[derive(Clone, Debug, Default)]
pub struct UpstreamTls {
    /// `ca`: PEM file of the authorities that servers' certificates are checked with; the system's by default.
    pub ca: Option<PathBuf>,
    /// `server_name`: the name that is asked for (SNI) and that the certificate must be for; by default the host of each
    /// server's URL.
    pub server_name: Option<String>,
    /// `certificate` and `key`: what we show to a server that asks who we are.
    pub certificate: Option<Certificate>,
    /// `pins`: one of these keys must be that of the server's certificate. Without `ca` nothing else is asked of the
    /// certificate; with it, both must hold.
    pub pins: Vec<Pin>,
}

/// The SHA-256 of a certificate's SubjectPublicKeyInfo (RFC 7469 §2.4), written `sha256/BASE64`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pin(pub [u8; 32]);

impl Pin {
    fn parse(text: &str) -> Result<Self, String> {
        const EXPECTED: &str = "expected \"sha256/\" and 32 bytes in base64, as the hash of the server's public key";
        let hash = text.strip_prefix(PIN_PREFIX).ok_or_else(|| format!("is not a pin, {EXPECTED}"))?;
        let bytes = STANDARD.decode(hash).map_err(|error| format!("is not a pin ({error}), {EXPECTED}"))?;
        <[u8; 32]>::try_from(bytes).map(Self).map_err(|bytes| format!("has {} bytes, {EXPECTED}", bytes.len()))
    }
}

/// As the file writes it.
impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PIN_PREFIX}{}", STANDARD.encode(self.0))
    }
}

/// Reads `[upstream.NAME.tls]`; `tls` is whether a server is `https`, as far as they could be read.
pub(super) fn upstream_tls(upstream: &Table<'_>, tls: Option<bool>) -> UpstreamTls {
    if let (Some(value), Some(false)) = (upstream.get("tls"), tls) {
        value.report_absent("has no effect: none of the servers is https://");
    }
    let table = upstream.subsection("tls", &shape::UPSTREAM_TLS);
    let path = |key| table.get(key).and_then(|value| value.path());
    for (key, other) in [("certificate", "key"), ("key", "certificate")] {
        if let (Some(_), None) = (table.get(key), table.get(other)) {
            table.missing(other, &format!("it beside {key}"));
        }
    }
    let certificate = path("certificate").zip(path("key")).map(|(chain, key)| Certificate { chain, key });
    let name = table.get("server_name");
    const PINS: &str = "pins such as \"sha256/BASE64\"";
    let pins = table.get("pins");
    UpstreamTls {
        ca: path("ca"),
        server_name: name.and_then(|value| value.parsed("a name such as \"app.internal\"", names::server_name)),
        certificate,
        pins: pins
            .map(|value| value.each(value.some_items(PINS), |item| item.parsed("a pin", Pin::parse)))
            .unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_a_sha256_in_base64() {
        let text = "sha256/ypeBEsobvcr6wjGzmiPcTaeG7/gUfE5yuYB3ha/uSLs=";
        let pin = Pin::parse(text).unwrap();
        assert_eq!((pin.0[0], pin.to_string().as_str()), (0xca, text));
        let url_safe = text.replace("7/g", "7_g");
        for text in ["", "sha256/", "sha1/aGVsbG8=", "sha256/aGVsbG8=", &text[7..], &text[..50], &url_safe] {
            assert!(Pin::parse(text).is_err(), "{text}");
        }
    }
}
