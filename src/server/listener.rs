//! What is spoken on a listening socket.

use std::net::IpAddr;
use std::num::NonZeroU16;
use std::sync::Arc;

use ipnet::IpNet;
use rustls::ServerConfig;

use crate::config::Listener;

/// The terms of every connection of a listener.
#[derive(Clone, Debug)]
pub struct Terms {
    /// TLS; without it plain HTTP.
    pub tls: Option<Arc<ServerConfig>>,
    /// Who may connect, and begins with a PROXY header; empty: everybody, and nobody does.
    pub balancers: Vec<IpNet>,
    /// The port of `https` where every request is sent to.
    pub https_port: Option<NonZeroU16>,
}

impl Terms {
    /// Those of `listener`; `tls` is what its TLS would be.
    pub fn new(listener: &Listener, tls: Option<&Arc<ServerConfig>>) -> Self {
        Self {
            tls: tls.filter(|_| listener.tls).cloned(),
            balancers: listener.proxy_protocol.clone(),
            https_port: listener.redirect_to_https,
        }
    }

    /// Whether a connection begins with a PROXY header.
    pub fn speak_proxy_protocol(&self) -> bool {
        !self.balancers.is_empty()
    }

    /// Whether `address` may connect.
    ///
    /// Where the PROXY protocol is spoken, the header decides who the client is: from anybody but a balancer it would
    /// be forged, and a balancer's listener is not for clients.
    pub fn admit(&self, address: IpAddr) -> bool {
        !self.speak_proxy_protocol() || self.balancers.iter().any(|net| net.contains(&address))
    }
}
