use super::reading::{decode_once, without_parameters};
use super::*;

#[test]
fn ordinary_paths_have_one_reading() {
    for path in ["/", "/orders", "/orders/17/items", "/a-b_c~d", "/a:b@c,d=e+f&g!$'()*", "/orders/"] {
        assert_eq!(judge(path), Ok(Judged { spellings: Spellings::default(), has_other_reading: false }), "{path}");
    }
    for path in [
        "/caf%C3%A9",
        "/a%20b",
        "/v1.2/file.txt",
        "/Orders",
        "/.well-known/x",
        "/...",
        "/r;v=1",
        "/%E4%BD%95%EF%BC%9F",
        "/x%E2%80%A6",
    ] {
        assert_eq!(judge(path).map(|judged| judged.spellings), Ok(Spellings::default()), "{path}");
    }
}

#[test]
fn every_spelling_with_two_readings_has_its_name() {
    for (path, spelling) in [
        ("/a//b", Spellings::EMPTY_SEGMENT),
        ("//", Spellings::EMPTY_SEGMENT),
        ("/a\\b", Spellings::BACKSLASH),
        ("/a;x/b", Spellings::MATRIX_PARAMETER),
        ("/a;x.html", Spellings::MATRIX_PARAMETER),
        ("/a%2fb", Spellings::ENCODED_SLASH),
        ("/a%2Fb", Spellings::ENCODED_SLASH),
        ("/a%5cb", Spellings::ENCODED_BACKSLASH),
        ("/a%2eb", Spellings::ENCODED_DOT),
        ("/a%25b", Spellings::ENCODED_PERCENT),
        ("/a%3bb", Spellings::ENCODED_SEMICOLON),
        ("/a%3fb", Spellings::ENCODED_QUESTION_MARK),
        ("/a%23b", Spellings::ENCODED_HASH),
        ("/%61dmin", Spellings::ENCODED_UNRESERVED),
        ("/a%7eb", Spellings::ENCODED_UNRESERVED),
        ("/caf%e9", Spellings::INVALID_UTF8),
        ("/%ed%a0%80", Spellings::INVALID_UTF8),
    ] {
        assert_eq!(judge(path).map(|judged| judged.spellings), Ok(spelling), "{path}");
    }
    assert_eq!(Spellings::NAMES.len(), 12);
    for name in Spellings::NAMES {
        assert_eq!(Spellings::named(name).unwrap().names().collect::<Vec<_>>(), [*name]);
    }
    assert_eq!(Spellings::named("dot_segment"), None);
}

#[test]
fn some_spellings_no_route_may_allow() {
    for (path, error) in [
        ("", PathError::NotAbsolute),
        ("*", PathError::NotAbsolute),
        ("a/b", PathError::NotAbsolute),
        ("/a b", PathError::ForbiddenByte),
        ("/a\tb", PathError::ForbiddenByte),
        ("/a\u{0}b", PathError::ForbiddenByte),
        ("/a%00b", PathError::ForbiddenByte),
        ("/a%0d%0ab", PathError::ForbiddenByte),
        ("/a%7fb", PathError::ForbiddenByte),
        ("/a#b", PathError::ForbiddenByte),
        ("/café", PathError::ForbiddenByte),
        ("/a%", PathError::InvalidEncoding),
        ("/a%2", PathError::InvalidEncoding),
        ("/a%zz", PathError::InvalidEncoding),
        ("/a%+1", PathError::InvalidEncoding),
        ("/.", PathError::DotSegment),
        ("/..", PathError::DotSegment),
        ("/a/./b", PathError::DotSegment),
        ("/a/../b", PathError::DotSegment),
        ("/a/%2e%2e/b", PathError::DotSegment),
        ("/a/.%2E/b", PathError::DotSegment),
        ("/a/..%2fb", PathError::DotSegment),
        ("/a\\..\\b", PathError::DotSegment),
        ("/a/..;/b", PathError::DotSegment),
        ("/a/..;x=1", PathError::DotSegment),
        ("/a/%252e%252e/b", PathError::DotSegment),
        ("/a/%25252e%25252e/b", PathError::DotSegment),
        ("/a%ef%bc%8fb", PathError::Confusable),
        ("/%ef%bc%8e%ef%bc%8e/b", PathError::DotSegment),
        ("/a%c0%afb", PathError::Confusable),
        ("/a%e0%80%afb", PathError::Confusable),
        // Five and six bytes are no UTF-8 any more, but some decoders do not know.
        ("/a%f8%80%80%80%afb", PathError::Confusable),
        ("/a%fc%80%80%80%80%afb", PathError::Confusable),
        // Normalised, they have a slash, a backslash, a percent sign or a semicolon.
        ("/a%e2%84%80b", PathError::Confusable),
        ("/a%ef%b9%a8b", PathError::Confusable),
        ("/a%e2%88%96b", PathError::Confusable),
        ("/a%ef%b9%aa2fb", PathError::Confusable),
        ("/a%cd%beb", PathError::Confusable),
        ("/a%ef%b9%94b", PathError::Confusable),
        // Two dots in one, also with more around or between them than one sees.
        ("/a/%e2%80%a5/b", PathError::DotSegment),
        ("/a/%ef%b8%b0/b", PathError::DotSegment),
        ("/a/%ef%b9%92%ef%b9%92/b", PathError::DotSegment),
        ("/a/.%e2%80%8b./b", PathError::DotSegment),
        ("/a/..%c2%ad/b", PathError::DotSegment),
        ("/a/..%20/b", PathError::DotSegment),
        ("/a/..%20./b", PathError::DotSegment),
        ("/a/%e2%80%a5./b", PathError::DotSegment),
        ("/a/%e2%80%a6/b", PathError::DotSegment),
        ("/a/..%c2%a0/b", PathError::DotSegment),
        ("/a/..%3fx", PathError::DotSegment),
        ("/a/..%23x", PathError::DotSegment),
        ("/a/..%ef%bc%9fx", PathError::DotSegment),
        ("/;%3f%2fadmin", PathError::Confusable),
        ("/;%2fa/admin", PathError::Confusable),
        ("/;%252fa/admin", PathError::Confusable),
        ("/a;x=%5c/admin", PathError::Confusable),
        ("/;\\a/admin", PathError::Confusable),
        ("/%3b\\%25%2fadmin", PathError::Confusable),
        ("/a%2500b", PathError::ForbiddenByte),
        ("/a%25250ab", PathError::ForbiddenByte),
    ] {
        assert_eq!(judge(path), Err(error), "{path}");
    }
}

#[test]
fn the_loose_reading_is_what_the_most_forgiving_backend_sees() {
    for (path, loose) in [
        ("/", "/"),
        ("/Admin", "/admin"),
        ("/admin;x=1", "/admin"),
        ("/admin.", "/admin"),
        ("/admin%20", "/admin"),
        ("//admin//", "/admin"),
        ("/a%2fAdmin", "/a/admin"),
        ("/a%255cb", "/a/b"),
        ("/%61dmin", "/admin"),
        ("/admin%3fx/y", "/admin"),
        ("/%EF%BD%81dmin", "/admin"),
        ("/%F0%9D%90%9Admin", "/admin"),
        ("/adm%C4%B1n", "/admin"),
        ("/admin%E2%80%8C", "/admin"),
        ("/admin%EF%BC%9Fx", "/admin"),
        ("/admin%C2%A0", "/admin"),
        ("/caf%C3%89", "/caf\u{e9}"),
        ("/cafe%CC%81", "/caf\u{e9}"),
        ("/%FF%41", "/\u{fffd}a"),
    ] {
        assert_eq!(loose_reading(path), loose, "{path}");
    }
}

proptest::proptest! {
    #[test]
    fn a_path_said_to_have_one_reading_has_one(path in "/[ -~]{0,24}") {
        if let Ok(Judged { has_other_reading: false, .. }) = judge(&path) {
            let kept = path.trim_end_matches('/');
            proptest::prop_assert_eq!(loose_reading(&path), if kept.is_empty() { "/" } else { kept });
        }
    }

    #[test]
    fn no_decoding_of_an_accepted_path_has_a_dot_segment(path in "(/|%2[eEfF]|%5c|\\.|;|%25|a|%32){1,12}") {
        let path = format!("/{path}");
        if judge(&path).is_ok() {
            let mut decoded = path.into_bytes();
            for _ in 0..4 {
                for segment in decoded.split(|b| matches!(b, b'/' | b'\\')) {
                    let segment = without_parameters(segment);
                    proptest::prop_assert!(!matches!(segment, b"." | b".."));
                }
                decoded = decode_once(&decoded);
            }
        }
    }
}
