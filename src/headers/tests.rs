use super::*;
use crate::clock::UnixTime;
use crate::ids::{SessionName, UserId};
use crate::token::{Identity, OWN_ISSUER};

fn policy() -> HeaderPolicy {
    let name = HeaderName::from_static;
    HeaderPolicy::new(name("x-user-id"), name("x-session-id"), vec![name("x-roles")])
}

fn identity() -> Identity {
    let (user, session) = (UserId::parse("u1").unwrap(), SessionName::parse("s1").unwrap());
    Identity {
        user_header: user.to_header(),
        session_header: session.to_header(),
        user,
        session,
        issuer: OWN_ISSUER,
        issued_at: UnixTime::from_secs(1),
        valid_from: UnixTime::from_secs(1),
        expires_at: UnixTime::from_secs(2),
        key: std::sync::Arc::new(key()),
    }
}

/// The generator of P-256 as somebody's public key.
fn key() -> crate::token::keys::VerifyingKey {
    use p256::elliptic_curve::sec1::ToEncodedPoint;
    let point = p256::SecretKey::from_slice(&[1; 32]).unwrap().public_key().to_encoded_point(false);
    crate::token::keys::VerifyingKey::es256(None, point.as_bytes().try_into().unwrap()).unwrap()
}

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn forward(fields: &[(&str, &str)], trusted: bool, identity: Option<&Identity>) -> HeaderMap {
    let mut headers = map(fields);
    let peer = Peer::new("192.0.2.7".parse().unwrap(), trusted, true);
    let host = HeaderValue::from_static("shop.example");
    let forwarding = Forwarding {
        peer: &peer,
        forward_token: false,
        restricts_methods: true,
        http2: false,
        stripped: None,
        rules: &HeaderRules::default(),
        identity,
    };
    to_upstream(&mut headers, &policy(), &host, &forwarding);
    headers
}

fn all<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
}

#[test]
fn no_spelling_of_an_identity_header_passes() {
    let spellings = [
        "X-User-Id",
        "x-user-id",
        "X-USER-ID",
        "X_User_Id",
        "X-User_Id",
        "X.User.Id",
        "X-User-Id_",
        "X_SESSION_ID",
        "X-Session-Id",
        "X-Roles",
        "x~user~id",
        "X-User-Id'",
        "x*user*id",
        "X|User|Id",
        "X+User+Id",
        "X`User`Id",
        "X^User^Id",
        "X!User#Id",
    ];
    for identity in [None, Some(&identity())] {
        for spelling in spellings {
            let headers = forward(&[(spelling, "forged"), (spelling, "again"), ("accept", "*/*")], true, identity);
            assert!(!headers.values().any(|value| value == "forged" || value == "again"), "{spelling} {headers:?}");
            assert_eq!(all(&headers, "x-user-id"), if identity.is_some() { vec!["u1"] } else { vec![] });
            assert_eq!(all(&headers, "x-session-id"), if identity.is_some() { vec!["s1"] } else { vec![] });
            assert_eq!(all(&headers, "accept"), ["*/*"]);
        }
    }
}

#[test]
fn connection_cannot_remove_what_we_write() {
    let headers = forward(
        &[
            ("Connection", "X-User-Id, x-session-id , X-Forwarded-For,close"),
            ("Connection", "x-private, Host, content-length, Via, , b@d, \"x"),
            ("X-Private", "1"),
            ("X-Kept", "1"),
        ],
        false,
        Some(&identity()),
    );
    assert_eq!(all(&headers, "x-user-id"), ["u1"]);
    assert_eq!(all(&headers, "x-session-id"), ["s1"]);
    assert_eq!(all(&headers, "x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(all(&headers, "via"), ["1.1 portcullis"]);
    assert_eq!(all(&headers, "x-kept"), ["1"]);
    assert!(all(&headers, "x-private").is_empty() && all(&headers, "connection").is_empty());
}

#[test]
fn hop_by_hop_and_framing_stay_on_their_hop() {
    let names = [
        "Connection",
        "Keep-Alive",
        "Proxy-Connection",
        "Proxy-Authorization",
        "TE",
        "Trailer",
        "Transfer-Encoding",
        "Upgrade",
        "HTTP2-Settings",
        "Content-Length",
        "Expect",
        "Proxy",
        "Authorization",
    ];
    for name in names {
        let headers = forward(&[(name, "host")], true, None);
        assert!(all(&headers, name).is_empty(), "{name}");
    }
}

#[test]
fn what_only_a_proxy_may_say_is_ours_to_say() {
    let claims = [
        ("X-Forwarded-For", "1.1.1.1"),
        ("X-Forwarded-Proto", "http"),
        ("X-Forwarded-Host", "evil.example"),
        ("Forwarded", "for=1.1.1.1"),
        ("X-Real-IP", "1.1.1.1"),
        ("X-Forwarded-Uri", "/admin"),
        ("X-Forwarded-Prefix", "/admin"),
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Server", "x"),
        ("X-Forwarded-Port", "1"),
        ("X-Original-URL", "/admin"),
        ("X-Original-Uri", "/admin"),
        ("X-Rewrite-URL", "/admin"),
        ("X-HTTP-Method-Override", "DELETE"),
    ];
    let headers = forward(&claims, false, None);
    assert_eq!(all(&headers, "x-forwarded-for"), ["192.0.2.7"]);
    assert_eq!(all(&headers, "x-forwarded-proto"), ["https"]);
    assert_eq!(all(&headers, "x-forwarded-host"), ["shop.example"]);
    assert_eq!(all(&headers, "forwarded"), ["for=192.0.2.7;proto=https"]);
    for (name, _) in &claims[4..] {
        assert!(all(&headers, name).is_empty(), "{name}");
    }

    let headers = forward(&claims, true, None);
    assert_eq!(all(&headers, "x-forwarded-for"), ["1.1.1.1, 192.0.2.7"]);
    assert_eq!(all(&headers, "x-forwarded-proto"), ["http"]);
    assert_eq!(all(&headers, "forwarded"), ["for=1.1.1.1", "for=192.0.2.7;proto=https"]);
    assert!(all(&headers, "x-real-ip").is_empty() && all(&headers, "x-forwarded-prefix").is_empty());
}

#[test]
fn an_ipv6_client_is_quoted_in_forwarded() {
    let peer = Peer::new("2001:db8::1".parse().unwrap(), false, false);
    assert_eq!(peer.forwarded, "for=\"[2001:db8::1]\";proto=http");
    assert_eq!(peer.forwarded_for, "2001:db8::1");
}

#[test]
fn trailers_are_announced_without_what_may_not_pass() {
    let headers = forward(
        &[("TE", "gzip, Trailers"), ("Trailer", "X-Checksum, X-User-Id, X_Session_Id, Host, content-length")],
        false,
        None,
    );
    assert_eq!(all(&headers, "te"), ["trailers"]);
    assert_eq!(all(&headers, "connection"), ["te"]);
    assert_eq!(all(&headers, "trailer"), ["X-Checksum"]);
    for name in ["x-user-id", "x_user_id", "authorization", "x-roles", "x-forwarded-for", "connection"] {
        assert!(!policy().trailer_may_pass(name), "{name}");
    }
    assert!(policy().trailer_may_pass("x-checksum") && policy().trailer_may_pass("grpc-status"));
}

#[test]
fn trailers_of_a_response_say_nothing_that_its_header_should() {
    let mut trailers = map(&[
        ("grpc-status", "0"),
        ("x-checksum", "1"),
        ("content-length", "3"),
        ("transfer-encoding", "chunked"),
        ("connection", "close"),
        ("set-cookie", "a=b"),
        ("cache-control", "public"),
        ("location", "/"),
    ]);
    trailers_to_client(&mut trailers);
    let mut left: Vec<&str> = trailers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["grpc-status", "x-checksum"]);
}

#[test]
fn a_token_is_forwarded_only_when_the_route_says_so() {
    let mut headers = map(&[("authorization", "Bearer t")]);
    let peer = Peer::new("192.0.2.7".parse().unwrap(), false, true);
    let forwarding = Forwarding {
        peer: &peer,
        forward_token: true,
        restricts_methods: false,
        http2: true,
        stripped: None,
        rules: &HeaderRules::default(),
        identity: None,
    };
    to_upstream(&mut headers, &policy(), &HeaderValue::from_static("h"), &forwarding);
    assert_eq!(all(&headers, "authorization"), ["Bearer t"]);
    assert_eq!(all(&headers, "via"), ["2 portcullis"]);
}

#[test]
fn a_response_keeps_its_length_and_loses_the_hop() {
    let mut headers = map(&[
        ("Connection", "keep-alive, X-Internal"),
        ("X-Internal", "1"),
        ("Keep-Alive", "timeout=5"),
        ("Transfer-Encoding", "chunked"),
        ("Content-Length", "3"),
        ("Set-Cookie", "a=b"),
        ("Upgrade", "h2c"),
    ]);
    to_client(&mut headers);
    let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
    left.sort_unstable();
    assert_eq!(left, ["content-length", "set-cookie"]);
}

proptest::proptest! {
    #[test]
    fn nothing_a_client_sends_reaches_the_upstream_as_identity(
        name in "[!#$%&'*+.^_`|~0-9a-zA-Z-]{1,20}|[xX][-_.~!*'][uU]ser[-_.|]?[iI]d[-_ ]?",
        connection in "[a-zA-Z, -]{0,40}",
    ) {
        if let Ok(field) = HeaderName::from_bytes(name.as_bytes()) {
            let mut headers = map(&[("connection", &connection)]);
            headers.append(field, HeaderValue::from_static("forged"));
            let peer = Peer::new("192.0.2.7".parse().unwrap(), false, true);
            let known = identity();
            let forwarding = Forwarding {
                peer: &peer,
                forward_token: false,
                restricts_methods: false,
                http2: false,
                stripped: None,
                rules: &HeaderRules::default(),
                identity: Some(&known),
            };
            to_upstream(&mut headers, &policy(), &HeaderValue::from_static("h"), &forwarding);
            let fold = |name: &str| name.bytes().map(|b| if b.is_ascii_alphanumeric() { b.to_ascii_lowercase() } else { b'-' }).collect::<Vec<_>>();
            for (name, value) in &headers {
                if fold(name.as_str()) == b"x-user-id" {
                    proptest::prop_assert_eq!(value, "u1");
                }
            }
            proptest::prop_assert_eq!(headers.get_all("x-user-id").iter().count(), 1);
        }
    }
}

#[test]
fn the_identity_is_written_behind_what_a_route_changes() {
    let peer = Peer::new("192.0.2.7".parse().unwrap(), false, true);
    let (host, stripped) = (HeaderValue::from_static("shop.example"), HeaderValue::from_static("/api"));
    let field = |name, value| (HeaderName::from_static(name), HeaderValue::from_static(value));
    // No configuration has such rules: they are faults. Still nothing comes behind the identity.
    let rules = HeaderRules {
        remove: vec![HeaderName::from_static("x-session-id"), HeaderName::from_static("x-a")],
        set: vec![field("x-user-id", "admin"), field("x-b", "set")],
        add: vec![field("x-user-id", "root"), field("x-c", "added")],
    };
    let known = identity();
    let forwarding = Forwarding {
        peer: &peer,
        forward_token: false,
        restricts_methods: false,
        http2: false,
        stripped: Some(&stripped),
        rules: &rules,
        identity: Some(&known),
    };
    let mut headers = map(&[("x-a", "1"), ("x-b", "1"), ("x-c", "1"), ("x-forwarded-prefix", "/forged")]);
    to_upstream(&mut headers, &policy(), &host, &forwarding);
    assert_eq!((all(&headers, "x-user-id"), all(&headers, "x-session-id")), (vec!["u1"], vec!["s1"]));
    assert_eq!(
        (all(&headers, "x-a"), all(&headers, "x-b"), all(&headers, "x-c")),
        (vec![], vec!["set"], vec!["1", "added"])
    );
    assert_eq!(all(&headers, "x-forwarded-prefix"), ["/api"]);
}
