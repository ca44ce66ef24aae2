//! `server.listen` and `[[server.listener]]`.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

use super::reader::{Table, Value};
use super::server::{address, network};
use super::{Listener, shape};

const ADDRESS: &str = "0.0.0.0:8443";

/// The port of `https` where none is said (RFC 9110 §4.2.2).
const HTTPS_PORT: NonZeroU16 = NonZeroU16::new(443).unwrap();

/// All listeners: those of the short form first. `tls` is what they have unless they say it.
pub(super) fn listeners(server: &Table<'_>, tls: bool) -> Vec<Listener> {
    let expected = format!("addresses such as {ADDRESS:?}");
    let mut listeners = Vec::<Listener>::new();
    if let Some(value) = server.get("listen") {
        for item in value.some_items(&expected) {
            let Some(address) = address(&item, ADDRESS) else { continue };
            if is_taken(&listeners, address) {
                item.fault("is listed twice");
            }
            listeners.push(Listener::plainly(address, tls));
        }
    }
    let tables = server.sections("listener", &shape::LISTENER, |_| None);
    if server.get("listen").is_none() && server.get("listener").is_none() {
        server.missing("listen", &format!("an array of {expected}, or a [[server.listener]]"));
    }
    for table in tables {
        let given = table.require("address", &format!("an address such as {ADDRESS:?}"));
        let redirect = table.get("redirect_to_https");
        let redirect_to_https = redirect.as_ref().and_then(https_port);
        // A listener that sends clients to https is where they come without it.
        let said = table.get("tls").and_then(|value| value.flag().map(|flag| (value, flag)));
        let listener = Listener {
            tls: said.as_ref().map_or(tls && redirect_to_https.is_none(), |(_, flag)| *flag),
            proxy_protocol: table
                .get("proxy_protocol")
                .map(|value| value.each(value.some_items("networks such as \"10.0.0.0/8\""), network))
                .unwrap_or_default(),
            redirect_to_https,
            address: match given.as_ref().and_then(|value| address(value, ADDRESS)) {
                Some(address) => address,
                None => continue,
            },
        };
        if let Some((value, true)) = &said {
            if redirect_to_https.is_some() {
                value.report("is true beside redirect_to_https, which is for clients that come without TLS");
            } else if !tls && !server.section("tls", &shape::TLS).is_present() {
                value.report_absent("is true, which needs a [[server.tls.certificate]]");
            }
        }
        if let Some(value) = given.filter(|_| is_taken(&listeners, listener.address)) {
            value.fault("is listened on twice");
        }
        listeners.push(listener);
    }
    listeners
}

/// Whether one of `listeners` has `address`. The system picks another port each time for 0.
fn is_taken(listeners: &[Listener], address: SocketAddr) -> bool {
    address.port() != 0 && listeners.iter().any(|listener| listener.address == address)
}

/// `true`, or the port that clients are sent to.
fn https_port(value: &Value<'_>) -> Option<NonZeroU16> {
    if value.is_number() {
        let port = value.count(1..=u64::from(u16::MAX), None)?;
        return u16::try_from(port).ok().and_then(NonZeroU16::new);
    }
    value.switch("true, or the port of https").filter(|on| *on).map(|_| HTTPS_PORT)
}

/// Whether a connection to one of the addresses could reach the other.
pub(super) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    // `[::]` takes IPv4 as well, `0.0.0.0` no IPv6.
    let takes = |all: IpAddr, one: IpAddr| all.is_unspecified() && (all.is_ipv6() || one.is_ipv4());
    // The system picks a free port for 0.
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || takes(a.ip(), b.ip()) || takes(b.ip(), a.ip()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_overlap_when_one_connection_could_reach_both() {
        let both = |a: &str, b: &str| {
            let (a, b) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(overlap(a, b), overlap(b, a), "{a} {b}");
            overlap(a, b)
        };
        for (a, b) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("0.0.0.0:80", "127.0.0.1:80"),
            ("[::]:80", "127.0.0.1:80"),
            ("[::]:80", "[::1]:80"),
            ("[::]:80", "0.0.0.0:80"),
        ] {
            assert!(both(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("127.0.0.1:80", "127.0.0.2:80"),
            ("0.0.0.0:80", "[::1]:80"),
            ("0.0.0.0:80", "127.0.0.1:81"),
            ("0.0.0.0:0", "127.0.0.1:0"),
            ("[::1]:0", "[::1]:0"),
        ] {
            assert!(!both(a, b), "{a} {b}");
        }
    }
}
