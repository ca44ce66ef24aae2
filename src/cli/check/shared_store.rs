//! What can be said of a shared store without connecting to it.

use std::net::IpAddr;

use crate::config::{Origin, Redis};

/// A warning when a password would be sent in clear beyond this machine.
pub(super) fn password_in_clear(redis: &Redis) -> Option<String> {
    let any_password = redis.password.is_some() || redis.sentinel_password.is_some();
    if redis.tls || !any_password {
        return None;
    }
    let far = redis.servers.iter().zip(redis.urls()).filter(|(server, _)| !is_loopback(server)).map(|(_, url)| url);
    let far = far.collect::<Vec<_>>();
    (!far.is_empty()).then(|| {
        format!(
            "the password of the store goes to {} in clear, and so does all else: use rediss:// unless that network is \
             private",
            far.join(", ")
        )
    })
}

fn is_loopback(server: &Origin) -> bool {
    server.host.parse::<IpAddr>().map_or(server.host == "localhost", |address| address.is_loopback())
}
