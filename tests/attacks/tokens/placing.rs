//! Where a token stands, how it is written there, and which kind it is of.

use serde_json::json;

use super::forged::{MARK, now};
use super::{Http2, Party, assert_none, fault, nowhere, run};
use crate::support::{Backend, Client, get, post, refresh};

/// RFC 6750 §2.1: one field, one scheme, one token. `{t}` is a good token.
const SPELLINGS: &[(&str, &[&str], &str)] = &[
    ("as it should be", &["Bearer {t}"], ""),
    ("lower case", &["bearer {t}"], ""),
    ("upper case", &["BEARER {t}"], ""),
    ("mixed case", &["bEARER {t}"], ""),
    ("two spaces", &["Bearer  {t}"], ""),
    ("many spaces", &["Bearer                {t}"], ""),
    ("empty", &[""], "malformed_authorization"),
    ("scheme alone", &["Bearer"], "malformed_authorization"),
    ("token alone", &["{t}"], "malformed_authorization"),
    ("no space", &["Bearer{t}"], "malformed_authorization"),
    ("tab", &["Bearer\t{t}"], "malformed_authorization"),
    ("space and tab", &["Bearer \t{t}"], "malformed_authorization"),
    ("colon", &["Bearer: {t}"], "malformed_authorization"),
    ("equals sign", &["Bearer={t}"], "malformed_authorization"),
    ("quotes", &["Bearer \"{t}\""], "malformed_authorization"),
    ("brackets", &["Bearer <{t}>"], "malformed_authorization"),
    ("parameter", &["Bearer token={t}"], "malformed_authorization"),
    ("scheme twice", &["Bearer Bearer {t}"], "malformed_authorization"),
    ("two tokens", &["Bearer {t} {t}"], "malformed_authorization"),
    ("comma behind", &["Bearer {t},"], "malformed_authorization"),
    ("comma before", &[", Bearer {t}"], "malformed_authorization"),
    ("two by comma", &["Bearer {t}, Bearer {t}"], "malformed_authorization"),
    ("two by comma, no space", &["Bearer {t},Bearer {t}"], "malformed_authorization"),
    ("two schemes by comma", &["Basic eDp5, Bearer {t}"], "malformed_authorization"),
    ("two schemes by comma, ours first", &["Bearer {t}, Basic eDp5"], "malformed_authorization"),
    ("semicolon", &["Bearer {t}; x=1"], "malformed_authorization"),
    ("words behind", &["Bearer {t} and more"], "malformed_authorization"),
    ("Basic", &["Basic {t}"], "malformed_authorization"),
    ("Basic with the token as password", &["Basic eDp7dH0="], "malformed_authorization"),
    ("DPoP", &["DPoP {t}"], "malformed_authorization"),
    ("Token", &["Token {t}"], "malformed_authorization"),
    ("JWT", &["JWT {t}"], "malformed_authorization"),
    ("Negotiate", &["Negotiate {t}"], "malformed_authorization"),
    ("letters of another script", &["B\u{435}arer {t}"], "malformed_authorization"),
    ("no-break space", &["Bearer\u{a0}{t}"], "malformed_authorization"),
    ("percent-encoded space", &["Bearer%20{t}"], "malformed_authorization"),
    ("another byte in the token", &["Bearer {t}\u{e9}"], "malformed_authorization"),
    ("two fields", &["Bearer {t}", "Bearer {t}"], "malformed_authorization"),
    ("two fields, one empty", &["Bearer {t}", ""], "malformed_authorization"),
    ("two fields, the first empty", &["", "Bearer {t}"], "malformed_authorization"),
    ("two fields, Basic first", &["Basic eDp5", "Bearer {t}"], "malformed_authorization"),
    ("two fields, Basic last", &["Bearer {t}", "Basic eDp5"], "malformed_authorization"),
    ("two fields, bad first", &["Bearer a.b.c", "Bearer {t}"], "malformed_authorization"),
    ("two fields, bad last", &["Bearer {t}", "Bearer a.b.c"], "malformed_authorization"),
    ("three fields", &["Bearer {t}", "Bearer {t}", "Bearer {t}"], "malformed_authorization"),
];

#[test]
fn the_authorization_field_is_read_alike_over_http1_and_http2() {
    let (party, backend) = (Party::new(nowhere()), Backend::start());
    let gateway = party.start(&backend);
    let token = party.good();
    let mut failed = Vec::new();
    run(async {
        let mut http2 = Http2::connect(&gateway).await;
        for (name, values, reason) in SPELLINGS {
            let values: Vec<String> = values.iter().map(|value| value.replace("{t}", &token)).collect();
            let fields: String = values.iter().map(|value| format!("Authorization: {value}\r\n")).collect();
            let values: Vec<&str> = values.iter().map(String::as_str).collect();
            for path in ["/", "/optional"] {
                let http1 = gateway.connect().ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"));
                for (version, reply) in [("HTTP/1.1", http1), ("HTTP/2", http2.get(path, &values).await)] {
                    let was = match *reason {
                        "" => (reply.status != 200 || backend.next().one("x-user-id") != "zzmark-user")
                            .then(|| reply.text()),
                        reason => fault(&reply, 401, reason),
                    };
                    if let Some(was) = was {
                        failed.push(format!("{name}, {path}, {version}: {was}"));
                    }
                }
            }
            if !backend.saw_nothing() {
                failed.push(format!("{name}: sent on"));
            }
        }
    });
    println!("authorization: {} cases, over both versions", SPELLINGS.len());
    assert_none(&failed, SPELLINGS.len());
}

#[test]
fn a_megabyte_of_authorization_is_refused_and_others_are_served() {
    let (party, backend) = (Party::new(nowhere()), Backend::start());
    let gateway = party.start(&backend);
    let mut client = gateway.connect();
    // It may be cut off while it still sends.
    let _cut = client.try_send(get("/", Some(&"a".repeat(1 << 20))));
    let refused = client.try_reply(false).map_or(0, |reply| reply.status);
    assert!([0, 400, 431].contains(&refused), "{refused}");
    assert!(backend.saw_nothing());
    assert_eq!(gateway.connect().ask(get("/", Some(&party.good()))).status, 200);
}

/// From a path to the bytes of a request for it.
type Request<'a> = Box<dyn Fn(&str) -> String + 'a>;

/// RFC 6750 §2.2 and §2.3 are not spoken: a token elsewhere is no token, and a good one beside it stays good.
#[test]
fn a_token_anywhere_but_in_authorization_is_no_token() {
    let (party, backend) = (Party::new(nowhere()), Backend::start());
    let gateway = party.start(&backend);
    let token = party.good();
    let form = |path: &str| post(path, "application/x-www-form-urlencoded", &format!("access_token={token}"));
    let field = |name: &'static str, value: &str| {
        let value = value.to_owned();
        Box::new(move |path: &str| format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{name}: {value}\r\n\r\n"))
    };
    let bearer = format!("Bearer {token}");
    let cases: Vec<(&str, Request<'_>)> = vec![
        ("query", Box::new(|path| get(&format!("{path}?access_token={token}"), None))),
        ("query, named token", Box::new(|path| get(&format!("{path}?token={token}&authorization={token}"), None))),
        ("form", Box::new(form)),
        ("cookie", field("Cookie", &format!("access_token={token}; Authorization={token}; jwt={token}"))),
        ("X-Access-Token", field("X-Access-Token", &token)),
        ("X-Authorization", field("X-Authorization", &bearer)),
        ("X-Forwarded-Authorization", field("X-Forwarded-Authorization", &bearer)),
        ("X-Original-Authorization", field("X-Original-Authorization", &bearer)),
        ("Proxy-Authorization", field("Proxy-Authorization", &bearer)),
        ("Authentication", field("Authentication", &bearer)),
        ("X-Amzn-Oidc-Data", field("X-Amzn-Oidc-Data", &token)),
        ("X-Auth-Request-Access-Token", field("X-Auth-Request-Access-Token", &token)),
        ("Sec-WebSocket-Protocol", field("Sec-WebSocket-Protocol", &format!("bearer, {token}"))),
        ("Authorization_", field("Authorization_", &bearer)),
        ("DPoP", field("DPoP", &token)),
    ];
    let mut failed = Vec::new();
    for (name, request) in &cases {
        if let Some(was) = fault(&gateway.connect().ask(request("/")), 401, "missing_token") {
            failed.push(format!("{name}: {was}"));
        }
        if !backend.saw_nothing() {
            failed.push(format!("{name}: sent on"));
        }
        // Where nobody need be anybody, it makes nobody somebody.
        let reply = gateway.connect().ask(request("/optional"));
        let seen = backend.next();
        if reply.status != 200 || !seen.all("x-user-id").is_empty() || !seen.all("authorization").is_empty() {
            failed.push(format!("{name}, optional: {} {seen:?}", reply.status));
        }
    }
    println!("tokens elsewhere: {} cases", cases.len());
    assert_none(&failed, cases.len());
    let both = get("/?access_token=a.b.c", Some(&token));
    assert_eq!(gateway.connect().ask(both).status, 200);
    assert_eq!(backend.next().line, "GET /?access_token=a.b.c HTTP/1.1");
}

/// Each kind of token is good in one place.
#[test]
fn no_token_is_taken_for_one_of_another_kind() {
    const ADMIN: &str = "an-admin-token-of-32-characters!";
    let (party, backend) = (Party::new(nowhere()), Backend::start());
    let gateway = party.start(&backend);
    let pair = gateway.sign_in("ann");
    let (access, renewal) = (pair.access_token.as_str(), pair.refresh_token.as_str());
    let mut failed = Vec::new();
    for (name, token, reason) in [
        ("admin token", ADMIN, "malformed_authorization"),
        ("admin token without its last letter", &ADMIN[..31], "malformed_token"),
        ("refresh token", renewal, "malformed_token"),
        ("refresh token with dots", &format!("{renewal}.{renewal}.{renewal}"), "malformed_token"),
    ] {
        for path in ["/", "/optional", "/auth/logout"] {
            let request = match path {
                "/auth/logout" => get(path, Some(token)).replacen("GET", "POST", 1).replacen(
                    "\r\n\r\n",
                    "\r\nContent-Length: 0\r\n\r\n",
                    1,
                ),
                _ => get(path, Some(token)),
            };
            if let Some(was) = fault(&gateway.connect().ask(request), 401, reason) {
                failed.push(format!("{name}, {path}: {was}"));
            }
        }
    }
    let forged = party.good();
    let forged = forged.as_str();
    for (name, token) in
        [("access token", access), ("admin token", ADMIN), ("another issuer's access token", forged), ("nothing", "")]
    {
        let reply = gateway.connect().ask(refresh(token));
        if reply.status != 400 || reply.text().contains(MARK) {
            failed.push(format!("{name} as refresh token: {} {}", reply.status, reply.text()));
        }
    }
    let admin = gateway.app().admin().unwrap();
    for (name, token) in [
        ("access token", access),
        ("refresh token", renewal),
        ("another issuer's access token", forged),
        ("nothing", ""),
    ] {
        for (method, path) in [
            ("GET", "/v1/sessions?user_id=ann"),
            ("GET", "/v1/config"),
            ("POST", "/v1/keys/rotate"),
            ("DELETE", "/v1/users/ann/sessions"),
        ] {
            let request = get(path, Some(token)).replacen("GET", method, 1).replacen(
                "\r\n\r\n",
                "\r\nContent-Length: 0\r\n\r\n",
                1,
            );
            let reply = Client::plain(admin).ask(request);
            if reply.status != 401 || reply.text().contains(MARK) {
                failed.push(format!("{name}, admin {method} {path}: {} {}", reply.status, reply.text()));
            }
        }
    }
    assert_none(&failed, 12 + 4 + 16);
    assert!(backend.saw_nothing());
    // Nothing of this ended or moved the session.
    assert_eq!(gateway.connect().ask(get("/", Some(access))).status, 200);
    assert_eq!(gateway.connect().ask(refresh(renewal)).status, 200);
}

/// An old token may be found in a log: it signs its own session out, and nothing else.
#[test]
fn an_expired_token_signs_out_its_own_session_and_no_other() {
    let (party, backend) = (Party::new(nowhere()), Backend::start());
    let gateway = party.start(&backend);
    let of = |session: &str, exp: u64| {
        let claims = party.a.claims(|c| {
            c["sid"] = json!(session);
            c["iat"] = json!(now() - 1000);
            c["exp"] = json!(exp);
        });
        party.a.token(party.a.header(), claims)
    };
    let (expired, same, other) = (of("one", now() - 500), of("one", now() + 500), of("two", now() + 500));
    let logout = |query: &str| {
        let request = get(&format!("/auth/logout{query}"), Some(&expired));
        request.replacen("GET", "POST", 1).replacen("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n", 1)
    };
    for scope in ["?scope=global", "?scope=others"] {
        let reply = gateway.connect().ask(logout(scope));
        assert_eq!(reply.refusal(), (401, "token_expired".to_owned()), "{scope}");
        let reply = gateway.connect().ask(post(
            &format!("/auth/logout{scope}"),
            "application/x-www-form-urlencoded",
            &format!("token={expired}"),
        ));
        assert_eq!(reply.status, 200, "RFC 7009 §2.2: a token that is not valid is no error");
    }
    for token in [&same, &other] {
        assert_eq!(gateway.connect().ask(get("/", Some(token))).status, 200);
    }
    assert_eq!(gateway.connect().ask(logout("")).status, 204);
    assert_eq!(gateway.connect().ask(get("/", Some(&same))).refusal(), (401, "signed_out".to_owned()));
    assert_eq!(gateway.connect().ask(get("/", Some(&other))).status, 200);
}
