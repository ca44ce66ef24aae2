//! HTTP/2 by prior knowledge on a connection without TLS (RFC 9113 §3.3).
//!
//! The first bytes tell: HTTP/2 begins with a preface that is no request of HTTP/1.1. `Upgrade: h2c` is not taken: it
//! is gone from RFC 9113, and forwarding it has opened tunnels past other gateways.

use std::io;

use tokio::io::AsyncRead;

use super::prefixed::Prefixed;

/// What an HTTP/2 client sends first (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes read at once. Most headers of HTTP/1.1 come whole with the first read, as if nobody had looked.
const READ: usize = 1024;

/// Whether the client speaks HTTP/2. Told by the first byte that differs: nobody waits for 24 of them.
///
/// The end of the stream is left to HTTP/1.1 to deal with.
///
/// # Errors
/// As the stream has it.
pub(super) async fn is_http2<S: AsyncRead + Unpin>(stream: &mut Prefixed<S>) -> io::Result<bool> {
    loop {
        let ahead = stream.ahead();
        let seen = ahead.len().min(PREFACE.len());
        if ahead.get(..seen) != PREFACE.get(..seen) {
            return Ok(false);
        }
        if seen == PREFACE.len() {
            return Ok(true);
        }
        if stream.read_ahead(READ).await? == 0 {
            return Ok(false);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn told(pieces: &[&[u8]], end: bool) -> Option<bool> {
        let (mut client, server) = tokio::io::duplex(1);
        let pieces: Vec<Vec<u8>> = pieces.iter().map(|piece| piece.to_vec()).collect();
        let sending = tokio::spawn(async move {
            for piece in pieces {
                // The test may have heard enough.
                let _ = client.write_all(&piece).await;
            }
            if !end {
                std::future::pending::<()>().await;
            }
        });
        let mut stream = Prefixed::new(server);
        let told = tokio::time::timeout(std::time::Duration::from_millis(200), is_http2(&mut stream)).await;
        sending.abort();
        told.ok().map(|told| told.unwrap())
    }

    #[tokio::test]
    async fn the_first_byte_that_differs_decides() {
        assert_eq!(told(&[PREFACE], false).await, Some(true));
        assert_eq!(told(&[PREFACE, b"more"], false).await, Some(true));
        assert_eq!(told(&[b"G"], false).await, Some(false));
        assert_eq!(told(&[b"PRI * HTTP/1"], false).await, Some(false));
        assert_eq!(told(&[b"PR"], false).await, None, "a request line may begin so: it waits");
        assert_eq!(told(&[b"PR"], true).await, Some(false));
        assert_eq!(told(&[], true).await, Some(false));
    }
}
