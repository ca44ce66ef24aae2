//! Whom a load goes to, what is sent, and what must come back.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::Fault;

/// One way through a proxy.
#[derive(serde::Deserialize)]
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) tls: bool,
    pub(crate) path: String,
    /// A file with a token a line, sent in turn.
    tokens: PathBuf,
    /// The body of every reply.
    pub(crate) body: String,
}

impl Target {
    /// The tokens, in their order.
    pub(crate) fn tokens(&self) -> Result<Vec<String>, Fault> {
        let text = std::fs::read_to_string(&self.tokens)?;
        let tokens: Vec<_> = text.lines().map(str::to_owned).collect();
        if tokens.is_empty() { Err("there are no tokens".into()) } else { Ok(tokens) }
    }

    /// A request of HTTP/1.1 for each token, whole: sending one costs no more than its bytes.
    pub(crate) fn requests(&self) -> Result<Vec<Vec<u8>>, Fault> {
        let (path, address) = (&self.path, self.address);
        let request = |token: String| {
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n").into_bytes()
        };
        Ok(self.tokens()?.into_iter().map(request).collect())
    }

    /// Whether `read` is one whole reply of HTTP/1.1, and the right one; `false` while more must come.
    pub(crate) fn answered(&self, read: &[u8]) -> Result<bool, Fault> {
        let Some(head) = read.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(false) };
        let (head, body) = (&read[..head], &read[head + 4..]);
        if !head.starts_with(b"HTTP/1.1 200 ") || !self.body.as_bytes().starts_with(body) {
            return Err(format!("a wrong reply: {}", String::from_utf8_lossy(read)).into());
        }
        Ok(body.len() == self.body.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Target;

    fn target() -> Target {
        let address = ([127, 0, 0, 1], 80).into();
        Target { address, tls: false, path: "/".into(), tokens: "tokens".into(), body: "right".into() }
    }

    #[test]
    fn only_the_whole_right_reply_is_one() {
        let reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nright";
        assert!(target().answered(reply).expect("right"));
        assert!(!target().answered(&reply[..reply.len() - 1]).expect("may become right"));
        assert!(!target().answered(&reply[..20]).expect("may become right"));
    }

    #[test]
    fn wrong_replies_are_faults() {
        for reply in [
            "HTTP/1.1 401 Unauthorized\r\n\r\nright",
            "HTTP/1.1 200 OK\r\n\r\nwrong",
            "HTTP/1.1 200 OK\r\n\r\nright too",
        ] {
            target().answered(reply.as_bytes()).expect_err(reply);
        }
    }
}
