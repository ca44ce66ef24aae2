//! The demo's files: all in one new directory, which goes when the demo ends.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, DnType, KeyPair};

use crate::cli::output::{Failure, Format};

/// More than a demo, and less than a certificate that someone would keep.
const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(30 * 24 * 3600);
/// For clocks that are a little behind.
const CERTIFICATE_START: Duration = Duration::from_secs(3600);

/// The directory. Removed with all that is in it when dropped.
#[derive(Debug)]
pub(super) struct Files {
    directory: PathBuf,
}

impl Files {
    /// A new directory with `cert.pem` for this machine's names and `host`, `key.pem`, and a random `admin-token`.
    ///
    /// # Errors
    /// When a file cannot be made, or without randomness.
    pub(super) fn make(host: IpAddr) -> Result<Self, Failure> {
        let name = format!("portcullis-demo-{}", hex(&random::<4>()?));
        let directory = std::env::temp_dir().join(name);
        // New and for this user only: nobody else has put anything there.
        DirBuilder::new().mode(0o700).create(&directory)?;
        let files = Self { directory };
        let (certificate, key) = certificate(host)?;
        files.write("cert.pem", &certificate)?;
        files.write("key.pem", &key)?;
        files.write("admin-token", &hex(&random::<32>()?))?;
        Ok(files)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes `portcullis.toml`, which commands such as `explain` can be tried with, too.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn write_config(
        &self,
        listen: SocketAddr,
        admin: SocketAddr,
        backend: SocketAddr,
        format: Format,
    ) -> io::Result<PathBuf> {
        self.write("portcullis.toml", &config(listen, admin, backend, format))
    }

    fn write(&self, name: &str, text: &str) -> io::Result<PathBuf> {
        let path = self.directory.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(text.as_bytes())?;
        Ok(path)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        // What cannot be removed is for the system's own cleaning of temporary files.
        drop(fs::remove_dir_all(&self.directory));
    }
}

/// PEM of a self-signed P-256 certificate and its key.
fn certificate(host: IpAddr) -> Result<(String, String), rcgen::Error> {
    let mut names = vec![String::from("localhost"), String::from("127.0.0.1"), String::from("::1")];
    if !host.is_unspecified() && !names.contains(&host.to_string()) {
        names.push(host.to_string());
    }
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "Portcullis demo");
    let now = SystemTime::now();
    params.not_before = (now - CERTIFICATE_START).into();
    params.not_after = (now + CERTIFICATE_LIFETIME).into();
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

fn config(listen: SocketAddr, admin: SocketAddr, backend: SocketAddr, format: Format) -> String {
    // The JSON document is then all that a program reads from standard output.
    let access = if format == Format::Json { "off" } else { "all" };
    format!(
        r#"# The configuration of a running `portcullis demo`.

[server]
listen = ["{listen}"]
workers = 1                         # default "auto": here the lines of the log are to come in order
drain_timeout = "1s"

[[server.tls.certificate]]
chain = "cert.pem"
key = "key.pem"

[admin]
listen = "{admin}"
token = "file:admin-token"

[session]
issuer = "https://demo.portcullis.example"
audience = "demo"
refresh_grace = "1ms"               # default "10s": here a second use is to show as theft at once

[store]
path = "data"

[upstream.sample]
servers = ["http://{backend}"]

[[route]]
path = "/"
upstream = "sample"

[[route]]
path = "/public"
upstream = "sample"
auth = "public"

[log]
level = "warn"
access = "{access}"
"#
    )
}

fn random<const N: usize>() -> Result<[u8; N], Failure> {
    let mut bytes = [0; N];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(_) => Err(Failure::Failed(String::from("the system gives no randomness"))),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixTime;
    use crate::config::Config;
    use crate::server::tls;

    #[test]
    fn the_files_make_a_sound_configuration_and_go() {
        let files = Files::make("192.0.2.1".parse().unwrap()).unwrap();
        let address = |port| SocketAddr::new("127.0.0.1".parse().unwrap(), port);
        let path = files.write_config(address(1), address(2), address(3), Format::Human).unwrap();
        let config = Config::load(&path).unwrap();
        assert_eq!(config.routes.len(), 2);
        let loaded = tls::load(&config.server.certificates[0], UnixTime::now()).unwrap();
        assert_eq!(loaded.names, ["localhost"]);
        let directory = files.directory().to_owned();
        drop(files);
        assert!(!directory.exists());
    }
}
