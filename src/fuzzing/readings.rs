//! How backends read a path: every order of every step that some of them take.
//!
//! Written without a look at how the gateway judges paths; the attacks in `tests/` use the same file.

use std::collections::HashSet;

use icu_normalizer::ComposingNormalizerBorrowed;

/// The most readings of one path that are looked at.
const MOST: usize = 2_000;

/// One step of a backend on its way from a path to a file, a handler or a rule.
type Step = fn(&[u8]) -> Vec<u8>;

const STEPS: &[Step] = &[
    decoded,
    without_parameters,
    before_first_semicolon,
    with_single_slashes,
    without_dot_segments,
    with_one_kind_of_slash,
    lower_case,
    compatible,
    best_fitting,
    leniently_read,
    trimmed,
    before_nul,
    before_query,
    without_ignorable,
];

/// All paths that backends may take `path` for, itself among them.
pub(crate) fn readings(path: &[u8]) -> HashSet<Vec<u8>> {
    let mut known = HashSet::from([path.to_vec()]);
    let mut new = vec![path.to_vec()];
    while let Some(path) = new.pop() {
        for step in STEPS {
            let read = step(&path);
            if known.len() < MOST && !known.contains(&read) {
                known.insert(read.clone());
                new.push(read);
            }
        }
    }
    known
}

fn decoded(path: &[u8]) -> Vec<u8> {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::new();
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        match (first, digit(after.first()), digit(after.get(1))) {
            (b'%', Some(high), Some(low)) => {
                out.extend(u8::try_from(high << 4 | low));
                rest = &after[2..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

fn by_segments(path: &[u8], change: impl Fn(&[u8]) -> &[u8]) -> Vec<u8> {
    path.split(|b| *b == b'/').map(change).collect::<Vec<_>>().join(&b'/')
}

fn before(path: &[u8], ends: impl Fn(u8) -> bool) -> Vec<u8> {
    path.split(|b| ends(*b)).next().unwrap_or_default().to_vec()
}

fn without_parameters(path: &[u8]) -> Vec<u8> {
    by_segments(path, |segment| segment.split(|b| *b == b';').next().unwrap_or_default())
}

fn before_first_semicolon(path: &[u8]) -> Vec<u8> {
    before(path, |b| b == b';')
}

fn before_nul(path: &[u8]) -> Vec<u8> {
    before(path, |b| b == 0)
}

fn before_query(path: &[u8]) -> Vec<u8> {
    before(path, |b| matches!(b, b'?' | b'#'))
}

fn with_single_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = path.to_vec();
    out.dedup_by(|one, other| *one == b'/' && *other == b'/');
    out
}

/// RFC 3986 §5.2.4
fn without_dot_segments(path: &[u8]) -> Vec<u8> {
    let mut kept: Vec<&[u8]> = Vec::new();
    let segments: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
    for (at, segment) in segments.iter().enumerate() {
        let last = at + 1 == segments.len();
        match *segment {
            b"." | b".." => {
                if *segment == b".." && kept.len() > 1 {
                    kept.pop();
                }
                if last {
                    kept.push(b"");
                }
            }
            other => kept.push(other),
        }
    }
    kept.join(&b'/')
}

fn with_one_kind_of_slash(path: &[u8]) -> Vec<u8> {
    path.iter().map(|b| if *b == b'\\' { b'/' } else { *b }).collect()
}

/// Text stays text; what is none stays as it is.
fn by_text(path: &[u8], change: impl Fn(&str) -> String) -> Vec<u8> {
    path.utf8_chunks()
        .flat_map(|chunk| [change(chunk.valid()).into_bytes(), chunk.invalid().to_vec()].concat())
        .collect()
}

/// As a comparison without case does it: by capital letters, and those in lower case.
fn lower_case(path: &[u8]) -> Vec<u8> {
    by_text(path, |text| text.to_uppercase().to_lowercase())
}

fn compatible(path: &[u8]) -> Vec<u8> {
    by_text(path, |text| ComposingNormalizerBorrowed::new_nfkc().normalize(text).into_owned())
}

/// What Windows code pages make of characters they have not.
fn best_fitting(path: &[u8]) -> Vec<u8> {
    let fit = |c| match c {
        '\u{2044}' | '\u{2215}' => '/',
        '\u{2216}' => '\\',
        other => other,
    };
    by_text(path, |text| text.chars().map(fit).collect())
}

/// UTF-8 read without asking whether a form is longer than it need be.
fn leniently_read(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = path;
    while let Some((first, after)) = rest.split_first() {
        let following = match first {
            0xc0..=0xdf => 1,
            0xe0..=0xef => 2,
            0xf0..=0xf7 => 3,
            0xf8..=0xfb => 4,
            0xfc..=0xfd => 5,
            _ => 0,
        };
        let tail = after.get(..following).filter(|tail| tail.iter().all(|b| b & 0xc0 == 0x80));
        let value = tail.map(|tail| {
            let first = u32::from(*first) & (0x3f >> following);
            tail.iter().fold(first, |value, b| value << 6 | u32::from(*b & 0x3f))
        });
        match value.and_then(|value| u8::try_from(value).ok()) {
            Some(value) if following > 0 && value.is_ascii() => {
                out.push(value);
                rest = &after[following..];
            }
            _ => {
                out.push(*first);
                rest = after;
            }
        }
    }
    out
}

/// As Windows does it with names of files.
fn trimmed(path: &[u8]) -> Vec<u8> {
    by_segments(path, |segment| {
        if matches!(segment, b"." | b"..") {
            return segment;
        }
        let spaces = segment.iter().rev().take_while(|b| **b == b' ').count();
        let (before, _) = segment.split_at(segment.len() - spaces);
        if matches!(before, b"." | b"..") {
            return before;
        }
        let kept = segment.iter().rposition(|b| !matches!(b, b'.' | b' ')).map_or(0, |last| last + 1);
        &segment[..kept]
    })
}

fn without_ignorable(path: &[u8]) -> Vec<u8> {
    let ignorable = |c: char| matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}');
    by_text(path, |text| text.chars().filter(|c| !ignorable(*c)).collect())
}

#[test]
fn the_readings_of_a_path_are_those_known_from_backends() {
    for (written, read) in [
        ("/%61dmin", "/admin"),
        ("/%2561dmin", "/admin"),
        ("/x/..;/admin", "/admin"),
        ("/x%2f..%5cadmin", "/admin"),
        ("/x/%c0%ae%c0%ae/admin", "/admin"),
        ("/x/%e2%80%a5/admin", "/admin"),
        ("/x/..%20/admin", "/admin"),
        ("/%EF%BD%81dmin", "/admin"),
        ("/adm%C4%B1n", "/admin"),
        ("/admin%00.html", "/admin"),
        ("/Admin.", "/admin"),
        ("//admin;x/y", "/admin"),
    ] {
        assert!(readings(written.as_bytes()).contains(read.as_bytes()), "{written} is never {read}");
    }
    assert!(!readings(b"/administration/x").contains(&b"/admin"[..]));
}
