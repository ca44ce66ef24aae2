use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// A header of version 2 with a right length.
fn v2(command: u8, family: u8, following: &[u8]) -> Vec<u8> {
    let length = u16::try_from(following.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family][..], &length, following].concat()
}

const IPV4: &[u8] = &[192, 0, 2, 1, 192, 0, 2, 2, 0xdc, 4, 1, 0xbb];

fn ipv6() -> Vec<u8> {
    let address: Ipv6Addr = "2001:db8::1".parse().unwrap();
    [&address.octets()[..], &address.octets(), &[0xdc, 4, 1, 0xbb]].concat()
}

/// The client and how many bytes the header has, or what is wrong.
fn parsed(bytes: &[u8]) -> Result<Option<(Option<String>, usize)>, String> {
    let header = parse(bytes).map_err(|error| error.to_string())?;
    Ok(header.map(|header| (header.client.map(|client| client.to_string()), header.length)))
}

fn client(bytes: &[u8]) -> Option<String> {
    let (client, length) = parsed(bytes).unwrap().unwrap();
    assert_eq!(length, bytes.len());
    client
}

#[test]
fn a_line_names_the_client() {
    assert_eq!(client(b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"), Some("192.0.2.1".into()));
    assert_eq!(client(b"PROXY TCP6 2001:db8::1 ::1 56324 0\r\n"), Some("2001:db8::1".into()));
    let longest = b"PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!(longest.len(), LONGEST_LINE);
    assert_eq!(client(longest), None);
    assert_eq!(client(b"PROXY UNKNOWN\r\n"), None);
}

#[test]
fn a_line_that_is_not_as_specified_is_refused() {
    for line in [
        &b"PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n"[..],
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 1\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443 \r\n",
        b"PROXY TCP4  192.0.2.1 192.0.2.2 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1\t192.0.2.2 56324 443\r\n",
        b"PROXY TCP4 192.0.2.01 192.0.2.2 56324 443\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 056324 443\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 +5 443\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 65536 443\r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 \r\n",
        b"PROXY TCP4 2001:db8::1 ::1 56324 443\r\n",
        b"PROXY TCP6 192.0.2.1 192.0.2.2 56324 443\r\n",
        b"PROXY TCP6 [2001:db8::1] ::1 56324 443\r\n",
        b"PROXY TCP4 localhost localhost 1 2\r\n",
        b"PROXY UNKNOWNX\r\n",
        b"PROXY UDP4 192.0.2.1 192.0.2.2 56324 443\r\n",
        b"PROXY tcp4 192.0.2.1 192.0.2.2 56324 443\r\n",
        b"PROXY \r\n",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\n\r\n",
        b"PROXY TCP4 \xff\r\n",
    ] {
        assert!(parsed(line).unwrap_err().contains("malformed"), "{}", String::from_utf8_lossy(line));
    }
    let endless = [b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat();
    assert_eq!(parsed(&endless[..LONGEST_LINE - 1]), Ok(None));
    assert!(parsed(&endless[..LONGEST_LINE]).is_err());
    let late_end = [&endless[..LONGEST_LINE - 1], b"\r\n"].concat();
    assert!(parsed(&late_end).is_err(), "108 bytes");
    for other in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01", b"P ", b"proxy ", b"\r\n\r\nx", b"\n"] {
        assert!(parsed(other).unwrap_err().contains("does not begin"), "{other:?}");
    }
}

#[test]
fn a_binary_header_names_the_client() {
    assert_eq!(client(&v2(0x21, 0x11, IPV4)), Some("192.0.2.1".into()));
    assert_eq!(client(&v2(0x21, 0x21, &ipv6())), Some("2001:db8::1".into()));
    let with_tlvs = [IPV4, &[0xea, 0, 2, 1, 1, 4, 0, 0]].concat();
    assert_eq!(client(&v2(0x21, 0x11, &with_tlvs)), Some("192.0.2.1".into()));
}

#[test]
fn what_is_not_tcp_over_ip_leaves_the_balancers_address() {
    assert_eq!(client(&v2(0x20, 0x00, &[])), None);
    // Of LOCAL everything but the length is to be ignored.
    assert_eq!(client(&v2(0x20, 0x11, IPV4)), None);
    assert_eq!(client(&v2(0x20, 0xff, &[3, 0, 4, 0, 0, 0, 0])), None);
    for family in [0x00, 0x12, 0x22, 0x31, 0x32] {
        assert_eq!(client(&v2(0x21, family, &[7; 216])), None, "{family:#x}");
    }
}

#[test]
fn a_binary_header_that_is_not_as_specified_is_refused() {
    let refused = |bytes: &[u8], part: &str| {
        let error = parsed(bytes).unwrap_err();
        assert!(error.contains(part), "{error}: {bytes:?}");
    };
    for command in [0x11, 0x31, 0x22, 0x2f, 0x01, 0x00] {
        refused(&v2(command, 0x11, IPV4), "version or command");
    }
    for family in [0x10, 0x13, 0x20, 0x40, 0x41, 0xff] {
        refused(&v2(0x21, family, IPV4), "family");
    }
    refused(&v2(0x21, 0x11, &IPV4[..11]), "too short");
    refused(&v2(0x21, 0x21, &ipv6()[..35]), "too short");
    refused(&v2(0x21, 0x21, &[]), "too short");
    for tlv in [&[4][..], &[4, 0], &[4, 0, 1], &[4, 0, 0, 4], &[4, 0xff, 0xff, 1]] {
        refused(&v2(0x21, 0x11, &[IPV4, tlv].concat()), "TLV");
    }
    // Told from the length, before any of it was read.
    let too_long = [&v2(0x21, 0x11, &[])[..FIXED - 2], &[0x10, 1]].concat();
    refused(&too_long, "too long");
}

/// A header whose checksum is right.
fn with_checksum(before: &[u8], after: &[u8]) -> (Vec<u8>, usize) {
    let mut header = v2(0x21, 0x11, &[IPV4, before, &[CRC32C, 0, 4, 0, 0, 0, 0], after].concat());
    let at = FIXED + IPV4.len() + before.len() + 3;
    let sum = !crc32c(!0, &header);
    header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
    (header, at)
}

#[test]
fn a_checksum_is_verified() {
    assert_eq!(!crc32c(!0, b"123456789"), 0xE306_9283);
    for (before, after) in [(&[][..], &[][..]), (&[4, 0, 1, 9], &[]), (&[4, 0, 1, 9], &[5, 0, 2, 1, 2])] {
        let (header, at) = with_checksum(before, after);
        assert_eq!(client(&header), Some("192.0.2.1".into()));
        for byte in [at, at + 3, FIXED, FIXED + IPV4.len() - 1] {
            let mut changed = header.clone();
            changed[byte] ^= 1;
            assert!(parsed(&changed).is_err(), "{byte}");
        }
    }
    for tlv in [&[CRC32C, 0, 3, 0, 0, 0][..], &[CRC32C, 0, 5, 0, 0, 0, 0, 0], &[CRC32C, 0, 0]] {
        assert!(parsed(&v2(0x21, 0x11, &[IPV4, tlv].concat())).unwrap_err().contains("checksum"));
    }
}

fn header() -> impl Strategy<Value = Vec<u8>> {
    let tlv =
        (any::<u8>().prop_filter("no checksum", |kind| *kind != CRC32C), prop::collection::vec(any::<u8>(), 0..40));
    let tlvs = prop::collection::vec(tlv, 0..4).prop_map(|tlvs| {
        let tlv = |(kind, value): (u8, Vec<u8>)| [&[kind, 0, u8::try_from(value.len()).unwrap()][..], &value].concat();
        tlvs.into_iter().flat_map(tlv).collect::<Vec<_>>()
    });
    prop_oneof![
        (any::<[u8; 4]>(), any::<u16>()).prop_map(|(source, port)| {
            format!("PROXY TCP4 {} 10.0.0.1 {port} 443\r\n", Ipv4Addr::from(source)).into_bytes()
        }),
        any::<[u8; 16]>()
            .prop_map(|source| format!("PROXY TCP6 {} ::1 1 443\r\n", Ipv6Addr::from(source)).into_bytes()),
        tlvs.clone().prop_map(|tlvs| v2(0x21, 0x11, &[IPV4, &tlvs].concat())),
        tlvs.prop_map(|tlvs| v2(0x21, 0x21, &[ipv6(), tlvs].concat())),
    ]
}

proptest! {
    #[test]
    fn no_bytes_panic_and_none_behind_the_header_are_taken(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(Some(header)) = parse(&bytes) {
            prop_assert!(header.length <= bytes.len());
        }
    }

    #[test]
    fn no_slip_in_a_real_header_panics(
        header in header(),
        slips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut bytes = header;
        for (at, byte) in slips {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.extend_from_slice(b"what follows");
        if let Ok(Some(header)) = parse(&bytes) {
            prop_assert!(header.length <= bytes.len());
        }
    }

    /// What is decided does not depend on how many bytes are there beyond those needed.
    #[test]
    fn a_header_ends_at_the_same_byte_however_it_comes(header in header(), behind in prop::collection::vec(any::<u8>(), 0..80)) {
        let whole = [&header[..], &behind].concat();
        for end in 0..header.len() {
            prop_assert_eq!(parsed(&whole[..end]), Ok(None), "{}", end);
        }
        let client = parsed(&header).unwrap().unwrap().0;
        for end in header.len()..=whole.len() {
            prop_assert_eq!(parsed(&whole[..end]), Ok(Some((client.clone(), header.len()))));
        }
    }

    #[test]
    fn what_follows_the_header_is_left_to_the_next_reader(
        header in header(),
        behind in prop::collection::vec(any::<u8>(), 0..2000),
        piece in 1_usize..700,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (mut client, server) = tokio::io::duplex(piece);
            let sent = [&header[..], &behind].concat();
            let sending = tokio::spawn(async move { client.write_all(&sent).await });
            let mut stream = Prefixed::new(server);
            let expected = parse(&header).unwrap().unwrap().client;
            assert_eq!(read(&mut stream).await.unwrap(), expected);
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.unwrap();
            assert_eq!(rest, behind);
            sending.await.unwrap().unwrap();
        });
    }
}

#[tokio::test]
async fn an_end_before_the_header_is_told_from_one_inside() {
    for (sent, is_quiet) in [(&b""[..], true), (b"PROXY TCP4 ", false), (&SIGNATURE[..], false)] {
        let (mut client, server) = tokio::io::duplex(64);
        client.write_all(sent).await.unwrap();
        drop(client);
        let error = read(&mut Prefixed::new(server)).await.unwrap_err();
        assert_eq!(matches!(error, HeaderError::Closed), is_quiet, "{error}");
        assert_eq!(matches!(error, HeaderError::Read(_)), !is_quiet, "{error}");
    }
}
