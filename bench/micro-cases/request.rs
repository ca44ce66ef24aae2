//! What a request is: its head, its path and route, its header on the way to the upstream and that of the answer.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};
use portcullis::config::{AccessLog, HeaderRules, Rate};
use portcullis::headers::{self, Forwarding, HeaderPolicy, Peer};
use portcullis::http1::{HeadLimits, HeadReader};
use portcullis::limiter::Limiter;
use portcullis::measured::Names;
use portcullis::path;
use portcullis::route::{RouteTable, host_name};
use portcullis::telemetry::access::{AccessEntry, AccessWriter, Asked, WorkerLog};
use portcullis::telemetry::metrics::Metrics;

use super::case::{Case, How, Work, consuming, repeated};
use super::material::{NOW, config, in_turn, own_token, routes, verifier};

pub(crate) const CASES: &[Case] = &[
    Case::both("head: of curl", || head(curl())),
    Case::both("head: of a browser", || head(browser())),
    Case::both("request id: made", || request_id(&curl())),
    Case::both("request id: the client's", || request_id(&[curl(), vec![("x-request-id", ID.into())]].concat())),
    Case::both("traceparent: made", traceparent),
    Case::both("host: read", || repeated(|| host_name("shop.example.com:8443").map(|name| name.len()))),
    Case::both("path: plain", || judged_path("/orders/2024/11/items/48213")),
    Case::both("path: with a dot and encoded", || judged_path("/orders/k%C3%A4se/photo.v2.jpg")),
    Case::both("route: the only one", || route(one_route(), "shop.example.com", "/orders/17")),
    Case::both("route: one of 10,000 paths", || route(paths(), "shop.example.com", "/team-1234/service-5/orders/17")),
    Case::both("route: one of 10,000 hosts", || route(hosts(""), "h1234.example.com", "/orders/17")),
    Case::both("route: one of 10,000 wildcards", || route(hosts("*."), "a.h1234.example.com", "/orders/17")),
    Case::both("limit: a client known", limit_known),
    Case::both("limit: a client new, others forgotten", limit_new),
    Case::both("header to the upstream: of curl", || to_upstream(curl(), false)),
    Case::both("header to the upstream: of a browser", || to_upstream(browser(), false)),
    Case::both("header to the upstream: of a browser, HTTP/2", || to_upstream(browser(), true)),
    Case::both("header to the client: short", || to_client(&answer())),
    Case::both("header to the client: long", || to_client(&long_answer())),
    Case::both("access log: nothing written", || access(AccessLog::Off)),
    Case { name: "access log: a line", how: How::Counted, prepare: || access(AccessLog::All) },
];

const AGENT: &str = "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) \
                     Chrome/142.0.0.0 Safari/537.36";
const ID: &str = "7d1f8a52-5e0c-4a55-9d5a-0b8f8a5f0c11";

type Fields = Vec<(&'static str, String)>;

fn fields(fields: &[(&'static str, &str)]) -> Fields {
    fields.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
}

fn curl() -> Fields {
    fields(&[
        ("host", "shop.example.com"),
        ("user-agent", "curl/8.14.1"),
        ("accept", "*/*"),
        ("authorization", &format!("Bearer {}", own_token(0))),
    ])
}

fn browser() -> Fields {
    fields(&[
        ("host", "shop.example.com"),
        ("connection", "keep-alive"),
        ("sec-ch-ua-platform", "\"Windows\""),
        ("authorization", &format!("Bearer {}", own_token(0))),
        ("user-agent", AGENT),
        ("accept", "application/json, text/plain, */*"),
        ("sec-ch-ua", "\"Chromium\";v=\"142\", \"Google Chrome\";v=\"142\", \"Not_A Brand\";v=\"99\""),
        ("sec-ch-ua-mobile", "?0"),
        ("origin", "https://www.example.com"),
        ("sec-fetch-site", "same-site"),
        ("sec-fetch-mode", "cors"),
        ("sec-fetch-dest", "empty"),
        ("referer", "https://www.example.com/orders?page=2"),
        ("accept-encoding", "gzip, deflate, br, zstd"),
        ("accept-language", "en-GB,en;q=0.9,de;q=0.8"),
        ("cookie", "_ga=GA1.1.1234567890.1730000000"),
        ("cookie", "consent=all"),
        ("cookie", "theme=dark"),
        ("if-none-match", "W/\"5f-1cZkqv2\""),
    ])
}

fn answer() -> Fields {
    fields(&[
        ("server", "nginx/1.22.1"),
        ("date", "Thu, 26 Nov 2026 18:30:07 GMT"),
        ("content-type", "application/json"),
        ("content-length", "98"),
        ("connection", "keep-alive"),
    ])
}

fn long_answer() -> Fields {
    let more = fields(&[
        ("keep-alive", "timeout=60"),
        ("vary", "Accept-Encoding, Origin"),
        ("cache-control", "private, max-age=0, must-revalidate"),
        ("etag", "W/\"5f-1cZkqv2\""),
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "SAMEORIGIN"),
        ("content-security-policy", "default-src 'none'; frame-ancestors 'none'"),
        ("strict-transport-security", "max-age=63072000; includeSubDomains"),
        ("referrer-policy", "no-referrer"),
        ("x-powered-by", "Express"),
        ("set-cookie", "theme=dark; Path=/; Secure; SameSite=Lax"),
        ("set-cookie", "consent=all; Path=/; Secure; SameSite=Lax"),
    ]);
    [answer(), more].concat()
}

fn header_map(fields: &[(&'static str, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in fields {
        map.append(HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"));
    }
    map
}

fn head(fields: Fields) -> Box<dyn Work> {
    let mut bytes = String::from("GET /orders/2024/11/items/48213?expand=lines HTTP/1.1\r\n");
    // Over HTTP/1.1 a cookie is in one piece.
    let (cookies, others): (Fields, Fields) = fields.into_iter().partition(|(name, _)| *name == "cookie");
    for (name, value) in others {
        bytes.push_str(&format!("{name}: {value}\r\n"));
    }
    if !cookies.is_empty() {
        let pieces: Vec<String> = cookies.into_iter().map(|(_, value)| value).collect();
        bytes.push_str(&format!("cookie: {}\r\n", pieces.join("; ")));
    }
    bytes.push_str("\r\n");
    let limits = HeadLimits::default();
    repeated(move || HeadReader::default().read(bytes.as_bytes(), &limits).expect("well formed").expect("complete"))
}

fn request_id(fields: &[(&'static str, String)]) -> Box<dyn Work> {
    let (names, map) = (Names::new([7; 16]), header_map(fields));
    repeated(move || names.request_id(&map))
}

fn traceparent() -> Box<dyn Work> {
    let (names, map) = (Names::new([7; 16]), header_map(&curl()));
    consuming(
        move || map.clone(),
        move |mut map| {
            names.ensure_traceparent(&mut map);
            map
        },
    )
}

fn judged_path(path: &'static str) -> Box<dyn Work> {
    repeated(move || path::judge(path).expect("canonical"))
}

fn one_route() -> RouteTable {
    routes("[[route]]\npath = \"/\"\nupstream = \"u\"\n")
}

fn paths() -> RouteTable {
    let all =
        (0..10_000).map(|n| format!("[[route]]\npath = \"/team-{}/service-{}\"\nupstream = \"u\"\n", n / 8, n % 8));
    routes(&all.collect::<String>())
}

fn hosts(before: &str) -> RouteTable {
    let all = (0..10_000)
        .map(|n| format!("[[route]]\nhost = \"{before}h{n}.example.com\"\npath = \"/\"\nupstream = \"u\"\n"));
    routes(&all.collect::<String>())
}

fn route(table: RouteTable, host: &'static str, path: &'static str) -> Box<dyn Work> {
    repeated(move || table.find(host, path, &Method::GET).expect("there is a route").index())
}

fn limiter() -> Limiter {
    Limiter::new(Some(Rate { count: 1_000_000.try_into().expect("not zero"), period: Duration::from_secs(1) }))
}

fn client(number: u32) -> IpAddr {
    Ipv4Addr::from(0x0a00_0000 + number).into()
}

fn limit_known() -> Box<dyn Work> {
    let (limiter, now) = (limiter(), Instant::now());
    assert!((0..1000).all(|number| limiter.take(client(number), now).is_ok()));
    consuming(in_turn((0..1000).map(client).collect()), move |client| limiter.take(client, now).is_ok())
}

/// As many are known as may be.
fn limit_new() -> Box<dyn Work> {
    let (limiter, now) = (limiter(), Instant::now());
    assert!((0..200_000).all(|number| limiter.take(client(number), now).is_ok()));
    let mut number = 200_000;
    consuming(
        move || {
            number += 1;
            client(number)
        },
        move |client| limiter.take(client, now).is_ok(),
    )
}

fn to_upstream(fields: Fields, http2: bool) -> Box<dyn Work> {
    let name = HeaderName::from_static;
    let policy = HeaderPolicy::new(name("x-user-id"), name("x-session-id"), Vec::new());
    let peer = Peer::new(client(7), false, true);
    let (rules, host) = (HeaderRules::default(), HeaderValue::from_static("shop.example.com"));
    let identity = verifier().verify(&own_token(0), NOW).expect("a good token");
    let map = header_map(&fields);
    consuming(
        move || map.clone(),
        move |mut map| {
            let forwarding = Forwarding {
                peer: &peer,
                forward_token: false,
                restricts_methods: false,
                http2,
                stripped: None,
                rules: &rules,
                identity: Some(&identity),
            };
            headers::to_upstream(&mut map, &policy, &host, &forwarding);
            map
        },
    )
}

fn to_client(fields: &[(&'static str, String)]) -> Box<dyn Work> {
    let map = header_map(fields);
    consuming(
        move || map.clone(),
        |mut map| {
            headers::settle_framing(&mut map).expect("well framed");
            headers::to_client(&mut map);
            headers::keep_private(&mut map);
            map
        },
    )
}

fn access(what: AccessLog) -> Box<dyn Work> {
    let mut log = config("[[route]]\npath = \"/\"\nupstream = \"u\"\n").log;
    log.access = what;
    let writer = AccessWriter::start(&log).expect("a thread can be started");
    let metrics = Metrics::new(1, vec!["shop".into()], Vec::new(), Arc::default());
    let log: Rc<WorkerLog> = writer.sender().worker(metrics.worker(0), vec!["shop".into()]);
    let mut builder = http::Request::builder().uri("/orders/2024/11/items/48213?expand=lines");
    for (name, value) in curl() {
        builder = builder.header(name, value);
    }
    let (parts, ()) = builder.body(()).expect("a request").into_parts();
    let id = HeaderValue::from_static(ID);
    repeated(move || {
        let mut entry = AccessEntry::begin(Rc::clone(&log), client(7), Asked::of(&parts), id.clone());
        entry.status = Some(StatusCode::OK);
        entry.upstream_time = Some(Duration::from_micros(731));
        entry.sent = 98;
    })
}
