//! What the demo prints: where everything is, and a walk of lines to paste.
//!
//! The lines work in bash and zsh, one by one or all at once. An interactive zsh takes `#` for a command, so what to
//! expect is said by `echo`, which also heads each answer.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use serde_json::{Value, json};

/// A session of the demo's user.
#[derive(Debug)]
pub(super) struct SignedIn {
    pub(super) session: String,
    pub(super) access: String,
    pub(super) refresh: String,
}

/// What there is to show.
#[derive(Debug)]
pub(super) struct Walk {
    pub(super) listen: SocketAddr,
    pub(super) admin: SocketAddr,
    pub(super) backend: SocketAddr,
    pub(super) directory: PathBuf,
    pub(super) sessions: [SignedIn; 2],
    /// The default addresses that were taken.
    pub(super) moved: [Option<SocketAddr>; 2],
}

impl Walk {
    /// For programs.
    pub(super) fn json(&self) -> Value {
        let sessions = self
            .sessions
            .each_ref()
            .map(|one| json!({ "session_id": one.session, "access_token": one.access, "refresh_token": one.refresh }));
        json!({
            "url": format!("https://{}", reachable(self.listen)),
            "ca_file": self.file("cert.pem"),
            "user_id": "ann",
            "sessions": sessions,
            "admin_url": format!("http://{}", reachable(self.admin)),
            "admin_token_file": self.file("admin-token"),
            "config_file": self.file("portcullis.toml"),
            "backend_url": format!("http://{}", self.backend),
        })
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let moved: String = self.moved.iter().flatten().map(|taken| format!("{taken} is taken.\n")).collect();
        let (url, admin) = (reachable(self.listen), reachable(self.admin));
        format!(
            "{moved}\
             Portcullis is at https://{url}, in front of a sample backend that answers with what it was sent.\n\
             The user ann is signed in on a laptop and a phone. Paste these lines into another terminal, one by one or \
             all at once:\n\n{lines}\n\n\
             The files are in {directory}, the admin listener is at http://{admin}.\n\
             Ctrl-C ends the demo and removes the files. Requests are logged below.\n",
            lines = self.lines().join("\n"),
            directory = self.directory.display(),
        )
    }

    fn lines(&self) -> Vec<String> {
        let [laptop, phone] = &self.sessions;
        let url = format!("https://{}", reachable(self.listen));
        let ca = self.quoted_file("cert.pem");
        let curl =
            |path: &str, rest: &str| format!("curl -sS --cacert {ca} {url}{path}{rest} -w 'HTTP %{{http_code}}\\n'");
        let bearer = |name: &str| format!(" -H \"Authorization: Bearer ${name}\"");
        let json = " -H 'Content-Type: application/json' -d";
        let refresh = curl("/auth/refresh", &format!(r#"{json} "{{\"refresh_token\":\"$REFRESH\"}}""#));
        let admin_token = format!(r#" -H "Authorization: Bearer $(cat {})""#, self.quoted_file("admin-token"));
        let steps = [
            (
                "1. The backend is told who is calling. The forged X-User-Id of the client does not reach it.",
                curl("/hello", &format!("{} -H 'X-User-Id: admin'", bearer("ACCESS"))),
            ),
            ("2. Without a token the same is refused: 401 missing_token.", curl("/hello", "")),
            ("3. The refresh token buys a new pair of tokens, once.", refresh.clone()),
            ("4. Used again, it must have been stolen: 400 refresh_reused.", refresh),
            (
                "5. That has ended the session: its access token is refused, too, with 401.",
                curl("/hello", &bearer("ACCESS")),
            ),
            (
                "6. The phone is another session and still signed in. It signs out: 204.",
                curl("/auth/logout", &format!("{} -X POST", bearer("PHONE"))),
            ),
            (
                "7. Its access token has most of an hour to live, and is refused on the very next request: 401.",
                curl("/hello", &bearer("PHONE")),
            ),
            (
                "8. A public route asks for no token, and lets no forged identity through either.",
                curl("/public", " -H 'X-User-Id: admin'"),
            ),
            (
                "9. A login backend signs users in through the admin listener, on an address of its own: 201.",
                format!(
                    "curl -sS http://{}/v1/sessions{admin_token}{json} '{{\"user_id\":\"ben\"}}' -w 'HTTP %{{http_code}}\\n'",
                    reachable(self.admin)
                ),
            ),
            (
                "10. Why is a request refused? Ask the configuration.",
                format!("{} explain --config {} GET {url}/hello", program(), self.quoted_file("portcullis.toml")),
            ),
        ];
        let variables = [("ACCESS", &laptop.access), ("REFRESH", &laptop.refresh), ("PHONE", &phone.access)];
        let variables = variables.map(|(name, value)| format!("{name}='{value}'"));
        let steps = steps.into_iter().flat_map(|(expect, line)| [String::new(), format!("echo '{expect}'"), line]);
        variables.into_iter().chain(steps).collect()
    }

    fn quoted_file(&self, name: &str) -> String {
        quoted(&self.file(name)).into_owned()
    }

    fn file(&self, name: &str) -> String {
        self.directory.join(name).display().to_string()
    }
}

/// This very program, which need not be in the path.
fn program() -> String {
    let path = std::env::current_exe().ok().and_then(|path| path.to_str().map(|path| quoted(path).into_owned()));
    path.unwrap_or_else(|| String::from("portcullis"))
}

/// The address as a client on this machine reaches it.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A word of a shell's line.
fn quoted(text: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/._-+:@%".contains(&b);
    if text.bytes().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', r"'\''")).into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(directory: &str) -> Walk {
        let session = |name: &str| SignedIn {
            session: format!("{name}-sid"),
            access: format!("{name}.access"),
            refresh: format!("pcr_{name}"),
        };
        Walk {
            listen: "0.0.0.0:8443".parse().unwrap(),
            admin: "127.0.0.1:1234".parse().unwrap(),
            backend: "127.0.0.1:5".parse().unwrap(),
            directory: directory.into(),
            sessions: [session("laptop"), session("phone")],
            moved: [None, Some("127.0.0.1:9443".parse().unwrap())],
        }
    }

    #[test]
    fn each_line_is_whole_by_itself() {
        for line in walk("/tmp/a demo's").lines() {
            let checked = std::process::Command::new("bash").args(["-n", "-c", &line]).output().unwrap();
            assert!(checked.status.success(), "{line}: {checked:?}");
            assert!(!line.contains('#') && !line.ends_with('\\') && !line.contains('\n'), "{line}");
        }
    }

    #[test]
    fn curl_is_given_an_address_that_it_can_reach_and_trust() {
        let text = walk("/tmp/d").text();
        assert!(text.starts_with("127.0.0.1:9443 is taken.\n"), "{text}");
        assert!(text.contains("--cacert /tmp/d/cert.pem"), "{text}");
        assert!(text.contains("https://127.0.0.1:8443/auth/refresh") && !text.contains("0.0.0.0"), "{text}");
        assert!(text.contains("http://127.0.0.1:1234"), "{text}");
    }

    #[test]
    fn programs_get_the_same_as_json() {
        let json = walk("/tmp/d").json();
        assert_eq!(json["url"], "https://127.0.0.1:8443");
        assert_eq!(json["sessions"][1]["refresh_token"], "pcr_phone");
        assert_eq!(json["admin_token_file"], "/tmp/d/admin-token");
    }
}
