//! Servers that answer in ways meant to confuse whoever reads the answer next.

mod cases;

use std::sync::Arc;

use self::cases::Case;
use crate::framing::wire::{self, Response, Stop};
use crate::support::{Answer, Authority, Backend, Client, Gateway, Toml, Workplace, metric, tls_backend_answering};

const GET: &str = "GET /public HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn a_response_framed_in_two_ways_is_refused_and_never_cut_to_fit() {
    let backend = Backend::answering(|seen| {
        let fields = match seen.line.split(['/', ' ']).nth(3).unwrap_or_default() {
            "both" => "Content-Length: 2\r\nTransfer-Encoding: chunked",
            "longer" => "Content-Length: 200\r\nTransfer-Encoding: chunked",
            "coded" => "Transfer-Encoding: gzip, chunked",
            "twice" => "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "list" => return Answer::Bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 04, 4\r\n\r\nfour".to_vec()),
            _ => return Answer::ok("fine"),
        };
        Answer::Bytes(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n4\r\nfour\r\n0\r\n\r\n").into_bytes())
    });
    let gateway = Gateway::with(&Toml { server: "workers = 1\n".into(), ..Toml::default() }, &[backend.address]);
    let mut client = gateway.connect();
    for path in ["both", "longer", "coded", "twice"] {
        let reply = client.ask(format!("GET /public/{path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(reply.refusal(), (502, "upstream_broken".to_owned()), "{path}");
        assert_eq!(client.ask(GET).text(), "fine");
    }
    let reply = client.ask("GET /public/list HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((reply.header("content-length"), reply.text().as_str()), (Some("4"), "four"));
}

/// What the client of a hostile answer gets.
#[derive(Clone, Copy, Debug)]
enum Verdict {
    /// 502 `upstream_broken` instead of it.
    Broken,
    /// Its header and a body that nobody can take for all of it, or nothing when both came to the gateway at once.
    Cut,
    /// This status and this body.
    Whole(u16, &'static str),
}

/// How an answer is asked for. Only the last two may take the fast lane.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    /// By a client that takes trailers, on a connection for this request alone.
    WithTrailers,
    /// On a connection for this request alone.
    Alone,
    /// With another request behind it, on the same connection.
    Followed,
}

/// A fresh client's answer, to the end of its connection.
fn ask(gateway: &Gateway, method: &str, path: &str, way: Way) -> Result<Response, String> {
    let mut client = Client::plain(gateway.address);
    let fields = match way {
        Way::WithTrailers => "TE: trailers\r\nConnection: close, te\r\n",
        Way::Alone => "Connection: close\r\n",
        Way::Followed => "",
    };
    let mut request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    if way == Way::Followed {
        request += &format!("GET {path}/after HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    }
    client.send(request);
    let bytes = client.drained().ok_or("the connection stayed open")?;
    // Without a framing an end would say nothing; ours always has one.
    let read = |bytes: &[u8], is_head| {
        wire::response(bytes, is_head, false).map_err(|stop| match stop {
            Stop::Unfinished => "cut".to_owned(),
            stop => format!("{stop:?}: {}", bytes.escape_ascii()),
        })
    };
    let (response, mut length) = read(&bytes, method == "HEAD")?;
    if way == Way::Followed {
        let (after, more) = read(&bytes[length..], false).map_err(|wrong| format!("behind it: {wrong}"))?;
        if after.body != format!("answer to {path}/after").as_bytes() {
            return Err(format!("behind it: {:?}", String::from_utf8_lossy(&after.body)));
        }
        length += more;
    }
    if bytes.len() > length { Err(format!("more than one answer: {}", bytes.escape_ascii())) } else { Ok(response) }
}

fn is_broken(response: &Response) -> bool {
    response.status == 502 && String::from_utf8_lossy(&response.body).contains("\"upstream_broken\"")
}

/// A response as it is compared: without what is made anew for each.
fn told(response: &Response) -> (String, Vec<(String, String)>) {
    let usual = response.fields.iter().filter(|(name, _)| !matches!(name.as_str(), "date" | "x-request-id"));
    let mut fields: Vec<_> = usual.map(|(name, value)| (name.clone(), value.escape_ascii().to_string())).collect();
    fields.sort();
    (format!("{} {}", response.status, response.body.len()), fields)
}

fn judge(case: &Case, got: &Result<Response, String>, way: Way) -> Result<(), String> {
    let response = match (case.verdict, got) {
        (Verdict::Cut, Err(cut)) if cut == "cut" => return Ok(()),
        // Nothing of it had gone to the client when the fault was seen.
        (Verdict::Cut, Ok(response)) if way != Way::WithTrailers && is_broken(response) => return Ok(()),
        (_, Ok(response)) => response,
        (_, Err(wrong)) => return Err(wrong.clone()),
    };
    let text = String::from_utf8_lossy(&response.body).into_owned();
    let is_right = match case.verdict {
        Verdict::Broken => is_broken(response),
        Verdict::Cut => false,
        Verdict::Whole(status, body) => (response.status, text.as_str()) == (status, body),
    };
    // Of the other hop, or what one that is named here must not be called.
    let hop = ["keep-alive", "proxy-connection", "proxy-authenticate", "upgrade", "te", "x-secret"];
    let never = ["content-length", "transfer-encoding", "set-cookie", "connection", "upgrade"];
    let left = response.fields.iter().find(|(name, _)| hop.contains(&name.as_str()));
    let late = response.trailers.iter().find(|(name, _)| never.contains(&name.to_ascii_lowercase().as_str()));
    match (is_right, left, late) {
        (false, ..) => Err(format!("{} {text:?}", response.status)),
        (_, Some((name, _)), _) => Err(format!("{name} crossed the gateway")),
        (_, _, Some((name, _))) => Err(format!("{name} came as a trailer")),
        _ => Ok(()),
    }
}

/// Clients over one connection to the server, which is hostile to the first: the others get their own answers, to the
/// byte. However it is asked for, the answer is judged the same, and with the fast lane as without.
fn each_gets_its_own(over_tls: bool) {
    let mut cases = cases::all();
    // The server closes without a farewell, which makes any end one of TLS that was cut off.
    cases.retain(|case| !(over_tls && matches!(case.answer, Answer::Close(_))));
    let answers: Vec<Answer> = cases.iter().map(|case| case.answer.clone()).collect();
    let answer = move |line: &str| {
        let path = line.split(' ').nth(1).unwrap_or_default();
        match path.strip_prefix("/public/hostile/").and_then(|number| number.parse::<usize>().ok()) {
            Some(number) => answers[number].clone(),
            None => Answer::ok(&format!("answer to {path}")),
        }
    };
    let authority = Authority::new();
    let (backend, scheme, tls) = if over_tls {
        let config = authority.issue("localhost").server();
        (
            tls_backend_answering(config, move |seen| answer(&seen.line)).0,
            "https",
            "[upstream.app.tls]\nca = \"ca.pem\"\n",
        )
    } else {
        (Backend::answering(move |seen| answer(&seen.line)), "http", "")
    };
    // One connection, so that what is left in it would be the start of the next answer.
    let upstream = format!("max_connections = 1\nresponse_timeout = \"5s\"\n{tls}");
    let gateways = ["true", "false"].map(|lane| {
        let server = format!("workers = 1\nfast_lane = {lane}\n");
        let toml = Toml { server, upstream: upstream.clone(), tls: false, ..Toml::default() };
        let place = Workplace::new();
        std::fs::write(place.path("ca.pem"), authority.pem()).unwrap();
        Gateway::before(Arc::new(place), &toml, &[format!("{scheme}://localhost:{}", backend.address.port())])
    });
    let mut failed = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        for way in [Way::WithTrailers, Way::Alone, Way::Followed] {
            // What comes after the next request was sent is taken for its answer: nobody can tell.
            if way == Way::Followed && !case.later.is_zero() {
                continue;
            }
            let got = [0, 1].map(|at: usize| {
                let (gateway, name) = (&gateways[at], ["lane", "hyper"][at]);
                let mut tell = |wrong: String| failed.push(format!("{}, {way:?}, {name}: {wrong}", case.name));
                let got = ask(gateway, case.method, &format!("/public/hostile/{number}"), way);
                if let Err(wrong) = judge(case, &got, way) {
                    tell(wrong);
                }
                std::thread::sleep(case.later * 2);
                for next in ["next", "last"] {
                    let path = format!("/public/{next}/{number}");
                    match ask(gateway, "GET", &path, way) {
                        Ok(response) if response.body == format!("answer to {path}").as_bytes() => {}
                        Ok(response) => tell(format!("{next} got {:?}", String::from_utf8_lossy(&response.body))),
                        Err(wrong) => tell(format!("{next}: {wrong}")),
                    }
                }
                got
            });
            if let [Ok(lane), Ok(hyper)] = &got
                && told(lane) != told(hyper)
            {
                failed.push(format!(
                    "{}, {way:?}:\n    lane:  {:?}\n    hyper: {:?}",
                    case.name,
                    told(lane),
                    told(hyper)
                ));
            }
        }
    }
    println!("responses: {} cases", cases.len());
    assert!(cases.len() >= 60, "{}", cases.len());
    assert!(failed.is_empty(), "{} failed\n{}", failed.len(), failed.join("\n"));
    if std::env::var_os("PORTCULLIS_TEST_WITHOUT_FAST_LANE").is_none() {
        // What never takes the lane proves nothing about it.
        let taken = metric(&gateways[0], "portcullis_fast_lane_requests_total");
        assert!(taken > 1000.0, "{taken}");
    }
}

#[test]
fn a_hostile_answer_is_nobody_elses() {
    each_gets_its_own(false);
}

#[test]
fn nor_is_it_when_it_comes_over_tls() {
    each_gets_its_own(true);
}
