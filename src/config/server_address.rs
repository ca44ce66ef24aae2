//! Where a server of an upstream is.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;

use super::names::{authority_host, port};

/// Most bytes of a Unix socket's path: `sun_path` has 108, and a null ends it (104 on macOS and BSD).
const LONGEST_SOCKET_PATH: usize = if cfg!(target_os = "linux") { 107 } else { 103 };

/// Where a server of an upstream is, and whether TLS is spoken to it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum ServerAddress {
    /// `http://HOST:PORT`, or `https://HOST:PORT` with TLS.
    Tcp {
        /// `https`
        tls: bool,
        /// Host name or address, without brackets.
        host: String,
        /// Port, 80 by default, 443 with TLS.
        port: u16,
    },
    /// `unix:PATH`: plain HTTP over a Unix socket. The path is absolute.
    Unix(PathBuf),
}

impl ServerAddress {
    /// Reads a server as the file writes it.
    ///
    /// # Errors
    /// What is wrong, to be put behind the text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        let (scheme, authority) = text.split_once("://").ok_or("has no scheme, expected http://, https:// or unix:")?;
        let (tls, scheme) = match scheme.to_ascii_lowercase().as_str() {
            "http" => (false, "http"),
            "https" => (true, "https"),
            "unix" => return Err(String::from("has slashes before its path, expected unix:/PATH")),
            other => return Err(format!("has the scheme {other:?}, expected http://, https:// or unix:")),
        };
        if let Some(at) = authority.find(['/', '?', '#']) {
            let part = match authority.as_bytes().get(at) {
                Some(b'/') => "path: requests are forwarded with their own",
                Some(b'?') => "query: requests are forwarded with their own",
                _ => "fragment",
            };
            return Err(format!("has a {part}, expected only {scheme}://HOST:PORT"));
        }
        if authority.contains('@') {
            return Err(format!(
                "has a user name or password, which is not supported, expected only {scheme}://HOST:PORT"
            ));
        }
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (authority, None),
        };
        let port = match port {
            None if tls => 443,
            None => 80,
            Some(text) => {
                self::port(text).ok_or_else(|| format!("has the port {text:?}, expected a number from 1 to 65535"))?
            }
        };
        Ok(Self::Tcp { tls, host: authority_host(host, scheme)?, port })
    }

    /// Whether TLS is spoken to it.
    pub fn tls(&self) -> bool {
        matches!(self, Self::Tcp { tls: true, .. })
    }

    /// Whether it has a name that must be looked up.
    pub fn is_named(&self) -> bool {
        matches!(self, Self::Tcp { host, .. } if host.parse::<IpAddr>().is_err())
    }

    /// For logs and errors: `10.0.0.5:8080`, `[fd00::5]:81` or `unix:/run/app.sock`.
    pub fn name(&self) -> String {
        match self {
            // Only an IPv6 address has a colon.
            Self::Tcp { host, port, .. } if host.contains(':') => format!("[{host}]:{port}"),
            Self::Tcp { host, port, .. } => format!("{host}:{port}"),
            Self::Unix(path) => format!("unix:{}", path.display()),
        }
    }
}

fn unix(path: &str) -> Result<ServerAddress, String> {
    if !path.starts_with('/') {
        return Err(String::from("has no absolute path, expected one such as \"unix:/run/app.sock\""));
    }
    if path.starts_with("//") {
        return Err(String::from("has slashes before its path, expected unix:/PATH"));
    }
    if path.len() > LONGEST_SOCKET_PATH {
        return Err(format!("has a path of {} bytes, a Unix socket has at most {LONGEST_SOCKET_PATH}", path.len()));
    }
    if path.chars().any(char::is_control) {
        return Err(String::from("has control characters"));
    }
    Ok(ServerAddress::Unix(PathBuf::from(path)))
}

/// As the file writes it: `http://10.0.0.5:8080`.
impl fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self {
            Self::Tcp { tls: true, .. } => "https://",
            Self::Tcp { tls: false, .. } => "http://",
            Self::Unix(_) => "",
        };
        write!(f, "{scheme}{}", self.name())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_server_is_scheme_host_and_port() {
        for (text, tls, host, port) in [
            ("http://10.0.0.5:8080", false, "10.0.0.5", 8080),
            ("HTTP://Orders.internal", false, "orders.internal", 80),
            ("http://[fd00::5]", false, "fd00::5", 80),
            ("http://[fd00::5]:81", false, "fd00::5", 81),
            ("https://orders.internal", true, "orders.internal", 443),
            ("https://[fd00::5]:8443", true, "fd00::5", 8443),
        ] {
            let address = ServerAddress::Tcp { tls, host: host.to_owned(), port };
            assert_eq!(ServerAddress::parse(text).as_ref(), Ok(&address), "{text}");
            assert_eq!(address.tls(), tls, "{text}");
        }
        for text in
            ["", "http://", "http://a:", "http://a:0", "http://a:+80", "http://a b", "https://a/", "//a", "http:a"]
        {
            assert!(ServerAddress::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_may_be_a_unix_socket() {
        let address = ServerAddress::parse("unix:/run/app.sock").unwrap();
        assert_eq!(address, ServerAddress::Unix("/run/app.sock".into()));
        assert!(!address.tls());
        assert!(ServerAddress::parse(&format!("unix:/{}", "a".repeat(LONGEST_SOCKET_PATH - 1))).is_ok());
        let long = format!("unix:/{}", "a".repeat(LONGEST_SOCKET_PATH));
        for text in ["unix:", "unix:app.sock", "unix:///run/app.sock", "unix:/a\n", "unix:/a\0", &long] {
            assert!(ServerAddress::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(text in "(http://|https://|unix:)[\\[\\]:@/a-z0-9.%\\PC]{0,40}") {
            if let Ok(address) = ServerAddress::parse(&text) {
                prop_assert_eq!(ServerAddress::parse(&address.to_string()), Ok(address));
            }
        }
    }
}
