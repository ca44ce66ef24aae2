//! The shipped example, served as it is: the files that it names, a backend of another kind, and the commands of an operator.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use serde_json::Value;

use crate::support::{Client, Process, Workplace, command, free_port, get, refresh};

const EXAMPLE: &str = include_str!("../../config.example.toml");

/// Answers with method, path and headers as JSON, in the order and spelling they came.
const ECHO: &str = r#"
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        seen = {"method": self.command, "path": self.path, "headers": self.headers.items()}
        body = json.dumps(seen).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.do_GET()

    def log_message(self, *words):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
print(server.server_port, flush=True)
server.serve_forever()
"#;

/// A Python process with the script above, killed when dropped.
struct PythonBackend {
    child: Child,
    address: SocketAddr,
}

impl PythonBackend {
    fn start() -> Self {
        let mut child = Command::new("python3").args(["-c", ECHO]).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = format!("127.0.0.1:{}", line.trim()).parse().unwrap();
        Self { child, address }
    }
}

impl Drop for PythonBackend {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The example in a directory with the files it names, but for where it listens and forwards to.
fn place(listen: SocketAddr, admin: SocketAddr, backend: SocketAddr) -> Arc<Workplace> {
    let place = Workplace::new();
    for (made, named) in
        [("cert.pem", "tls/fullchain.pem"), ("key.pem", "tls/key.pem"), ("admin-token", "secrets/admin-token")]
    {
        let named = place.path(named);
        std::fs::create_dir_all(named.parent().unwrap()).unwrap();
        std::fs::copy(place.path(made), named).unwrap();
    }
    let mut text = EXAMPLE.to_owned();
    for (shipped, free) in [("0.0.0.0:8443", listen), ("127.0.0.1:9443", admin), ("127.0.0.1:8080", backend)] {
        assert_eq!(text.matches(shipped).count(), 1, "{shipped}");
        text = text.replace(shipped, &free.to_string());
    }
    std::fs::write(place.path("portcullis.toml"), text).unwrap();
    Arc::new(place)
}

/// The values of a header that the backend was sent.
fn sent<'a>(seen: &'a Value, name: &str) -> Vec<&'a str> {
    let all = seen["headers"].as_array().unwrap().iter();
    let named = all.filter(|field| field[0].as_str().unwrap().eq_ignore_ascii_case(name));
    named.map(|field| field[1].as_str().unwrap()).collect()
}

/// `GET path` by somebody who says to be someone else; what the backend saw.
fn ask(client: &mut Client, path: &str, token: Option<&str>) -> Value {
    let forged = "\r\nX-User-Id: admin\r\nx-session-id: 1\r\nX_User_Id: admin\r\n\r\n";
    let reply = client.ask(get(path, token).replace("\r\n\r\n", forged));
    assert_eq!(reply.status, 200, "{path}: {}", reply.text());
    let seen = reply.json();
    assert_eq!((&seen["method"], &seen["path"]), (&"GET".into(), &path.into()));
    assert_eq!(sent(&seen, "x_user_id"), [""; 0], "read as X-User-Id by CGI and its like");
    assert_eq!(sent(&seen, "host"), ["localhost"]);
    seen
}

#[test]
fn the_shipped_example_serves_a_backend_from_sign_in_to_logout() {
    let backend = PythonBackend::start();
    let (listen, admin) = (free_port(), free_port());
    let place = place(listen, admin, backend.address);
    let config = place.path("portcullis.toml");
    let checked = command(&["check", "--config"], &[config.to_str().unwrap()]);
    let summary = checked.done();
    assert!(summary.starts_with("ok: 3 routes, 1 upstream, TLS on ") && summary.contains(&admin.to_string()));
    assert!(!place.path("data").exists(), "a check changes nothing");

    let gateway = Process::serve(&place, listen, admin);
    assert_eq!(gateway.command(&["health", "--url", &format!("http://{admin}")]).code, 2, "health has no --config");
    assert_eq!(command(&["health", "--url"], &[&format!("http://{admin}")]).done(), "ready\n");
    let mut client = gateway.connect();

    // The public route, which must let no identity through.
    let seen = ask(&mut client, "/index.html?q=1", None);
    assert_eq!((sent(&seen, "x-user-id"), sent(&seen, "x-session-id")), (vec![], vec![]));
    assert_eq!(sent(&seen, "x-forwarded-proto"), ["https"]);
    assert_eq!(sent(&seen, "x-forwarded-for"), ["127.0.0.1"]);

    let refused = client.ask(get("/api/orders", None));
    assert_eq!(refused.refusal(), (401, "missing_token".to_owned()));
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));

    let created = gateway.command(&["session", "create", "ann", "--label", "laptop", "--json"]);
    created.done();
    let pair = created.json();
    let [user, session, access, refresh_token] =
        ["user_id", "session_id", "access_token", "refresh_token"].map(|name| pair[name].as_str().unwrap().to_owned());
    assert_eq!(user, "ann");

    let seen = ask(&mut client, "/api/orders", Some(&access));
    assert_eq!((sent(&seen, "x-user-id"), sent(&seen, "x-session-id")), (vec!["ann"], vec![session.as_str()]));
    assert_eq!(sent(&seen, "authorization"), [""; 0], "a token is the gateway's business");
    // Who is signed in is told where it is optional, and nobody is where it is public.
    let seen = ask(&mut client, "/api/catalogue/7", Some(&access));
    assert_eq!(sent(&seen, "x-user-id"), ["ann"]);
    let seen = ask(&mut client, "/api/catalogue/7", None);
    assert_eq!((sent(&seen, "x-user-id"), sent(&seen, "x-session-id")), (vec![], vec![]));
    let seen = ask(&mut client, "/apiary", Some(&access));
    assert_eq!(sent(&seen, "x-user-id"), [""; 0]);

    let reply = client.ask(refresh(&refresh_token));
    assert_eq!(reply.status, 200, "{}", reply.text());
    let pair = reply.json();
    let (second, next) = (pair["access_token"].as_str().unwrap(), pair["refresh_token"].as_str().unwrap());
    assert_eq!(pair["expires_in"], 3600);
    for token in [access.as_str(), second] {
        assert_eq!(sent(&ask(&mut client, "/api/orders", Some(token)), "x-session-id"), [session.as_str()]);
    }

    let logout = format!(
        "POST /auth/logout HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {second}\r\nContent-Length: 0\r\n\r\n"
    );
    assert_eq!(client.ask(logout).status, 204);
    for token in [access.as_str(), second] {
        assert_eq!(client.ask(get("/api/orders", Some(token))).refusal(), (401, "signed_out".to_owned()));
    }
    let reply = client.ask(refresh(next));
    assert_eq!((reply.status, reply.json()["error"].as_str()), (400, Some("invalid_grant")));
    let gone = gateway.command(&["session", "show", &session]);
    assert!(gone.failed(1).contains("no_such_session"));

    drop(client);
    assert_eq!(gateway.stop().code(), Some(0));
}

#[test]
fn the_shipped_example_with_no_file_it_names_is_told_all_of_them() {
    let place = Workplace::new();
    std::fs::write(place.path("config.example.toml"), EXAMPLE).unwrap();
    let file = place.path("config.example.toml");
    let checked = command(&["check", "--config"], &[file.to_str().unwrap()]);
    let faults = checked.failed(1);
    assert!(faults.contains("secrets/admin-token"), "{faults}");
    std::fs::create_dir(place.path("secrets")).unwrap();
    std::fs::copy(place.path("admin-token"), place.path("secrets/admin-token")).unwrap();
    let checked = command(&["check", "--config"], &[file.to_str().unwrap()]);
    let faults = checked.failed(1);
    assert!(faults.contains("tls/fullchain.pem") && faults.contains("tls/key.pem"), "{faults}");
    assert!(faults.ends_with("2 faults\n"), "{faults}");
}
