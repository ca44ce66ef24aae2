//! One of several addresses: tried in turn, the next before the last has failed (RFC 8305 in spirit).

use std::cell::Cell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How long an address is alone before the next is tried beside it (RFC 8305 §5).
const NEXT_AFTER: Duration = Duration::from_millis(250);

/// What a worker remembers of a name's addresses: whose turn it is, and the family that works.
#[derive(Debug, Default)]
pub(super) struct Order {
    turn: Cell<usize>,
    ipv4_first: Cell<bool>,
}

impl Order {
    /// All of `addresses` in the order to try them: each is the first in its turn, and the families alternate, so that
    /// one that is not connected at all is left after one attempt (RFC 8305 §4).
    pub(super) fn of(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        let rotated = |ipv4: bool| {
            let mut family = addresses.iter().copied().filter(|it| it.is_ipv4() == ipv4).collect::<Vec<_>>();
            let start = turn.checked_rem(family.len()).unwrap_or(0);
            family.rotate_left(start);
            family
        };
        let ipv4_first = self.ipv4_first.get();
        let (first, second) = (rotated(ipv4_first), rotated(!ipv4_first));
        let longest = first.len().max(second.len());
        (0..longest).flat_map(|at| [first.get(at), second.get(at)]).flatten().copied().collect()
    }

    /// An address was connected to: its family comes first from now on.
    pub(super) fn succeeded(&self, address: IpAddr) {
        self.ipv4_first.set(address.is_ipv4());
    }
}

/// Connects to the first of `addresses` that answers. The attempts that are not needed are given up.
///
/// # Errors
/// That of the last attempt that failed, when all did.
pub(super) async fn connect(addresses: Vec<IpAddr>, port: u16) -> io::Result<(TcpStream, IpAddr)> {
    if let [only] = addresses.as_slice() {
        return attempt(*only, port).await;
    }
    let mut left = addresses.into_iter();
    let mut attempts = JoinSet::new();
    let mut error = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        let more = match left.next() {
            Some(address) => {
                attempts.spawn_local(attempt(address, port));
                true
            }
            None => false,
        };
        let ended = tokio::select! {
            ended = attempts.join_next() => ended,
            () = tokio::time::sleep(NEXT_AFTER), if more => continue,
        };
        match ended {
            Some(Ok(Ok(connected))) => return Ok(connected),
            Some(Ok(Err(failed))) => error = failed,
            Some(Err(failed)) => error = io::Error::other(failed),
            None => return Err(error),
        }
    }
}

async fn attempt(address: IpAddr, port: u16) -> io::Result<(TcpStream, IpAddr)> {
    let at = SocketAddr::new(address, port);
    match TcpStream::connect(at).await {
        Ok(stream) => Ok((stream, address)),
        // Which of the addresses it was, the log could not tell otherwise.
        Err(error) => Err(io::Error::new(error.kind(), format!("{at}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use tokio::net::TcpListener;

    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn each_address_is_first_in_its_turn_and_families_alternate() {
        let (order, all) = (Order::default(), ips(&["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1"]));
        assert_eq!(order.of(&all), ips(&["fd00::1", "10.0.0.1", "10.0.0.2", "10.0.0.3"]));
        order.succeeded(all[0]);
        assert_eq!(order.of(&all), ips(&["10.0.0.2", "fd00::1", "10.0.0.3", "10.0.0.1"]));
        assert_eq!(order.of(&all), ips(&["10.0.0.3", "fd00::1", "10.0.0.1", "10.0.0.2"]));
        assert_eq!(order.of(&all), ips(&["10.0.0.1", "fd00::1", "10.0.0.2", "10.0.0.3"]));
        assert_eq!(order.of(&[]), ips(&[]));
    }

    /// A listener whose backlog is full: the system answers no more attempts.
    async fn silent() -> (TcpListener, Vec<TcpStream>, u16) {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await {
            waiting.push(stream.unwrap());
        }
        (listener, waiting, address.port())
    }

    #[tokio::test(flavor = "local")]
    async fn an_address_that_does_not_answer_costs_a_quarter_of_a_second() {
        let (_listener, _waiting, port) = silent().await;
        let other = TcpListener::bind(("127.0.0.2", port)).await.unwrap();
        let start = Instant::now();
        let (_stream, address) = connect(ips(&["127.0.0.1", "127.0.0.2"]), port).await.unwrap();
        assert_eq!(address, ips(&["127.0.0.2"])[0]);
        let took = start.elapsed();
        assert!(took >= NEXT_AFTER && took < NEXT_AFTER * 4, "{took:?}");
        drop(other);
    }

    #[tokio::test(flavor = "local")]
    async fn an_address_that_refuses_costs_nothing_and_the_last_error_is_told() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let start = Instant::now();
        let all = ips(&["127.0.0.3", "127.0.0.2", "127.0.0.1"]);
        assert_eq!(connect(all.clone(), port).await.unwrap().1, all[2]);
        assert!(start.elapsed() < NEXT_AFTER);
        drop(listener);
        let error = connect(all, port).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("127.0.0.1:{port}: ")), "{error}");
        assert!(connect(Vec::new(), port).await.unwrap_err().to_string().contains("no address"));
    }
}
