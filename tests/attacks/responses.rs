//! Servers that answer in ways meant to confuse whoever reads the answer next.

mod cases;

use self::cases::Case;
use crate::framing::wire::{self, Response, Stop};
use crate::support::{Answer, Backend, Client, Gateway, Toml};

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

/// A fresh client's answer, to the end of its connection.
fn ask(gateway: &Gateway, method: &str, path: &str) -> Result<Response, String> {
    let mut client = Client::plain(gateway.address);
    let request = format!("{method} {path} HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, te\r\n\r\n");
    client.send(request);
    let bytes = client.drained().ok_or("the connection stayed open")?;
    // Without a framing an end would say nothing; ours always has one.
    let (response, length) = wire::response(&bytes, method == "HEAD", false).map_err(|stop| match stop {
        Stop::Unfinished => "cut".to_owned(),
        stop => format!("{stop:?}: {}", bytes.escape_ascii()),
    })?;
    if bytes.len() > length { Err(format!("more than one answer: {}", bytes.escape_ascii())) } else { Ok(response) }
}

fn judge(case: &Case, got: Result<Response, String>) -> Result<(), String> {
    let response = match (case.verdict, got) {
        (Verdict::Cut, Err(cut)) if cut == "cut" => return Ok(()),
        (_, Ok(response)) => response,
        (_, Err(wrong)) => return Err(wrong),
    };
    let text = String::from_utf8_lossy(&response.body).into_owned();
    let is_right = match case.verdict {
        Verdict::Broken => response.status == 502 && text.contains("\"upstream_broken\""),
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

/// Three clients over one connection to the server, which is hostile to the first: the other two get their own answers,
/// to the byte.
#[test]
fn a_hostile_answer_is_nobody_elses() {
    let cases = cases::all();
    let answers: Vec<Answer> = cases.iter().map(|case| case.answer.clone()).collect();
    let backend = Backend::answering(move |seen| {
        let path = seen.line.split(' ').nth(1).unwrap_or_default();
        match path.strip_prefix("/public/hostile/").and_then(|number| number.parse::<usize>().ok()) {
            Some(number) => answers[number].clone(),
            None => Answer::ok(&format!("answer to {path}")),
        }
    });
    // One connection, so that what is left in it would be the start of the next answer.
    let upstream = "max_connections = 1\nresponse_timeout = \"5s\"\n".to_owned();
    let toml = Toml { server: "workers = 1\n".into(), upstream, tls: false, ..Toml::default() };
    let gateway = Gateway::with(&toml, &[backend.address]);
    let mut failed = Vec::new();
    for (number, case) in cases.iter().enumerate() {
        let mut tell = |wrong: String| failed.push(format!("{}: {wrong}", case.name));
        if let Err(wrong) = judge(case, ask(&gateway, case.method, &format!("/public/hostile/{number}"))) {
            tell(wrong);
        }
        std::thread::sleep(case.later * 2);
        for next in ["next", "last"] {
            let path = format!("/public/{next}/{number}");
            match ask(&gateway, "GET", &path) {
                Ok(response) if response.body == format!("answer to {path}").as_bytes() => {}
                Ok(response) => tell(format!("{next} got {:?}", String::from_utf8_lossy(&response.body))),
                Err(wrong) => tell(format!("{next}: {wrong}")),
            }
        }
    }
    println!("responses: {} cases", cases.len());
    assert!(cases.len() >= 60, "{}", cases.len());
    assert!(failed.is_empty(), "{} failed\n{}", failed.len(), failed.join("\n"));
}
