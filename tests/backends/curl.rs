//! curl in front of nginx and others: versions of HTTP, and what people do with a download.

use std::path::Path;

use crate::support::{Answer, Backend, Front, Toml, asgi, curl, hashed, hexadecimal, in_turn, nginx, stdout_of};

/// Some text that compresses well, and its digest.
fn text(place: &Path) -> String {
    let text: String = (0..40_000).map(|number| format!("line {number} of a long text\n")).collect();
    std::fs::write(place, &text).unwrap();
    let mut context = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
    context.update(text.as_bytes());
    hexadecimal(context)
}

#[test]
fn every_version_of_http_gets_the_same() {
    let _turn = in_turn();
    let server = nginx("");
    let expected = text(&server.path("text.txt"));
    let (encrypted, plain) =
        (Front::of(server.address), Front::with(&Toml { tls: false, ..Toml::default() }, &[server.address]));
    for (front, version, told) in [
        (&plain, "--http1.0", "1.1"),
        (&plain, "--http1.1", "1.1"),
        (&encrypted, "--http1.0", "1.1"),
        (&encrypted, "--http1.1", "1.1"),
        (&encrypted, "--http2", "2"),
    ] {
        let url = front.url("/text.txt");
        assert_eq!(hashed(curl(front, &[version, &url])).0, expected, "{version}");
        let echo = front.url("/echo?n=1");
        let say = ["-w", " %{http_code} %{http_version}", version];
        let answer = stdout_of(curl(front, &[&say[..], &[&echo]].concat()));
        // To a client of HTTP/1.0 the answer may say that we know more (RFC 9110 §6.2), or be as old.
        let as_old = answer == "1 ann 200 1" && version == "--http1.0";
        assert!(as_old || answer == format!("1 ann 200 {told}"), "{version}: {answer}");
        let head = stdout_of(curl(front, &[&say[..], &["--head", "-o", "/dev/null", &url]].concat()));
        assert!(head.starts_with(" 200 "), "{version}: {head}");
    }
}

#[test]
fn a_download_is_resumed_where_it_broke_off() {
    let _turn = in_turn();
    let server = nginx("");
    let expected = text(&server.path("text.txt"));
    let front = Front::of(server.address);
    let (url, part) = (front.url("/text.txt"), server.path("part"));
    let file = part.to_str().unwrap();

    let first = stdout_of(curl(&front, &["-w", "%{http_code}", "-r", "0-399999", "-o", file, &url]));
    assert_eq!((first.as_str(), std::fs::metadata(&part).unwrap().len()), ("206", 400_000));
    let rest =
        stdout_of(curl(&front, &["--http2", "-w", "%{http_code} %header{content-range}", "-C", "-", "-o", file, &url]));
    assert!(rest.starts_with("206 bytes 400000-"), "{rest}");
    assert_eq!(hashed(command("cat", file)).0, expected);
    let beyond = stdout_of(curl(&front, &["-w", "%{http_code}", "-r", "99999999-", "-o", "/dev/null", &url]));
    assert_eq!(beyond, "416");
}

fn command(program: &str, argument: &str) -> std::process::Command {
    let mut command = std::process::Command::new(program);
    command.arg(argument);
    command
}

#[test]
fn compression_is_left_to_the_server() {
    let _turn = in_turn();
    // nginx compresses nothing that came through a proxy, which it knows by `Via`, unless it is told to.
    let server = nginx("gzip on; gzip_proxied any; gzip_types text/plain; types { text/plain txt; }");
    let expected = text(&server.path("text.txt"));
    let front = Front::of(server.address);
    let url = front.url("/text.txt");
    for version in ["--http1.1", "--http2"] {
        assert_eq!(hashed(curl(&front, &[version, "--compressed", &url])).0, expected, "{version}");
        let say = "%header{content-encoding} %header{vary} %{size_download}";
        let told = stdout_of(curl(&front, &[version, "--compressed", "-w", say, "-o", "/dev/null", &url]));
        let words: Vec<_> = told.split(' ').collect();
        assert_eq!(words[0], "gzip", "{version}: {told}");
        assert!(words.last().unwrap().parse::<u64>().unwrap() < 400_000, "it came compressed: {told}");
        let told = stdout_of(curl(&front, &[version, "-w", "%header{content-encoding}", "-o", "/dev/null", &url]));
        assert_eq!(told, "", "not asked for, not done");
    }
}

#[test]
fn continue_is_said_once_the_body_is_wanted_and_not_before_a_refusal() {
    let _turn = in_turn();
    let app = asgi();
    let front = Front::of(app.address);
    let ask = |more: &[&str], path: &str| {
        let url = front.url(path);
        let always =
            ["--http1.1", "-v", "-H", "Expect: 100-continue", "--expect100-timeout", "20", "-d", "a body", &url];
        let output = curl(&front, &[&always[..], more].concat()).output().unwrap();
        (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (body, said) = ask(&[], "/echo");
    assert_eq!(body, "a body", "{said}");
    assert!(said.contains("< HTTP/1.1 100 Continue") && said.contains("< HTTP/1.1 200 OK"), "{said}");
    // A second token is one too many.
    let (body, said) = ask(&["-H", "Authorization: Bearer x"], "/echo");
    assert!(body.contains("malformed_authorization") && !said.contains("100 Continue"), "{said}");
}

#[test]
fn trailers_reach_clients_of_both_versions() {
    let _turn = in_turn();
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n\
                   4\r\nbody\r\n0\r\nX-Sum: 4\r\nConnection: x\r\n\r\n";
    let server = Backend::answering(move |_| Answer::Bytes(chunked.into()));
    let front = Front::of(server.address);
    for version in ["--http1.1", "--http2"] {
        let told = stdout_of(curl(&front, &[version, "-H", "TE: trailers", "-D", "-", &front.url("/")]));
        let (head, rest) = told.split_once("body").unwrap_or_else(|| panic!("{version}: {told}"));
        assert!(!head.to_lowercase().contains("x-sum: 4"), "{version}: {told}");
        assert_eq!(rest.trim().to_lowercase(), "x-sum: 4", "{version}: {told}");
    }
}
