//! Who the client is when proxies stand between.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap};
use smallvec::SmallVec;

use super::{Peer, X_FORWARDED_FOR, joined};

/// The client's address: the peer's, or the last one in `X-Forwarded-For` that is no trusted proxy. `Forwarded`
/// (RFC 7239) is read when there is no `X-Forwarded-For`.
///
/// Entries are read from the end, because everything before the first untrusted one is the client's own word. What is
/// no address (`unknown`, an obfuscated name) ends the search: the one before may be the client's own word, too.
pub fn client_address(headers: &HeaderMap, peer: &Peer, is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    if !peer.trusted {
        return peer.address;
    }
    if let Some(chain) = joined(headers, &X_FORWARDED_FOR, b", ") {
        return last_untrusted(chain.rsplit(|b| *b == b',').map(parse_node), peer, is_trusted);
    }
    let Some(chain) = joined(headers, &header::FORWARDED, b", ") else { return peer.address };
    match forwarded_nodes(&chain) {
        Some(nodes) => last_untrusted(nodes.into_iter().rev(), peer, is_trusted),
        // Read wrongly once, nothing in it is sure.
        None => peer.address,
    }
}

fn last_untrusted(
    from_end: impl Iterator<Item = Option<IpAddr>>,
    peer: &Peer,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> IpAddr {
    let mut address = peer.address;
    for next in from_end {
        let Some(next) = next else { break };
        address = next;
        if !is_trusted(next) {
            break;
        }
    }
    address
}

/// An address as proxies write it: with or without a port, an IPv6 one with or without brackets; an IPv4 one mapped
/// into IPv6 is that IPv4 address.
fn parse_node(node: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(node).ok()?.trim();
    let bracketed = || text.strip_prefix('[')?.strip_suffix(']')?.parse().ok().map(IpAddr::V6);
    let with_port = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    text.parse().ok().or_else(bracketed).or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

/// The `for` of each element of `Forwarded` (RFC 7239 §4): `None` where there is none or it is no address.
///
/// `None` for the whole when it is malformed: where a quotation ends differently for two readers, a client could put an
/// address of its choice into the last element.
fn forwarded_nodes(list: &[u8]) -> Option<SmallVec<[Option<IpAddr>; 4]>> {
    let mut nodes = SmallVec::new();
    let mut rest = list;
    loop {
        let (node, next) = forwarded_element(rest)?;
        nodes.push(node);
        match next {
            Some(next) => rest = next,
            None => return Some(nodes),
        }
    }
}

/// One element and what follows its comma: `for="[2001:db8::1]:47011";proto=https`.
fn forwarded_element(text: &[u8]) -> Option<(Option<IpAddr>, Option<&[u8]>)> {
    let (mut node, mut seen) = (None, false);
    let mut rest = text.trim_ascii_start();
    loop {
        let name_end = rest.iter().position(|b| !is_token(*b)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(name_end);
        if !name.is_empty() {
            let (value, after) = forwarded_value(after.strip_prefix(b"=")?)?;
            if name.eq_ignore_ascii_case(b"for") {
                if seen {
                    return None;
                }
                (node, seen) = (parse_node(&value), true);
            }
            rest = after;
        } else {
            rest = after;
        }
        rest = rest.trim_ascii_start();
        match rest.split_first() {
            None => return Some((node, None)),
            Some((b',', next)) => return Some((node, Some(next))),
            Some((b';', next)) => rest = next.trim_ascii_start(),
            Some(_) => return None,
        }
    }
}

/// A token or a quoted string, and what follows it.
fn forwarded_value(text: &[u8]) -> Option<(SmallVec<[u8; 48]>, &[u8])> {
    let Some(quoted) = text.strip_prefix(b"\"") else {
        // Some proxies write a port without quotes.
        let end = text.iter().position(|b| !is_token(*b) && *b != b':').unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return if value.is_empty() { None } else { Some((SmallVec::from_slice(value), rest)) };
    };
    let mut value = SmallVec::new();
    let mut bytes = quoted.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'"' => return Some((value, &quoted[at + 1..])),
            b'\\' => value.push(*bytes.next()?.1),
            _ => value.push(*byte),
        }
    }
    None
}

/// RFC 9110 §5.6.2
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn peer(trusted: bool) -> Peer {
        Peer::new("10.0.0.1".parse().unwrap(), trusted, true)
    }

    fn found(fields: &[(&'static str, &str)], trusted: bool) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let is_trusted =
            |address: IpAddr| address.to_string().starts_with("10.") || address.to_string().starts_with("fd00:");
        client_address(&headers, &peer(trusted), is_trusted).to_string()
    }

    #[test]
    fn the_client_is_the_last_address_no_trusted_proxy_vouches_for() {
        let of = |chain: &[&str], trusted| {
            found(&chain.iter().map(|entry| ("x-forwarded-for", *entry)).collect::<Vec<_>>(), trusted)
        };
        assert_eq!(of(&["6.6.6.6, 1.2.3.4"], true), "1.2.3.4");
        assert_eq!(of(&["6.6.6.6, 1.2.3.4", "10.0.0.2"], true), "1.2.3.4");
        assert_eq!(of(&["6.6.6.6, garbage, 10.0.0.2"], true), "10.0.0.2");
        assert_eq!(of(&[], true), "10.0.0.1");
        assert_eq!(of(&["1.2.3.4"], false), "10.0.0.1");
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        for (written, address) in [
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("1.2.3.4:567", "1.2.3.4"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
            ("[::ffff:1.2.3.4]:567", "1.2.3.4"),
            // Nothing that only looks like one.
            ("[1.2.3.4]", "10.0.0.1"),
            ("2001:db8::1]", "10.0.0.1"),
            ("1.2.3.4:", "10.0.0.1"),
            ("unknown", "10.0.0.1"),
        ] {
            assert_eq!(found(&[("x-forwarded-for", written)], true), address, "{written}");
            let chain = format!("6.6.6.6, {written}, [fd00::2]:1, 10.0.0.2");
            let expected = if address == "10.0.0.1" { "fd00::2" } else { address };
            assert_eq!(found(&[("x-forwarded-for", &chain)], true), expected, "{chain}");
        }
    }

    #[test]
    fn forwarded_is_read_where_nothing_else_is() {
        let of = |value: &str| found(&[("forwarded", value)], true);
        for (value, address) in [
            ("for=1.2.3.4", "1.2.3.4"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=1.2.3.4:567", "1.2.3.4"),
            ("proto=http;by=203.0.113.43; for=\"1.2.3.4:567\" ;host=a", "1.2.3.4"),
            ("for=6.6.6.6, for=1.2.3.4 ,for=\"[fd00::1]\";proto=https", "1.2.3.4"),
            ("for=6.6.6.6, for=_hidden, for=10.0.0.2", "10.0.0.2"),
            ("for=6.6.6.6, proto=http, for=10.0.0.2", "10.0.0.2"),
            ("by=\"a\\\", for=6.6.6.6\";for=1.2.3.4", "1.2.3.4"),
            // Malformed: the peer's.
            ("for=\"6.6.6.6", "10.0.0.1"),
            ("for=6.6.6.6\", for=10.0.0.2", "10.0.0.1"),
            ("for=6.6.6.6;for=1.2.3.4", "10.0.0.1"),
            ("for = 6.6.6.6", "10.0.0.1"),
            ("for=", "10.0.0.1"),
            ("6.6.6.6", "10.0.0.1"),
            ("", "10.0.0.1"),
        ] {
            assert_eq!(of(value), address, "{value}");
        }
        let both = [("forwarded", "for=6.6.6.6"), ("x-forwarded-for", "1.2.3.4")];
        assert_eq!(found(&both, true), "1.2.3.4", "the one that most proxies write");
        assert_eq!(found(&[("forwarded", "for=1.2.3.4")], false), "10.0.0.1");
        assert_eq!(found(&[("forwarded", "for=6.6.6.6"), ("forwarded", "for=1.2.3.4")], true), "1.2.3.4");
    }

    proptest::proptest! {
        #[test]
        fn no_list_panics(list in "[a-z=;,\"\\\\ :\\[\\].0-9]{0,60}") {
            let _ = forwarded_nodes(list.as_bytes());
        }
    }
}
