//! The cases: a `|` stands between the lines of a request, and between fields that arrive.

/// What becomes of a case.
#[derive(Clone, Debug)]
pub(super) enum Expect {
    /// It arrives with these fields beside the usual ones.
    Kept(&'static str),
    /// The client gets this status.
    Refused(u16),
    /// The stream or the connection ends.
    Broken,
}

/// Where and how a case is sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum On {
    Both,
    Http1,
    Http2,
    /// HTTP/1.1, without the usual `Host`.
    OwnHost,
    /// Both, with each letter as one byte.
    Latin1,
}

/// A request with some lines in its header.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    pub(super) lines: &'static str,
    /// How often each line is there.
    pub(super) times: usize,
    /// It comes from a trusted proxy.
    pub(super) from_proxy: bool,
    pub(super) on: On,
    pub(super) expect: Expect,
    /// Over HTTP/2, where that is something else.
    pub(super) http2: Option<Expect>,
}

const fn case(name: &'static str, lines: &'static str, expect: Expect) -> Case {
    Case { name, path: "/public", lines, times: 1, from_proxy: false, on: On::Both, expect, http2: None }
}

const fn dropped(name: &'static str, lines: &'static str) -> Case {
    Case { path: "/", ..case(name, lines, Expect::Kept("")) }
}

const fn kept(name: &'static str, lines: &'static str, kept: &'static str) -> Case {
    case(name, lines, Expect::Kept(kept))
}

const fn refused(name: &'static str, lines: &'static str, status: u16) -> Case {
    case(name, lines, Expect::Refused(status))
}

/// Behind a proxy that is trusted.
const fn proxied(name: &'static str, lines: &'static str, kept: &'static str) -> Case {
    Case { from_proxy: true, ..case(name, lines, Expect::Kept(kept)) }
}

/// Fields of which nothing arrives.
pub(super) const DROPPED: &[Case] = &[
    dropped("identity X-User-Id", "X-User-Id: root"),
    dropped("identity x-user-id", "x-user-id: root"),
    dropped("identity X-USER-ID", "X-USER-ID: root"),
    dropped("identity x-UsEr-iD", "x-UsEr-iD: root"),
    dropped("identity X_User_Id", "X_User_Id: root"),
    dropped("identity X-User_Id", "X-User_Id: root"),
    dropped("identity x_user-id", "x_user-id: root"),
    dropped("identity X.User.Id", "X.User.Id: root"),
    dropped("identity X-User.Id", "X-User.Id: root"),
    dropped("identity X~User~Id", "X~User~Id: root"),
    dropped("identity X'User'Id", "X'User'Id: root"),
    dropped("identity X*User*Id", "X*User*Id: root"),
    dropped("identity X!User!Id", "X!User!Id: root"),
    dropped("identity X#User#Id", "X#User#Id: root"),
    dropped("identity X$User$Id", "X$User$Id: root"),
    dropped("identity X%User%Id", "X%User%Id: root"),
    dropped("identity X&User&Id", "X&User&Id: root"),
    dropped("identity X+User+Id", "X+User+Id: root"),
    dropped("identity X^User^Id", "X^User^Id: root"),
    dropped("identity X`User`Id", "X`User`Id: root"),
    dropped("identity X|User|Id", "X{pipe}User{pipe}Id: root"),
    dropped("identity X-User-Id_", "X-User-Id_: root"),
    dropped("identity X-User-Id.", "X-User-Id.: root"),
    dropped("identity _X-User-Id", "_X-User-Id: root"),
    dropped("identity X-User-Id~", "X-User-Id~: root"),
    dropped("identity X-Session-Id", "X-Session-Id: root"),
    dropped("identity x-session-id", "x-session-id: root"),
    dropped("identity X-SESSION-ID", "X-SESSION-ID: root"),
    dropped("identity X_Session_Id", "X_Session_Id: root"),
    dropped("identity X-Session_Id", "X-Session_Id: root"),
    dropped("identity X.Session.Id", "X.Session.Id: root"),
    dropped("identity X-Roles", "X-Roles: root"),
    dropped("identity x-roles", "x-roles: root"),
    dropped("identity X_Roles", "X_Roles: root"),
    dropped("identity X.Roles", "X.Roles: root"),
    dropped("identity twice", "X-User-Id: root|X-User-Id: admin"),
    dropped("identity in two spellings", "X-User-Id: root|X_User_Id: admin|x-user-ID: boss"),
    dropped("identity and its session", "X-User-Id: root|X-Session-Id: s1"),
    dropped("identity without a value", "X-User-Id"),
    dropped("identity as a list", "X-User-Id: root, admin"),
    dropped("identity of eight KiB", "X-User-Id: {8k}"),
    dropped("identity percent-encoded", "X-User-Id: %72oot"),
    dropped("identity with a tab", "X-User-Id: ro\u{9}ot"),
    Case { on: On::Latin1, ..dropped("identity with bytes of Latin-1", "X-User-Id: r\u{f6}\u{f6}t") },
    dropped("identity in full width", "X-User-Id: \u{ff52}\u{ff4f}\u{ff4f}\u{ff54}"),
    dropped(
        "identity of many words",
        "X-User-Id: root root root root root root root root root root root root root root root x",
    ),
    dropped("claim X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 1.1.1.1"),
    dropped("claim X-Forwarded-For: 127.0.0.1", "X-Forwarded-For: 127.0.0.1"),
    dropped("claim X-Forwarded-For: ::1, [::1]:80, unknown", "X-Forwarded-For: ::1, [::1]:80, unknown"),
    dropped("claim X-Forwarded-For: garbage;drop", "X-Forwarded-For: garbage;drop"),
    dropped("claim X-Forwarded-Proto: https", "X-Forwarded-Proto: https"),
    dropped("claim X-Forwarded-Host: evil.example", "X-Forwarded-Host: evil.example"),
    dropped(
        "claim Forwarded: for=1.1.1.1;host=evil.example;proto=https",
        "Forwarded: for=1.1.1.1;host=evil.example;proto=https",
    ),
    dropped("claim Forwarded: for='[2001:db8::1]:80'", "Forwarded: for=\"[2001:db8::1]:80\""),
    dropped("claim Forwarded: for='_gazonk", "Forwarded: for=\"_gazonk"),
    dropped("claim Forwarded: garbage", "Forwarded: garbage"),
    dropped("claim X-Forwarded-Uri: /public", "X-Forwarded-Uri: /public"),
    dropped("claim X-Forwarded-Prefix: /admin", "X-Forwarded-Prefix: /admin"),
    dropped("claim X-Forwarded-Method: GET", "X-Forwarded-Method: GET"),
    dropped("claim X-Forwarded-Server: x", "X-Forwarded-Server: x"),
    dropped("claim X-Forwarded-Port: 1", "X-Forwarded-Port: 1"),
    dropped("claim X-Forwarded-User: root", "X-Forwarded-User: root"),
    dropped("claim X-Forwarded-Email: root@localhost", "X-Forwarded-Email: root@localhost"),
    dropped("claim X-Forwarded-Groups: wheel", "X-Forwarded-Groups: wheel"),
    dropped("claim X-Forwarded-Access-Token: t", "X-Forwarded-Access-Token: t"),
    dropped("claim X-Forwarded-Preferred-Username: root", "X-Forwarded-Preferred-Username: root"),
    dropped("claim X-Forwarded-Ssl: on", "X-Forwarded-Ssl: on"),
    dropped("claim X-Forwarded-Scheme: https", "X-Forwarded-Scheme: https"),
    dropped("claim X-Forwarded-Path: /admin", "X-Forwarded-Path: /admin"),
    dropped("claim X-Forwarded-Anything: at all", "X-Forwarded-Anything: at all"),
    dropped("claim X_Forwarded_For: 1.1.1.1", "X_Forwarded_For: 1.1.1.1"),
    dropped("claim X-Forwarded_Host: evil.example", "X-Forwarded_Host: evil.example"),
    dropped("claim X_Forwarded_Uri: /admin", "X_Forwarded_Uri: /admin"),
    dropped("claim X-Original-URL: /admin", "X-Original-URL: /admin"),
    dropped("claim X-Original-Uri: /admin", "X-Original-Uri: /admin"),
    dropped("claim X-Original-Method: DELETE", "X-Original-Method: DELETE"),
    dropped("claim X-Original-Host: evil.example", "X-Original-Host: evil.example"),
    dropped("claim X-Original-Forwarded-For: 1.1.1.1", "X-Original-Forwarded-For: 1.1.1.1"),
    dropped("claim X_Original_Url: /admin", "X_Original_Url: /admin"),
    dropped("claim X-Rewrite-URL: /admin", "X-Rewrite-URL: /admin"),
    dropped("claim X-Rewrite-Uri: /admin", "X-Rewrite-Uri: /admin"),
    dropped("claim X-Real-IP: 1.1.1.1", "X-Real-IP: 1.1.1.1"),
    dropped("claim X-Client-IP: 1.1.1.1", "X-Client-IP: 1.1.1.1"),
    dropped("claim X-Cluster-Client-IP: 1.1.1.1", "X-Cluster-Client-IP: 1.1.1.1"),
    dropped("claim True-Client-IP: 1.1.1.1", "True-Client-IP: 1.1.1.1"),
    dropped("claim Client-IP: 1.1.1.1", "Client-IP: 1.1.1.1"),
    dropped("claim CF-Connecting-IP: 1.1.1.1", "CF-Connecting-IP: 1.1.1.1"),
    dropped("claim Fastly-Client-IP: 1.1.1.1", "Fastly-Client-IP: 1.1.1.1"),
    dropped("claim Fly-Client-IP: 1.1.1.1", "Fly-Client-IP: 1.1.1.1"),
    dropped("claim X-Azure-ClientIP: 1.1.1.1", "X-Azure-ClientIP: 1.1.1.1"),
    dropped("claim X-Azure-SocketIP: 1.1.1.1", "X-Azure-SocketIP: 1.1.1.1"),
    dropped("claim X-ProxyUser-Ip: 1.1.1.1", "X-ProxyUser-Ip: 1.1.1.1"),
    dropped("claim WL-Proxy-Client-IP: 1.1.1.1", "WL-Proxy-Client-IP: 1.1.1.1"),
    dropped("claim Proxy-Client-IP: 1.1.1.1", "Proxy-Client-IP: 1.1.1.1"),
    dropped("claim X-Envoy-Original-Path: /admin", "X-Envoy-Original-Path: /admin"),
    dropped("claim X-Envoy-Internal: true", "X-Envoy-Internal: true"),
    dropped("claim X-Envoy-External-Address: 1.1.1.1", "X-Envoy-External-Address: 1.1.1.1"),
    dropped("claim X-Envoy-Retry-On: 5xx", "X-Envoy-Retry-On: 5xx"),
    dropped("claim X-Envoy-Upstream-Rq-Timeout-Ms: 1", "X-Envoy-Upstream-Rq-Timeout-Ms: 1"),
    dropped("claim X-Envoy-Decorator-Operation: x", "X-Envoy-Decorator-Operation: x"),
    dropped("claim X-Accel-Redirect: /etc/passwd", "X-Accel-Redirect: /etc/passwd"),
    dropped("claim X-Accel-Mapping: /=/etc/", "X-Accel-Mapping: /=/etc/"),
    dropped("claim X-Accel-Buffering: no", "X-Accel-Buffering: no"),
    dropped("claim X-Sendfile: /etc/passwd", "X-Sendfile: /etc/passwd"),
    dropped("claim X-Sendfile-Type: X-Accel-Redirect", "X-Sendfile-Type: X-Accel-Redirect"),
    dropped("claim X-Host: evil.example", "X-Host: evil.example"),
    dropped("claim X-HTTP-Host-Override: evil.example", "X-HTTP-Host-Override: evil.example"),
    dropped("claim X-Middleware-Subrequest: middleware:middleware", "X-Middleware-Subrequest: middleware:middleware"),
    dropped("claim Proxy: http://evil.example", "Proxy: http://evil.example"),
    dropped("claim Proxy-Authorization: Basic eDp5", "Proxy-Authorization: Basic eDp5"),
    dropped("claim Proxy-Authenticate: Basic", "Proxy-Authenticate: Basic"),
    dropped("claim Expect: 100-continue", "Expect: 100-continue"),
    dropped("claim HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"),
    dropped(
        "claim Trailer: X-User-Id, X_Session_Id, Host, Content-Length",
        "Trailer: X-User-Id, X_Session_Id, Host, Content-Length",
    ),
    Case { path: "/public", ..dropped("claim Authorization: Basic eDp5", "Authorization: Basic eDp5") },
    Case { http2: Some(Expect::Broken), ..dropped("hop Connection: close", "Connection: close") },
    Case { http2: Some(Expect::Broken), ..dropped("hop Connection: keep-alive", "Connection: keep-alive") },
    Case { http2: Some(Expect::Broken), ..dropped("hop Connection: X-User-Id", "Connection: X-User-Id") },
    Case {
        http2: Some(Expect::Broken),
        ..dropped("hop Connection: x-user-id, X-SESSION-ID", "Connection: x-user-id, X-SESSION-ID")
    },
    Case {
        http2: Some(Expect::Broken),
        ..dropped(
            "hop Connection: X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, Forwarded",
            "Connection: X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto, Forwarded",
        )
    },
    Case {
        http2: Some(Expect::Broken),
        ..dropped("hop Connection: Via, X-Request-Id, traceparent", "Connection: Via, X-Request-Id, traceparent")
    },
    Case { http2: Some(Expect::Broken), ..dropped("hop Connection: Host", "Connection: Host") },
    Case { http2: Some(Expect::Broken), ..dropped("hop Connection: Content-Length", "Connection: Content-Length") },
    Case {
        http2: Some(Expect::Broken),
        ..dropped("hop Connection: Transfer-Encoding", "Connection: Transfer-Encoding")
    },
    Case {
        http2: Some(Expect::Broken),
        ..dropped("hop Connection: Authorization, Cookie", "Connection: Authorization, Cookie")
    },
    Case { http2: Some(Expect::Broken), ..dropped("hop Connection: aUtHoRiZaTiOn", "Connection: aUtHoRiZaTiOn") },
    Case { http2: Some(Expect::Broken), ..dropped("hop Connection: connection", "Connection: connection") },
    Case { http2: Some(Expect::Broken), ..dropped("hop Connection: ,,, ,", "Connection: ,,, ,") },
    Case { http2: Some(Expect::Broken), ..dropped("hop Connection: 'x-user-id'", "Connection: \"x-user-id\"") },
    Case { http2: Some(Expect::Broken), ..dropped("hop Connection: x-user-id;q=1", "Connection: x-user-id;q=1") },
    Case { http2: Some(Expect::Broken), ..dropped("hop Connection: *", "Connection: *") },
    Case {
        http2: Some(Expect::Broken),
        ..dropped(
            "hop Connection: close, x-user-id|Connection: x-session-id",
            "Connection: close, x-user-id|Connection: x-session-id",
        )
    },
    Case {
        http2: Some(Expect::Broken),
        ..dropped("hop Connection: X-Private|X-Private: 1", "Connection: X-Private|X-Private: 1")
    },
    Case {
        http2: Some(Expect::Broken),
        ..dropped(
            "hop Connection: x-private|X-PRIVATE: 1|X-Private: 2",
            "Connection: x-private|X-PRIVATE: 1|X-Private: 2",
        )
    },
    Case {
        http2: Some(Expect::Broken),
        ..dropped(
            "hop Connection: X-Private|Connection: X-Other|X-Private: 1|X-Other: 2",
            "Connection: X-Private|Connection: X-Other|X-Private: 1|X-Other: 2",
        )
    },
    Case {
        http2: Some(Expect::Broken),
        ..dropped("hop Keep-Alive: timeout=1000, max=1000", "Keep-Alive: timeout=1000, max=1000")
    },
    Case { http2: Some(Expect::Broken), ..dropped("hop Proxy-Connection: X-User-Id", "Proxy-Connection: X-User-Id") },
    Case { http2: Some(Expect::Broken), ..dropped("hop Proxy-Connection: keep-alive", "Proxy-Connection: keep-alive") },
    Case { http2: Some(Expect::Broken), ..dropped("hop Upgrade: h2c", "Upgrade: h2c") },
    Case { http2: Some(Expect::Broken), ..dropped("hop Upgrade: websocket", "Upgrade: websocket") },
    Case {
        http2: Some(Expect::Broken),
        ..dropped(
            "hop Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
            "Connection: Upgrade, HTTP2-Settings|Upgrade: h2c|HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
        )
    },
    Case {
        http2: Some(Expect::Broken),
        ..dropped("hop Connection: Upgrade|Upgrade: TLS/1.3", "Connection: Upgrade|Upgrade: TLS/1.3")
    },
    Case {
        http2: Some(Expect::Broken),
        ..dropped("hop Connection: upgrade|Upgrade: HTTP/2.0", "Connection: upgrade|Upgrade: HTTP/2.0")
    },
    Case { http2: Some(Expect::Broken), ..dropped("hop TE: gzip", "TE: gzip") },
    Case { http2: Some(Expect::Broken), ..dropped("hop TE: chunked;q=0.5, deflate", "TE: chunked;q=0.5, deflate") },
    Case {
        path: "/read",
        ..dropped("override where some may X-HTTP-Method-Override: DELETE", "X-HTTP-Method-Override: DELETE")
    },
    Case { path: "/read", ..dropped("override where some may X-HTTP-Method: DELETE", "X-HTTP-Method: DELETE") },
    Case { path: "/read", ..dropped("override where some may X-Method-Override: DELETE", "X-Method-Override: DELETE") },
    Case {
        path: "/read",
        ..dropped("override where some may x-http-method-override: PUT", "x-http-method-override: PUT")
    },
    dropped("override folded X_HTTP_Method_Override: DELETE", "X_HTTP_Method_Override: DELETE"),
    dropped("override folded X-HTTP_Method: DELETE", "X-HTTP_Method: DELETE"),
];

/// Fields that arrive, as they are or as they must be, and what else there is.
pub(super) const KEPT: &[Case] = &[
    kept("another name X-UserId", "X-UserId: 1", "x-userid: 1"),
    kept("another name XUser-Id", "XUser-Id: 1", "xuser-id: 1"),
    kept("another name X-User-Ids", "X-User-Ids: 1", "x-user-ids: 1"),
    kept("another name X-User-Id2", "X-User-Id2: 1", "x-user-id2: 1"),
    kept("another name X-User--Id", "X-User--Id: 1", "x-user--id: 1"),
    kept("another name X--User-Id", "X--User-Id: 1", "x--user-id: 1"),
    kept("another name My-X-User-Id", "My-X-User-Id: 1", "my-x-user-id: 1"),
    kept("another name X-Sessions-Id", "X-Sessions-Id: 1", "x-sessions-id: 1"),
    kept("another name X-Role", "X-Role: 1", "x-role: 1"),
    kept("another name X-User-Id-", "X-User-Id-: 1", "x-user-id-: 1"),
    kept("cookie", "Cookie: a=b; c=d", "cookie: a=b; c=d"),
    Case { times: 101, on: On::Http2, ..kept("a cookie in a hundred pieces", "Cookie: a=b", "cookie: {cookies}") },
    Case {
        http2: Some(Expect::Kept("cookie: a=b; c=d")),
        ..kept("cookies in pieces", "Cookie: a=b|Cookie: c=d", "cookie: a=b|cookie: c=d")
    },
    kept("many ranges", "Range: {ranges}", "range: {ranges}"),
    kept(
        "overlapping ranges",
        "Range: bytes=0-,0-,0-,0-18446744073709551615,5-0",
        "range: bytes=0-,0-,0-,0-18446744073709551615,5-0",
    ),
    kept("two ranges", "Range: bytes=0-1|Range: bytes=2-3", "range: bytes=0-1|range: bytes=2-3"),
    kept("lists in two fields", "Accept: a/b|Accept: c/d", "accept: a/b|accept: c/d"),
    kept("odd accept encoding", "Accept-Encoding: gzip;q=0,*;q=-1,\\", "accept-encoding: gzip;q=0,*;q=-1,\\"),
    Case { on: On::Latin1, ..kept("bytes that are no UTF-8", "X-Name: a\u{e9}b", "x-name: a\u{fffd}b") },
    kept("a value of UTF-8", "X-Name: caf\u{e9}", "x-name: caf\u{e9}"),
    kept("a value with tabs", "X-Name: a\u{9}b", "x-name: a\u{9}b"),
    kept("an empty value", "X-Name", "x-name"),
    kept("a value of eight KiB", "X-Name: {8k}", "x-name: {8k}"),
    Case { on: On::Http1, ..kept("space around a value", "X-Name:    a b   ", "x-name: a b") },
    kept("a body that is empty", "Content-Length: 0", "content-length: 0"),
    kept("trailers are taken", "TE: trailers", "te: trailers|connection: te"),
    Case {
        http2: Some(Expect::Broken),
        ..kept("trailers among codings", "TE: deflate, trailers", "te: trailers|connection: te")
    },
    Case {
        http2: Some(Expect::Broken),
        ..kept("te named in connection", "TE: trailers|Connection: TE", "te: trailers|connection: te")
    },
    kept("a trailer is announced", "Trailer: X-Sum, X-User-Id", "trailer: X-Sum"),
    kept("a request id", "X-Request-Id: abc-1", "x-request-id: abc-1"),
    kept("a request id with a space", "X-Request-Id: a b", ""),
    kept("a request id with a quote", "X-Request-Id: a\"b", ""),
    kept("a request id with a comma", "X-Request-Id: a,b", ""),
    kept("a request id of two hundred bytes", "X-Request-Id: {200}", ""),
    kept("a request id that is empty", "X-Request-Id", ""),
    kept("a request id in full width", "X-Request-Id: \u{ff41}", ""),
    kept("a request id with braces", "X-Request-Id: {\"a\":1}", ""),
    kept("a request id with a semicolon", "X-Request-Id: a;b", ""),
    kept("a request id with a line end spelled out", "X-Request-Id: a%0d%0ab: c", ""),
    kept("a request id with a backslash", "X-Request-Id: a\\nb", ""),
    kept("two request ids", "X-Request-Id: a|X-Request-Id: b", ""),
    kept("a trace", "Traceparent: {trace}", "traceparent: {trace}"),
    kept("a trace with its state", "Traceparent: {trace}|Tracestate: a=1", "traceparent: {trace}|tracestate: a=1"),
    kept(
        "a trace of zeros",
        "Traceparent: 00-00000000000000000000000000000000-00f067aa0ba902b7-01|Tracestate: a=1",
        "",
    ),
    kept(
        "a trace of version ff",
        "Traceparent: ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01|Tracestate: a=1",
        "",
    ),
    kept(
        "a trace in capital letters",
        "Traceparent: 00-4BF92F3577B34DA6A3CE929D0E0E4736-00F067AA0BA902B7-01|Tracestate: a=1",
        "",
    ),
    kept(
        "a trace that is too short",
        "Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0|Tracestate: a=1",
        "",
    ),
    kept("a trace that goes on", "Traceparent: {trace}-x|Tracestate: a=1", ""),
    kept("a trace that is empty", "Traceparent|Tracestate: a=1", ""),
    kept("two traces", "Traceparent: {trace}|Traceparent: {trace}", ""),
    kept("via of others", "Via: 1.0 fred, 1.1 p.example", "via: 1.0 fred, 1.1 p.example|via: {via} portcullis"),
    kept("via of ours", "Via: 1.1 portcullis", "via: 1.1 portcullis|via: {via} portcullis"),
    Case { path: "/token", ..kept("a token that goes on", "X-A: 1", "x-a: 1|authorization: Bearer {token}") },
    Case {
        path: "/token",
        http2: Some(Expect::Broken),
        ..kept("a token named in connection", "Connection: Authorization", "")
    },
    kept(
        "override where all methods may X-HTTP-Method-Override: DELETE",
        "X-HTTP-Method-Override: DELETE",
        "x-http-method-override: DELETE",
    ),
    kept("override where all methods may X-HTTP-Method: DELETE", "X-HTTP-Method: DELETE", "x-http-method: DELETE"),
    kept(
        "override where all methods may X-Method-Override: DELETE",
        "X-Method-Override: DELETE",
        "x-method-override: DELETE",
    ),
    kept(
        "override where all methods may x-http-method-override: PUT",
        "x-http-method-override: PUT",
        "x-http-method-override: PUT",
    ),
    kept("a query is left alone", "X-A: 1", "x-a: 1"),
    Case { on: On::Http2, ..kept("host said twice the same", "Host: localhost", "") },
    proxied("proxy: a chain", "X-Forwarded-For: 6.6.6.6, 1.2.3.4", "x-forwarded-for: 6.6.6.6, 1.2.3.4, 127.0.0.1"),
    proxied(
        "proxy: a chain in two fields",
        "X-Forwarded-For: 6.6.6.6|X-Forwarded-For: 1.2.3.4",
        "x-forwarded-for: 6.6.6.6, 1.2.3.4, 127.0.0.1",
    ),
    proxied(
        "proxy: ipv6 with a port",
        "X-Forwarded-For: [2001:db8::1]:443",
        "x-forwarded-for: [2001:db8::1]:443, 127.0.0.1",
    ),
    proxied("proxy: garbage in the chain", "X-Forwarded-For: unknown, \\", "x-forwarded-for: unknown, \\, 127.0.0.1"),
    proxied(
        "proxy: scheme and host",
        "X-Forwarded-Proto: https|X-Forwarded-Host: shop.example",
        "x-forwarded-proto: https|x-forwarded-host: shop.example",
    ),
    proxied("proxy: two schemes", "X-Forwarded-Proto: https|X-Forwarded-Proto: http", ""),
    proxied("proxy: two hosts", "X-Forwarded-Host: a|X-Forwarded-Host: b", ""),
    proxied(
        "proxy: forwarded",
        "Forwarded: for=1.2.3.4;proto=https",
        "forwarded: for=1.2.3.4;proto=https|forwarded: for=127.0.0.1;proto=http",
    ),
    proxied(
        "proxy: forwarded in quotes",
        "Forwarded: for=\"[2001:db8::1]:80\", for=unknown",
        "forwarded: for=\"[2001:db8::1]:80\", for=unknown|forwarded: for=127.0.0.1;proto=http",
    ),
    proxied(
        "proxy: forwarded that is garbage",
        "Forwarded: for=\"",
        "forwarded: for=\"|forwarded: for=127.0.0.1;proto=http",
    ),
    proxied(
        "proxy: what edges say",
        "CF-Connecting-IP: 1.2.3.4|X-Envoy-External-Address: 1.2.3.4",
        "cf-connecting-ip: 1.2.3.4|x-envoy-external-address: 1.2.3.4",
    ),
    proxied("proxy: still not X-User-Id: root", "X-User-Id: root", ""),
    proxied("proxy: still not X_User_Id: root", "X_User_Id: root", ""),
    proxied("proxy: still not X-Roles: a", "X-Roles: a", ""),
    proxied("proxy: still not X-Forwarded-User: root", "X-Forwarded-User: root", ""),
    proxied("proxy: still not X-Forwarded-Uri: /admin", "X-Forwarded-Uri: /admin", ""),
    proxied("proxy: still not X-Forwarded-Prefix: /a", "X-Forwarded-Prefix: /a", ""),
    proxied("proxy: still not X-Original-URL: /admin", "X-Original-URL: /admin", ""),
    proxied("proxy: still not X-Rewrite-URL: /admin", "X-Rewrite-URL: /admin", ""),
    proxied("proxy: still not X-Real-IP: 1.1.1.1", "X-Real-IP: 1.1.1.1", ""),
    proxied("proxy: still not X_Forwarded_For: 1.1.1.1", "X_Forwarded_For: 1.1.1.1", ""),
    proxied("proxy: still not X-Sendfile-Type: x", "X-Sendfile-Type: x", ""),
    Case {
        http2: Some(Expect::Broken),
        ..proxied("proxy: still hop by hop", "Connection: X-User-Id, X-Forwarded-For|X-Forwarded-For: 1.2.3.4", "")
    },
];

/// What is refused with a status, or ended.
pub(super) const REFUSED: &[Case] = &[
    refused("two hosts", "Host: a", 400),
    Case { on: On::OwnHost, ..refused("host with a user", "Host: u@localhost", 400) },
    Case { on: On::OwnHost, ..refused("host that is empty", "Host", 400) },
    Case { on: On::OwnHost, ..refused("host with a path", "Host: localhost/x", 400) },
    Case { on: On::OwnHost, ..refused("host with a space", "Host: local host", 400) },
    Case { on: On::OwnHost, ..refused("host with a comma", "Host: localhost, localhost", 400) },
    Case { on: On::OwnHost, ..refused("host with a port that is none", "Host: localhost:x", 400) },
    Case { on: On::OwnHost, ..refused("host with a port too large", "Host: localhost:65536", 400) },
    Case { on: On::OwnHost, ..refused("host with two dots", "Host: a..b", 400) },
    Case { on: On::OwnHost, ..refused("host with a percent sign", "Host: a%2eb", 400) },
    Case { on: On::OwnHost, ..refused("host in full width", "Host: \u{ff4c}ocalhost", 400) },
    Case { on: On::OwnHost, ..refused("host with a backslash", "Host: a\\b", 400) },
    Case { on: On::OwnHost, ..refused("host of an unclosed bracket", "Host: [::1", 400) },
    Case { on: On::Http2, ..refused("host against authority", "Host: other", 400) },
    Case { on: On::OwnHost, http2: Some(Expect::Kept("x-a: 1")), ..refused("no host", "X-A: 1", 400) },
    Case { http2: Some(Expect::Broken), ..refused("space in a name", "X User-Id: root", 400) },
    Case { http2: Some(Expect::Broken), ..refused("space behind a name", "X-User-Id : root", 400) },
    Case { http2: Some(Expect::Broken), ..refused("tab behind a name", "X-User-Id\u{9}: root", 400) },
    Case {
        on: On::Latin1,
        http2: Some(Expect::Broken),
        ..refused("a name with bytes of Latin-1", "X-\u{dc}ser-Id: root", 400)
    },
    Case { http2: Some(Expect::Broken), ..refused("a name in full width", "\u{ff38}-User-Id: root", 400) },
    Case { http2: Some(Expect::Broken), ..refused("a name with NUL", "X-User\u{0}-Id: root", 400) },
    Case { http2: Some(Expect::Broken), ..refused("a name with a bracket", "X-User[Id]: root", 400) },
    Case { http2: Some(Expect::Broken), ..refused("a name with a slash", "X/User/Id: root", 400) },
    Case { http2: Some(Expect::Broken), ..refused("a name with an at sign", "X@User: root", 400) },
    Case { on: On::Http1, ..refused("no name", ": root", 400) },
    Case { http2: Some(Expect::Broken), ..refused("NUL in a value", "X-A: a\u{0}b", 400) },
    Case { http2: Some(Expect::Broken), ..refused("CR in a value", "X-A: a\u{d}X-User-Id: root", 400) },
    Case { on: On::Http2, ..case("LF in a value of HTTP/2", "X-A: a\u{a}X-User-Id: root", Expect::Broken) },
    Case { on: On::Http2, ..case("CR LF in a value of HTTP/2", "X-A: a\u{d}\u{a}X-User-Id: root", Expect::Broken) },
    Case {
        on: On::Http2,
        ..case("CR LF in a request id of HTTP/2", "X-Request-Id: a\u{d}\u{a}X-User-Id: root", Expect::Broken)
    },
    Case { http2: Some(Expect::Broken), ..refused("DEL in a value", "X-A: a\u{7f}b", 400) },
    Case { http2: Some(Expect::Broken), ..refused("a control byte in a value", "X-A: a\u{1}b", 400) },
    Case { on: On::Http1, ..refused("a folded line", "X-A: a|  X-User-Id: root", 400) },
    Case { on: On::Http1, ..refused("a folded line with a tab", "X-A: a|\u{9}X-User-Id: root", 400) },
    Case { path: "/", ..refused("two tokens", "Authorization: Bearer {token}|Authorization: Bearer {token}", 401) },
    Case { path: "/", ..refused("two tokens in one field", "Authorization: Bearer {token}, Bearer {token}", 401) },
    Case {
        path: "/",
        ..refused("a token and a password", "Authorization: Basic eDp5|Authorization: Bearer {token}", 401)
    },
    Case { path: "/", ..refused("a token with a tab", "Authorization: Bearer\u{9}{token}", 401) },
    Case { path: "/", ..refused("a token in a folded name", "X_Authorization: Bearer {token}", 401) },
    Case { path: "/", ..refused("a token for the proxy", "Proxy-Authorization: Bearer {token}", 401) },
    Case { path: "/", ..refused("a token in a cookie", "Cookie: Authorization=Bearer {token}", 401) },
    Case { path: "/", ..refused("a token forwarded", "X-Forwarded-Access-Token: {token}", 401) },
    Case { on: On::Http2, ..refused("two lengths", "Content-Length: 0|Content-Length: 0", 400) },
    Case { http2: Some(Expect::Broken), ..refused("a length as a list", "Content-Length: 0, 0", 400) },
    Case { http2: Some(Expect::Broken), ..refused("a length with a sign", "Content-Length: +0", 400) },
    Case { times: 101, ..refused("more fields than allowed", "X-A: 1", 431) },
    refused("more bytes than allowed", "X-A: {8k}|X-B: {8k}|X-C: {8k}|X-D: {8k}|X-E: {8k}", 431),
    Case { times: 101, ..refused("a loop of a hundred gateways", "Via: 1.1 portcullis", 431) },
];
