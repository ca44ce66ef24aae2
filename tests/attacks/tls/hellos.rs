//! First messages, good and bad, and what is answered to each.

use std::sync::Arc;
use std::time::Duration;

use super::raw::extension::*;
use super::raw::*;
use super::{PATIENCE, failures, gateway};
use crate::support::{Backend, Process, Toml, Workplace};

/// What a case must come to.
#[derive(Clone, Copy, Debug)]
enum Want {
    /// One of these alerts. More than one where the standards leave it open.
    Alert(&'static [u8]),
    Tls12,
    Tls13,
    /// The end, with this alert or, as it may be (RFC 8446 §6.2), without one: that is the library's to say.
    Ended(u8),
    /// No alert, but the end: an alert in answer to one would go round.
    Closed,
    /// More is waited for, until the handshake's deadline.
    Waiting,
}

const DECODE: Want = Want::Alert(&[alert::DECODE_ERROR]);
const ILLEGAL: Want = Want::Alert(&[alert::ILLEGAL_PARAMETER]);
const UNEXPECTED: Want = Want::Alert(&[alert::UNEXPECTED_MESSAGE]);
const FAILURE: Want = Want::Alert(&[alert::HANDSHAKE_FAILURE]);
const VERSION: Want = Want::Alert(&[alert::PROTOCOL_VERSION]);
/// What is no record at all: other implementations differ in what they call it.
const NO_RECORD: Want =
    Want::Alert(&[alert::DECODE_ERROR, alert::UNEXPECTED_MESSAGE, alert::PROTOCOL_VERSION, alert::RECORD_OVERFLOW]);

type Case = (&'static str, (Vec<u8>, Want));

fn good() -> Vec<Case> {
    let (tls12, tls13) = (Hello::tls12, Hello::tls13);
    let both = || tls13().with(VERSIONS, vector(1, [3, 4, 3, 3])).suites(&[0x1301, 0xc02b]);
    vec![
        ("TLS 1.2", (tls12().bytes(), Want::Tls12)),
        ("TLS 1.3", (tls13().bytes(), Want::Tls13)),
        ("both, the newer is taken", (both().bytes(), Want::Tls13)),
        ("both, the older first", (both().with(VERSIONS, vector(1, [3, 3, 3, 4])).bytes(), Want::Tls13)),
        (
            "a version nobody knows beside TLS 1.3",
            (tls13().with(VERSIONS, vector(1, [0x7a, 0x7a, 3, 4])).bytes(), Want::Tls13),
        ),
        ("a legacy version of the future", (tls12().version([3, 9]).bytes(), Want::Tls12)),
        ("records of one byte, TLS 1.2", (tls12().in_records(1), Want::Tls12)),
        ("records of one byte, TLS 1.3", (tls13().in_records(1), Want::Tls13)),
        ("records of three bytes", (tls13().in_records(3), Want::Tls13)),
        (
            "split within the header of the message",
            (
                [record(HANDSHAKE, TLS10, &tls12().message()[..2]), record(HANDSHAKE, TLS10, &tls12().message()[2..])]
                    .concat(),
                Want::Tls12,
            ),
        ),
        ("no server name", (tls12().without(SERVER_NAME).bytes(), Want::Tls12)),
        ("compression offered beside none", (tls12().compression(&[1, 0]).bytes(), Want::Tls12)),
        ("extensions nobody knows", (tls12().and(0x0a0a, []).and(0x7777, vec![1; 300]).bytes(), Want::Tls12)),
        ("a hello of 16 KiB", (tls12().and(21, vec![0; 16_000]).bytes(), Want::Tls12)),
        ("a hello of 60 KiB in several records", (tls12().and(21, vec![0; 60_000]).bytes(), Want::Tls12)),
        ("heartbeats offered", (tls12().and(15, [1]).bytes(), Want::Tls12)),
        ("encrypt-then-MAC offered", (tls12().and(22, []).bytes(), Want::Tls12)),
        ("shorter fragments wished for", (tls12().and(1, [1]).bytes(), Want::Tls12)),
        ("a limit of records wished for", (tls12().and(28, [0, 64]).bytes(), Want::Tls12)),
        ("early data without a key shared before", (tls13().and(EARLY_DATA, []).bytes(), Want::Tls13)),
        (
            "renegotiation told of by the suite",
            (tls12().without(RENEGOTIATION_INFO).suites(&[0xc02b, 0x00ff]).bytes(), Want::Tls12),
        ),
        ("a fallback from the newest", (tls13().suites(&[0x1301, 0x5600]).bytes(), Want::Tls13)),
        // Nothing is ever renegotiated that this could be about; the library does not look.
        (
            "renegotiation of a connection that is new",
            (tls12().with(RENEGOTIATION_INFO, vector(1, [1; 12])).bytes(), Want::Tls12),
        ),
        ("a version of DTLS, later than any of TLS", (tls12().version([0xfe, 0xfd]).bytes(), Want::Tls12)),
        ("no extended master secret", (tls12().without(EXTENDED_MASTER_SECRET).bytes(), Want::Tls12)),
        ("a session nobody knows", (tls12().session(32).bytes(), Want::Tls12)),
        ("a ticket of zeros", (tls12().and(SESSION_TICKET, vec![0; 200]).bytes(), Want::Tls12)),
        ("a ticket of 30,000 bytes", (tls12().and(SESSION_TICKET, vec![7; 30_000]).bytes(), Want::Tls12)),
        ("no key share: asked for again", (tls13().with(KEY_SHARE, vector(2, [])).bytes(), Want::Tls13)),
        (
            "a key share of a group nobody knows",
            (tls13().with(KEY_SHARE, vector(2, share(0x7777, [1; 40]))).bytes(), Want::Tls13),
        ),
    ]
}

fn records() -> Vec<Case> {
    let hello = Hello::tls12().message();
    let of = |kind, body: &[u8]| record(HANDSHAKE, TLS10, message(kind, body));
    let long = |length: u16| [&[HANDSHAKE, 3, 1][..], &length.to_be_bytes(), &vec![1; usize::from(length)]].concat();
    vec![
        ("HTTP", (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), NO_RECORD)),
        ("the preface of HTTP/2", (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), NO_RECORD)),
        ("SSH", (b"SSH-2.0-client\r\n".to_vec(), NO_RECORD)),
        ("a PROXY header", (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n".to_vec(), NO_RECORD)),
        ("zeros", (vec![0; 100], NO_RECORD)),
        ("ones", (vec![0xff; 100], NO_RECORD)),
        ("a hello of SSL 2", (ssl2(), NO_RECORD)),
        ("a record of version 0", (record(HANDSHAKE, [0, 0], &hello), NO_RECORD)),
        ("a record of version 2", (record(HANDSHAKE, [2, 0], &hello), NO_RECORD)),
        ("a record of version 4", (record(HANDSHAKE, [4, 0], &hello), NO_RECORD)),
        ("a record longer than may be", (long(0x4801), NO_RECORD)),
        ("the longest that can be told", (long(0xffff), NO_RECORD)),
        (
            "an empty handshake record",
            (record(HANDSHAKE, TLS10, []), Want::Alert(&[alert::DECODE_ERROR, alert::UNEXPECTED_MESSAGE])),
        ),
        ("application data first", (record(23, TLS12, [1; 40]), UNEXPECTED)),
        ("empty application data first", (record(23, TLS12, []), UNEXPECTED)),
        ("a change of ciphers first", (record(20, TLS12, [1]), UNEXPECTED)),
        ("a heartbeat that asks for 16 KiB (CVE-2014-0160)", (record(24, TLS12, [1, 0x40, 0]), NO_RECORD)),
        ("an alert: the end", (record(ALERT, TLS12, [1, 0]), Want::Waiting)),
        ("an alert: fatal", (record(ALERT, TLS12, [2, 40]), Want::Closed)),
        ("an alert of one byte", (record(ALERT, TLS12, [2]), DECODE)),
        ("an alert that is empty", (record(ALERT, TLS12, []), DECODE)),
        ("a HelloRequest", (of(0, &[]), UNEXPECTED)),
        ("a ServerHello", (of(2, &[3; 70]), Want::Alert(&[alert::UNEXPECTED_MESSAGE, alert::DECODE_ERROR]))),
        ("a certificate", (of(11, &[0, 0, 0]), Want::Alert(&[alert::UNEXPECTED_MESSAGE, alert::DECODE_ERROR]))),
        ("a ClientKeyExchange", (of(16, &[32; 33]), UNEXPECTED)),
        ("a Finished", (of(20, &[1; 12]), UNEXPECTED)),
        ("a KeyUpdate", (of(24, &[0]), UNEXPECTED)),
        ("a message nobody knows", (of(99, &[1; 9]), Want::Alert(&[alert::UNEXPECTED_MESSAGE, alert::DECODE_ERROR]))),
        (
            "a message of 16 MiB",
            (record(HANDSHAKE, TLS10, [1, 0xff, 0xff, 0xff, 3, 3]), Want::Ended(alert::DECODE_ERROR)),
        ),
        (
            "half a hello, then application data",
            (
                [record(HANDSHAKE, TLS10, &hello[..40]), record(23, TLS12, [1; 40])].concat(),
                Want::Ended(alert::UNEXPECTED_MESSAGE),
            ),
        ),
        (
            "half a hello, then an alert",
            ([record(HANDSHAKE, TLS10, &hello[..40]), record(ALERT, TLS12, [2, 40])].concat(), Want::Closed),
        ),
        ("half a hello", (record(HANDSHAKE, TLS10, &hello[..40]), Want::Waiting)),
        ("half a record", (Hello::tls12().bytes()[..40].to_vec(), Want::Waiting)),
        ("one byte", (vec![HANDSHAKE], Want::Waiting)),
        ("two hellos in a record", (record(HANDSHAKE, TLS10, [&*hello, &*hello].concat()), UNEXPECTED)),
    ]
}

fn versions_and_suites() -> Vec<Case> {
    let (tls12, tls13) = (Hello::tls12, Hello::tls13);
    let suites = |suites: &[u16]| (tls12().suites(suites).bytes(), FAILURE);
    vec![
        ("SSL 3", (tls12().version([3, 0]).bytes(), VERSION)),
        ("TLS 1.0", (tls12().version([3, 1]).bytes(), VERSION)),
        ("TLS 1.1", (tls12().version([3, 2]).bytes(), VERSION)),
        ("version 2", (tls12().version([2, 0]).bytes(), VERSION)),
        ("supported_versions with TLS 1.0 and 1.1", (tls13().with(VERSIONS, vector(1, [3, 1, 3, 2])).bytes(), VERSION)),
        (
            "supported_versions with none known",
            (tls13().with(VERSIONS, vector(1, [0x7f, 0x1c, 0x0a, 0x0a])).bytes(), VERSION),
        ),
        ("supported_versions that is empty", (tls13().with(VERSIONS, vector(1, [])).bytes(), DECODE)),
        ("supported_versions of an odd length", (tls13().with(VERSIONS, vector(1, [3, 4, 3])).bytes(), DECODE)),
        ("suites: CBC", suites(&[0xc023, 0xc024, 0xc027, 0xc028, 0xc009, 0xc013, 0xc00a, 0xc014])),
        ("suites: RSA key exchange (ROBOT)", suites(&[0x002f, 0x0035, 0x009c, 0x009d, 0x003c])),
        ("suites: finite fields (Logjam)", suites(&[0x009e, 0x009f, 0x0033, 0x0067, 0xccaa])),
        ("suites: 3DES (Sweet32)", suites(&[0x000a, 0x0016, 0xc008, 0xc012])),
        ("suites: RC4", suites(&[0x0004, 0x0005, 0xc007, 0xc011])),
        ("suites: export (FREAK)", suites(&[0x0003, 0x0006, 0x0008, 0x0014])),
        ("suites: without encryption", suites(&[0x0000, 0x0001, 0x0002, 0x003b, 0xc006, 0xc010])),
        ("suites: anonymous", suites(&[0x0018, 0x0034, 0x006c, 0xc018, 0xc019])),
        ("suites: CCM", suites(&[0xc0ac, 0xc0ad, 0xc0ae, 0xc0af])),
        ("suites: those of TLS 1.3 in TLS 1.2", suites(&[0x1301, 0x1302, 0x1303])),
        ("suites: for another kind of certificate", suites(&[0xc02f, 0xc030, 0xcca8])),
        ("suites: only signals", suites(&[0x00ff, 0x5600])),
        ("suites: those of TLS 1.2 in TLS 1.3", (tls13().suites(&[0xc02b]).bytes(), FAILURE)),
        ("suites: CCM in TLS 1.3", (tls13().suites(&[0x1304, 0x1305]).bytes(), FAILURE)),
        (
            "no suite",
            (
                tls12().suites(&[]).bytes(),
                Want::Alert(&[alert::DECODE_ERROR, alert::HANDSHAKE_FAILURE, alert::ILLEGAL_PARAMETER]),
            ),
        ),
        ("compression only", (tls12().compression(&[1]).bytes(), ILLEGAL)),
        (
            "no compression method",
            (tls12().compression(&[]).bytes(), Want::Alert(&[alert::DECODE_ERROR, alert::ILLEGAL_PARAMETER])),
        ),
        ("compression beside none in TLS 1.3", (tls13().compression(&[1, 0]).bytes(), ILLEGAL)),
        (
            "a session of 33 bytes",
            (tls12().session(33).bytes(), Want::Alert(&[alert::DECODE_ERROR, alert::ILLEGAL_PARAMETER])),
        ),
    ]
}

fn extensions() -> Vec<Case> {
    let (tls12, tls13) = (Hello::tls12, Hello::tls13);
    let named = |body: Vec<u8>| tls12().with(SERVER_NAME, body).bytes();
    let alpn = |names: &[&str]| vector(2, names.iter().flat_map(|name| vector(1, name)).collect::<Vec<_>>());
    let missing = Want::Alert(&[alert::MISSING_EXTENSION, alert::HANDSHAKE_FAILURE]);
    let bad = Want::Alert(&[alert::DECODE_ERROR, alert::ILLEGAL_PARAMETER]);
    let two_names = [&[0][..], &vector(2, "a.example"), &[0], &vector(2, "b.example")].concat();
    let mut truncated = tls12().body();
    truncated.truncate(truncated.len() - 1);
    let mut longer = tls12().body();
    longer.push(0);
    let bare = Hello { extensions: Vec::new(), ..tls12() };
    vec![
        ("an extended master secret with a body", (tls12().with(EXTENDED_MASTER_SECRET, [1]).bytes(), bad)),
        ("no signature algorithms", (tls12().without(SIGNATURES).bytes(), missing)),
        ("no signature algorithms in TLS 1.3", (tls13().without(SIGNATURES).bytes(), missing)),
        (
            "signatures with SHA-1 and MD5 only",
            (tls12().with(SIGNATURES, list(&[0x0203, 0x0201, 0x0101])).bytes(), FAILURE),
        ),
        ("signatures: an empty list", (tls12().with(SIGNATURES, list(&[])).bytes(), bad)),
        ("signatures of an odd length", (tls12().with(SIGNATURES, vector(2, [4, 3, 4])).bytes(), bad)),
        ("no groups in TLS 1.3", (tls13().without(GROUPS).bytes(), missing)),
        ("no key share extension", (tls13().without(KEY_SHARE).bytes(), missing)),
        (
            "groups: small, binary and odd ones",
            (tls12().with(GROUPS, list(&[1, 6, 9, 14, 19, 21, 22])).bytes(), FAILURE),
        ),
        (
            "groups: finite fields only",
            (tls13().with(GROUPS, list(&[0x0100, 0x0101])).with(KEY_SHARE, vector(2, [])).bytes(), FAILURE),
        ),
        ("groups: an empty list", (tls12().with(GROUPS, list(&[])).bytes(), bad)),
        (
            "only compressed points",
            (
                tls12().and(POINT_FORMATS, [1, 1]).bytes(),
                Want::Alert(&[alert::ILLEGAL_PARAMETER, alert::HANDSHAKE_FAILURE]),
            ),
        ),
        (
            "two key shares of one group",
            (tls13().with(KEY_SHARE, vector(2, [x25519_share(), x25519_share()].concat())).bytes(), ILLEGAL),
        ),
        ("X25519: zero", (tls13().with(KEY_SHARE, vector(2, share(X25519, [0; 32]))).bytes(), ILLEGAL)),
        ("X25519: 31 bytes", (tls13().with(KEY_SHARE, vector(2, share(X25519, [9; 31]))).bytes(), ILLEGAL)),
        (
            "P-256: not on the curve",
            (tls13().with(GROUPS, list(&[P256])).with(KEY_SHARE, vector(2, share(P256, [4; 65]))).bytes(), ILLEGAL),
        ),
        (
            "P-256: the point at infinity",
            (tls13().with(GROUPS, list(&[P256])).with(KEY_SHARE, vector(2, share(P256, [0]))).bytes(), ILLEGAL),
        ),
        ("an empty key", (tls13().with(KEY_SHARE, vector(2, share(X25519, []))).bytes(), bad)),
        (
            "ML-KEM: short",
            (
                tls13()
                    .with(GROUPS, list(&[X25519_MLKEM768]))
                    .with(KEY_SHARE, vector(2, share(X25519_MLKEM768, [9; 100])))
                    .bytes(),
                ILLEGAL,
            ),
        ),
        (
            "ML-KEM: coefficients too large",
            (
                tls13()
                    .with(GROUPS, list(&[X25519_MLKEM768]))
                    .with(KEY_SHARE, vector(2, share(X25519_MLKEM768, [0xff; 1216])))
                    .bytes(),
                ILLEGAL,
            ),
        ),
        (
            "ALPN: nothing in common",
            (tls12().and(ALPN, alpn(&["spdy/3", "h3"])).bytes(), Want::Alert(&[alert::NO_APPLICATION_PROTOCOL])),
        ),
        (
            "ALPN: another case is another name",
            (tls12().and(ALPN, alpn(&["H2", "HTTP/1.1"])).bytes(), Want::Alert(&[alert::NO_APPLICATION_PROTOCOL])),
        ),
        (
            "ALPN: HTTP/2 without TLS is no name",
            (tls12().and(ALPN, alpn(&["h2c"])).bytes(), Want::Alert(&[alert::NO_APPLICATION_PROTOCOL])),
        ),
        ("ALPN: an empty list", (tls12().and(ALPN, alpn(&[])).bytes(), bad)),
        ("ALPN: an empty name", (tls12().and(ALPN, alpn(&["", "h2"])).bytes(), bad)),
        ("ALPN: a name longer than its list", (tls12().and(ALPN, [0, 3, 9, b'h', b'2']).bytes(), bad)),
        ("a name: empty list", (named(vec![0, 0]), bad)),
        ("a name: empty", (named(server_name("")), bad)),
        ("a name: two of them", (named(vector(2, two_names)), bad)),
        ("a name: of another kind", (named(vector(2, [&[9][..], &vector(2, "localhost")].concat())), bad)),
        ("a name: NUL in it", (named(server_name("localhost\0.evil.example")), bad)),
        ("a name: not ASCII", (named(server_name("lo\u{e7}alhost")), bad)),
        ("a name: a slash in it", (named(server_name("localhost/../etc")), bad)),
        ("a name: with a port", (named(server_name("localhost:443")), bad)),
        ("a name: with CR LF", (named(server_name("localhost\r\nX: y")), bad)),
        ("a name: 254 letters", (named(server_name([b'a'; 254])), bad)),
        ("a name: 30,000 letters", (named(server_name(vec![b'a'; 30_000])), bad)),
        ("a name: a label of 64 letters", (named(server_name([b'a'; 64])), bad)),
        ("a name: a star", (named(server_name("*.localhost")), bad)),
        ("a name: dots only", (named(server_name("..")), bad)),
        ("an extension twice", (tls12().and(GROUPS, list(&[X25519])).bytes(), bad)),
        ("an extension nobody knows, twice", (tls12().and(0x7777, []).and(0x7777, []).bytes(), bad)),
        ("a shared key that is not last", (tls13().and(PRE_SHARED_KEY, psk()).and(PSK_MODES, [1, 1]).bytes(), ILLEGAL)),
        (
            "a shared key without its modes",
            (tls13().and(PRE_SHARED_KEY, psk()).bytes(), Want::Alert(&[alert::MISSING_EXTENSION])),
        ),
        ("no extension at all", (bare.bytes(), FAILURE)),
        ("cut by one byte", (record(HANDSHAKE, TLS10, message(1, truncated)), DECODE)),
        ("longer by one byte", (record(HANDSHAKE, TLS10, message(1, longer)), DECODE)),
        ("an empty hello", (record(HANDSHAKE, TLS10, message(1, [])), DECODE)),
    ]
}

/// A key that nobody shares.
fn psk() -> Vec<u8> {
    let identity = [&vector(2, [7; 40])[..], &[0; 4]].concat();
    [vector(2, identity), vector(2, vector(1, [1; 32]))].concat()
}

fn ssl2() -> Vec<u8> {
    // Version 3.3 in the form of SSL 2 (RFC 5246 §E.2), with one suite and a challenge of 16 bytes.
    let body = [&[1, 3, 3, 0, 3, 0, 0, 0, 16, 0, 0xc0, 0x2b][..], &[5; 16]].concat();
    [&[0x80, u8::try_from(body.len()).expect("short")][..], &body].concat()
}

fn all() -> Vec<Case> {
    [good(), records(), versions_and_suites(), extensions()].concat()
}

fn check(address: std::net::SocketAddr, (bytes, want): &(Vec<u8>, Want)) -> Result<(), String> {
    let outcome = say(address, bytes, PATIENCE);
    let good = match (&outcome, want) {
        (Outcome::Alert(alert), Want::Alert(wanted)) => wanted.contains(alert),
        (Outcome::Chosen(chosen), Want::Tls12) => chosen.version == [3, 3] && chosen.compression == 0,
        (Outcome::Chosen(chosen), Want::Tls13) => chosen.version == [3, 4] && chosen.compression == 0,
        (Outcome::Alert(alert), Want::Ended(wanted)) => alert == wanted,
        (Outcome::Closed, Want::Closed | Want::Ended(_)) | (Outcome::Waiting, Want::Waiting) => true,
        _ => false,
    };
    if good { Ok(()) } else { Err(format!("{outcome:?}, expected {want:?}")) }
}

#[test]
fn every_first_message_gets_the_answer_of_the_standards() {
    let backend = Backend::start();
    let gateway = gateway(&backend, "");
    let cases = all();
    let failed = failures("TLS hellos", &cases, |case| check(gateway.address, case));
    assert!(failed.is_empty(), "{} of {}:\n{}", failed.len(), cases.len(), failed.join("\n"));
    assert!(cases.len() >= 130, "{}", cases.len());
    assert!(backend.saw_nothing());
    assert_eq!(gateway.connect().ask("GET /public HTTP/1.1\r\nHost: a\r\n\r\n").status, 200, "others are served");
}

/// Whoever can write a line of the log with each connection fills disks, and chooses what stands there.
#[test]
fn no_client_writes_to_the_log_by_a_handshake() {
    let backend = Backend::start();
    let process = Process::start(&Arc::new(Workplace::new()), &Toml::default(), &backend);
    let before = process.log();
    for (_, (bytes, _)) in all() {
        say(process.address, &bytes, Duration::from_millis(20));
    }
    say(process.address, &Hello::tls12().with(SERVER_NAME, server_name("127.0.0.1")).bytes(), PATIENCE);
    assert_eq!(process.log(), before);
}
