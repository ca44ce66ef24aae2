//! Listening sockets and how many connections may be open.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::limiter::owner_of;

/// Connections the kernel keeps for us while we are busy.
const BACKLOG: i32 = 1024;

/// An address that this process alone means to listen on, as long as it lives.
///
/// Sockets that are shared by workers could be shared with another gateway, too, which would silently take half of the
/// clients. Between binding and listening nothing of TCP tells that there is another; a name in the namespace of abstract
/// Unix sockets does, which is as wide as that of ports (`unix(7)`, `network_namespaces(7)`) and goes with the process.
#[derive(Debug)]
pub struct Claim(#[expect(dead_code, reason = "held, not used")] UnixListener);

impl Claim {
    fn on(address: SocketAddr) -> io::Result<Self> {
        let name = unix::net::SocketAddr::from_abstract_name(format!("portcullis listens on {address}"))?;
        UnixListener::bind_addr(&name).map(Self)
    }
}

/// One socket for each worker, on the same address: the kernel spreads connections over them. Clients are refused until
/// [`start_listening`]: binding a port below 1024 needs a privilege, what comes after it does not.
///
/// # Errors
/// As the system says, also [`io::ErrorKind::AddrInUse`] when another process listens there, or is about to.
pub fn bind(address: SocketAddr, workers: usize) -> io::Result<(Vec<TcpListener>, Claim)> {
    let address = probe(address)?;
    let claim = Claim::on(address)?;
    let sockets = (0..workers)
        .map(|_| {
            // Shared only where it must be: another process of the same user could join in.
            let socket = socket(address, workers > 1)?;
            socket.bind(&address.into())?;
            socket.set_nonblocking(true)?;
            Ok(socket.into())
        })
        .collect::<io::Result<_>>()?;
    Ok((sockets, claim))
}

/// Lets clients in to the sockets of one address.
///
/// # Errors
/// As the system says, also [`io::ErrorKind::AddrInUse`] when another process has begun to listen there meanwhile.
pub fn start_listening(sockets: &[TcpListener]) -> io::Result<()> {
    if let Some(first) = sockets.first() {
        match probe(first.local_addr()?) {
            // Who has given up the right to bind cannot look a second time. Other gateways are kept out by the claim.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            other => drop(other?),
        }
    }
    sockets.iter().try_for_each(|socket| SockRef::from(socket).listen(BACKLOG))
}

/// With SO_REUSEPORT a second gateway would silently share the port. A socket without it finds out. The address, with the
/// port that the system chose for 0.
fn probe(address: SocketAddr) -> io::Result<SocketAddr> {
    let probe = socket(address, false)?;
    probe.bind(&address.into())?;
    Ok(probe.local_addr()?.as_socket().unwrap_or(address))
}

fn socket(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        // Said, not left to the system's default: `[::]` also takes IPv4, `0.0.0.0` beside it would collide.
        socket.set_only_v6(address.ip() != IpAddr::V6(Ipv6Addr::UNSPECIFIED))?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    Ok(socket)
}

/// Counts open connections, all of them and by address.
#[derive(Debug)]
pub struct Admission {
    open: AtomicUsize,
    most: usize,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    most_by_address: usize,
}

/// Which limit keeps a connection out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Full {
    /// `limits.connections`
    Connections,
    /// `limits.connections_per_address`
    Address,
}

impl Admission {
    /// At most `most` in all and `most_by_address` from one address.
    pub fn new(most: usize, most_by_address: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), most, by_address: Mutex::default(), most_by_address })
    }

    /// A place for a connection from `address`, given back when dropped.
    ///
    /// # Errors
    /// [`Full`]
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Full> {
        let mut permit = self.reserve()?;
        permit.assign(address)?;
        Ok(permit)
    }

    /// A place for a connection whose client is not known yet, given back when dropped.
    ///
    /// # Errors
    /// [`Full::Connections`]
    pub fn reserve(self: &Arc<Self>) -> Result<Permit, Full> {
        if self.open.fetch_add(1, Relaxed) >= self.most {
            self.open.fetch_sub(1, Relaxed);
            return Err(Full::Connections);
        }
        Ok(Permit { admission: self.clone(), address: None })
    }
}

/// A place for one connection.
#[derive(Debug)]
pub struct Permit {
    admission: Arc<Admission>,
    /// Whose connections it counts among.
    address: Option<IpAddr>,
}

impl Permit {
    /// Counts the connection among those of `address`, and no longer among another's.
    ///
    /// # Errors
    /// [`Full::Address`]
    pub fn assign(&mut self, address: IpAddr) -> Result<(), Full> {
        self.leave_address();
        let address = owner_of(address);
        let mut by_address = self.admission.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_address.entry(address).or_insert(0);
        if *count >= self.admission.most_by_address {
            return Err(Full::Address);
        }
        *count += 1;
        self.address = Some(address);
        Ok(())
    }

    fn leave_address(&mut self) {
        let Some(address) = self.address.take() else { return };
        let mut by_address = self.admission.by_address.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_address.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                by_address.remove(&address);
            }
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.leave_address();
        self.admission.open.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_or_about_to_be_is_an_error_also_with_shared_sockets() {
        let first = bind("127.0.0.1:0".parse().unwrap(), 2).unwrap();
        let address = first.0[0].local_addr().unwrap();
        assert_eq!(first.0[1].local_addr().unwrap(), address);
        for workers in [1, 2] {
            let second = bind(address, workers);
            assert_eq!(second.unwrap_err().kind(), io::ErrorKind::AddrInUse, "before anybody listens");
        }
        let (sockets, claim) = first;
        drop(claim);
        start_listening(&sockets).unwrap();
        assert_eq!(bind(address, 1).unwrap_err().kind(), io::ErrorKind::AddrInUse, "of any other program, too");
        drop(sockets);
        assert!(bind(address, 1).is_ok());
    }

    #[test]
    fn places_are_counted_and_given_back() {
        let admission = Admission::new(3, 2);
        let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let first = admission.admit(a).unwrap();
        let _second = admission.admit(a).unwrap();
        assert_eq!(admission.admit(a).unwrap_err(), Full::Address);
        let _third = admission.admit(b).unwrap();
        assert_eq!(admission.admit(b).unwrap_err(), Full::Connections);
        drop(first);
        assert!(admission.admit(a).is_ok());
        assert_eq!(admission.by_address.lock().unwrap().len(), 2);
    }

    #[test]
    fn a_place_reserved_is_limited_by_address_once_the_client_is_known() {
        let admission = Admission::new(3, 1);
        let (a, b) = ("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let mut first = admission.reserve().unwrap();
        let mut second = admission.reserve().unwrap();
        assert_eq!(first.assign(a), Ok(()));
        assert_eq!(second.assign(a), Err(Full::Address));
        assert_eq!(second.assign(b), Ok(()));
        let _third = admission.reserve().unwrap();
        assert_eq!(admission.reserve().unwrap_err(), Full::Connections);
        drop((first, second));
        assert!(admission.by_address.lock().unwrap().is_empty());
        assert!(admission.admit(a).is_ok());
    }

    #[test]
    fn an_ipv6_client_is_its_network() {
        let of = |text: &str| owner_of(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:10.0.0.1"), "10.0.0.1");
    }
}
