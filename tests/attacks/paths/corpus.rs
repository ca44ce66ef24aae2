//! Spellings of paths, made from tricks: each by itself in every place, then two of them together.
//!
//! The same list every time, so that a case that failed has a name that stays.

use std::collections::HashSet;

/// One target as it is sent, and the host it is sent to.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Which tricks, where, and on which path.
    pub(super) name: String,
    pub(super) host: String,
    pub(super) target: Vec<u8>,
}

/// What may stand in place of a slash inside a path.
const SLASHES: &str = "\
    // /// /./ /././ /.// /%2e/ /%2E/ /x/../ /x/%2e%2e/ /x/.%2e/ /x/%2E./ /x/..;/ /x/..;a=b/ /x/..%20/ /x/..%3f/ \
    /x/..%23/ /x/..%c2%a0/ /.%20/ /.../ /..../ /%20/ /;/ /;a=b/ ;x/ ;/ ;a=b;c/ %3b/ %3Bx/ /%3b/ \\ /\\ \\/ \\\\ %2f \
    %2F /%2f %2f%2f %252f %252F %25252f %5c %5C %255c %25255C /x/..%2f /x/..%5c /x/..%252f /x/..%c0%af \
    /x/%252e%252e/ /x/%25252e%25252e/ %c0%af %c1%9c %e0%80%af %f0%80%80%af %f8%80%80%80%af %fc%80%80%80%80%af \
    /x/%c0%ae%c0%ae/ /x/%e0%80%ae%e0%80%ae/ /x/%f8%80%80%80%ae%f8%80%80%80%ae/ %ef%bc%8f %EF%BC%8F %25ef%25bc%258f \
    %ef%bc%bc %e2%81%84 %e2%88%95 %e2%88%96 %ef%b9%a8 /x/%ef%bc%8e%ef%bc%8e/ /x/%e2%80%a5/ /x/%ef%b8%b0/ \
    /x/%e2%80%a4%e2%80%a4/ /x/%ef%b9%92%ef%b9%92/ /x/.%e2%80%8b./ /x/%e2%80%8b..%e2%80%8b/ /x/..%c2%ad/ /%e2%80%8b/ \
    /x/%25e2%2580%25a5/ /x/%u002e%u002e/ %u002f %u2215 /%00/ %00/ /x/..%00/ /x/.%00./ %0a/ %0d%0a/ /%09/ /␉/ /␀/ ␠/ \
    +/ /x/..%2500/ %ef%bc%9b/ %cd%be/ %ef%bc%9fx/ %ef%bc%83x/ \u{ff0f} \u{2215} /x/\u{2025}/ .;/ .%3b/ %20/ ./ %2e/";

/// What may stand behind a path.
const ENDS: &str = "\
    / // /// /. /.. /./ /x/.. /x/../ /x/%2e%2e /..;/ /..; /.; . .. ... ./ %2e %2E %2e%2e %252e ␠ %20 %20%20 %20. \
    .%20 %2520 %09 ␉ %00 ␀ %00.html %2500 %2500.html %252500 %0a %0d %0d%0a %250a ␡ %7f ; ;x ;x=1 ;/ ;x/y ;.css \
    ;x.css ;. ;; %3b %3B %3bx %253b ? ?? ?x ?/.. ?; %3f %3F %3fx %253f %253fx %3fx/y # #x #/.. #? %23 %23x %2523 \\ \
    \\.. \\. %5c %5c.. %255c %2f %2f.. %2f%2e%2e %252f /%2f /* * ~ ~1 : %3a ' %27 \" %22 | %7c , ! & = $ @ ^ ` {} \
    [] <> + %2b % %2 %zz %u %c0 %c0%ae %80 %ff %ad %c2%ad %c2%a0 %c2%a0. %e3%80%80 %e2%80%8b %e2%80%8d %ef%bb%bf \
    %e2%80%a4 %e2%80%a5 %e2%80%a6 %ef%bc%8e %ef%bc%8f %ef%bc%9b %ef%bc%9bx %cd%be %ef%bc%9f %ef%bc%9fx %ef%bc%83 \
    %ef%bc%83x %e2%81%87 %ef%bc%85%32%66 %ef%bc%8525 \u{2026} \u{ff0e} \u{e9}";

/// What may stand before a path, an absolute form among them; `HOST` is the host.
const FRONTS: &str = "\
    / // /. /./ /.. /%2e /%2e%2e /%2f %2f %2F /%5c \\ /\\ \\\\ /; /;x /%3b /%20 /%00 %00 ␠ %20 ␉ /%09 /+ /~ /* * ? \
    # /? /# x . .. ./ ../ /public/.. /public/../ /public/%2e%2e /public/%2E%2E /public/.%2e /public/..; \
    /public/..;x /public/..%20 /public/..%00 /public//.. /public/./.. /public\\.. /public/..\\ /public%2f.. \
    /public%2f%2e%2e /public/..%2f /public/..%5c /public%252f.. /public/%252e%252e /public/%25252e%25252e \
    /public/%c0%ae%c0%ae /public/%e0%80%ae%e0%80%ae /public/%ef%bc%8e%ef%bc%8e /public/%e2%80%a5 /public/%ef%b8%b0 \
    /public/.%e2%80%8b. /public/\u{2025} /public;/.. /public?/.. /public#/.. /public%3f/.. /public%23/.. \
    /public%00/.. /public/..%3f /public/%u002e%u002e /x/../public/.. /%2e%2e/public/.. /public/x/../.. /public/;/.. \
    /public/;/../.. //HOST //HOST/ http://HOST HTTP://HOST https://HOST hTTpS://HOST http://HOST/ http://HOST// \
    http://HOST/. http://HOST/public/.. http://HOST/%2e http://HOST:80 http://HOST:443 http://HOST. \
    http://user@HOST http://:@HOST http://@HOST http:// http:/// http:/ http: http:HOST //user@HOST ftp://HOST \
    ws://HOST file:// javascript: http://other http://other@HOST http://HOST\\ http://HOST? http://HOST# \
    http://HOST%2f http://[::1] http://127.0.0.1";

/// The ways to write one character.
const LETTERS: &[(&str, fn(char) -> String)] = &[
    ("hex", |c| encoded(c, false)),
    ("HEX", |c| encoded(c, true)),
    ("twice", |c| encoded(c, false).replace('%', "%25")),
    ("thrice", |c| encoded(c, true).replace('%', "%2525")),
    ("each digit", |c| format!("%{}", encoded(c, false)[1..].chars().map(|d| encoded(d, false)).collect::<String>())),
    ("capital", |c| c.to_ascii_uppercase().to_string()),
    ("capital hex", |c| encoded(c.to_ascii_uppercase(), false)),
    ("full width", |c| octets(wide(c))),
    ("full width raw", |c| wide(c).to_string()),
    ("full width twice", |c| octets(wide(c)).replace('%', "%25")),
    ("bold", |c| octets(shifted(c, 'a', 0x1d41a))),
    ("double struck", |c| octets(shifted(c, 'a', 0x1d552))),
    ("circled", |c| octets(shifted(c, 'a', 0x24d0))),
    ("look-alike", |c| octets(look_alike(c))),
    ("two bytes", |c| format!("%{:02x}%{:02x}", 0xc0 | (u32::from(c) >> 6), 0x80 | (u32::from(c) & 0x3f))),
    ("three bytes", |c| format!("%e0%{:02x}%{:02x}", 0x80 | (u32::from(c) >> 6), 0x80 | (u32::from(c) & 0x3f))),
    ("%u", |c| format!("%u{:04x}", u32::from(c))),
    ("escaped", |c| format!("\\{c}")),
    ("ignorable behind", |c| format!("{c}%e2%80%8c")),
    ("hyphen behind", |c| format!("{c}%c2%ad")),
    ("mark behind", |c| format!("{c}%cc%81")),
    ("nul behind", |c| format!("{c}%00")),
];

fn encoded(c: char, capital: bool) -> String {
    let code = u32::from(c);
    if capital { format!("%{code:02X}") } else { format!("%{code:02x}") }
}

fn octets(c: char) -> String {
    c.to_string().bytes().map(|byte| format!("%{byte:02X}")).collect()
}

fn wide(c: char) -> char {
    char::from_u32(u32::from(c) + 0xfee0).unwrap_or(c)
}

fn shifted(c: char, from: char, to: u32) -> char {
    let other = u32::from(c).checked_sub(u32::from(from)).and_then(|at| char::from_u32(to + at));
    if c.is_ascii_lowercase() { other.unwrap_or(c) } else { wide(c) }
}

/// A character that some backends take for an ASCII letter when they compare without case.
fn look_alike(c: char) -> char {
    match c {
        'i' => '\u{131}',
        's' => '\u{17f}',
        'k' => '\u{212a}',
        'm' => '\u{217f}',
        'a' => '\u{aa}',
        'n' => '\u{207f}',
        'r' => '\u{1d63}',
        'p' => '\u{1d56}',
        'e' => '\u{2091}',
        _ => wide(c),
    }
}

/// A trick: its name, and what becomes of a path, on which another one may have been played before.
type Trick = (String, Box<dyn Fn(&str) -> Option<String>>);

/// All tricks for `path`.
fn tricks(path: &str, host: &str) -> Vec<Trick> {
    let mut all: Vec<Trick> = Vec::new();
    for (at, c) in path.char_indices().skip(1) {
        // Counted from the end: what another trick put in front changes nothing.
        let from_end = path.len() - at;
        let mut put = |name: String, written: String| {
            let put = move |path: &str| {
                let (before, rest) = path.split_at_checked(path.len().checked_sub(from_end)?)?;
                Some(format!("{before}{written}{}", rest.strip_prefix(c)?))
            };
            all.push((name, Box::new(put)));
        };
        if c == '/' {
            words(SLASHES).for_each(|slash| put(format!("slash {from_end} as {slash:?}"), slash));
        } else {
            LETTERS.iter().for_each(|(name, write)| put(format!("{c} {from_end} {name}"), write(c)));
        }
    }
    for (name, write) in LETTERS {
        let each = |c: char| if c == '/' { "/".to_owned() } else { write(c) };
        all.push((format!("all {name}"), Box::new(move |path: &str| Some(path.chars().map(each).collect()))));
    }
    for end in words(ENDS) {
        all.push((format!("end {end:?}"), Box::new(move |path: &str| Some(format!("{path}{end}")))));
    }
    for front in words(FRONTS).map(|front| front.replace("HOST", host)) {
        all.push((format!("front {front:?}"), Box::new(move |path: &str| Some(format!("{front}{path}")))));
    }
    all
}

/// Cases so far, none of them twice.
#[derive(Default)]
struct Cases {
    seen: HashSet<(String, String)>,
    all: Vec<Case>,
}

impl Cases {
    fn add(&mut self, name: String, host: &str, target: String) {
        if self.seen.insert((host.to_owned(), target.clone())) {
            self.all.push(Case {
                name: format!("{name} @ {host}"),
                host: host.to_owned(),
                target: target.into_bytes(),
            });
        }
    }
}

/// Spellings of `paths`, asked of `hosts` in turn: each trick by itself, then pairs until there are `count`.
pub(super) fn spellings(paths: &[&str], hosts: &[&str], count: usize) -> Vec<Case> {
    let mut cases = Cases::default();
    let host = |which: usize| hosts[which % hosts.len()];
    let all: Vec<_> = paths.iter().enumerate().map(|(which, path)| tricks(path, host(which))).collect();
    let mut pairs = Vec::new();
    for (which, path) in paths.iter().enumerate() {
        for host in hosts {
            cases.add(format!("{path} plain"), host, (*path).to_owned());
        }
        for (at, (name, put)) in all[which].iter().enumerate() {
            if let Some(target) = put(path) {
                cases.add(format!("{path} {name}"), host(which + at), target);
            }
        }
        let range = 0..all[which].len();
        pairs.extend(range.clone().flat_map(|first| range.clone().map(move |second| (which, first, second))));
    }
    // A step without a common factor with the length: each pair comes up once, and all kinds of them early.
    let step = (1_000_003..).step_by(2).find(|step| coprime(*step, pairs.len())).unwrap_or(1);
    for turn in 0..pairs.len() {
        if cases.all.len() >= count {
            break;
        }
        let (which, first, second) = pairs[turn * step % pairs.len()];
        let ((one, put), (other, then)) = (&all[which][first], &all[which][second]);
        if let Some(target) = put(paths[which]).and_then(|target| then(&target)) {
            cases.add(format!("{} {one}, {other}", paths[which]), host(which + turn), target);
        }
    }
    cases.all
}

fn coprime(one: usize, other: usize) -> bool {
    if other == 0 { one == 1 } else { coprime(other, one % other) }
}

/// The tricks of a list; white space in them is written in its pictures.
fn words(list: &'static str) -> impl Iterator<Item = String> {
    let real = |word: &str| word.replace('␠', " ").replace('␉', "\t").replace('␀', "\0").replace('␡', "\u{7f}");
    list.split_ascii_whitespace().map(real)
}
