//! One look-up of a name: whom it is asked of, and how long the answer holds.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;

/// Nobody is asked more often, whatever a record says.
const SHORTEST_TTL: Duration = Duration::from_secs(1);

/// A change is seen at the latest after this, whatever a record says; so are those of `/etc/hosts`.
const LONGEST_TTL: Duration = Duration::from_secs(300);

/// How long one DNS server has for an answer before it is asked again.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// The addresses of `host`, at least one, and how long they hold.
pub(super) async fn look_up(
    host: &str,
    resolver: Option<SocketAddr>,
    system: &System,
) -> Result<(Vec<IpAddr>, Duration), NetError> {
    // Never asked anyone (RFC 6761 §6.3): it must work where there is no DNS.
    if host == "localhost" || host.ends_with(".localhost") {
        return Ok((vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()], LONGEST_TTL));
    }
    let resolver = match resolver {
        Some(server) => asking(server)?,
        None => system.resolver()?,
    };
    let found = resolver.lookup_ip(host).await?;
    let ttl = found.valid_until().saturating_duration_since(Instant::now()).clamp(SHORTEST_TTL, LONGEST_TTL);
    let addresses = found.iter().collect::<Vec<_>>();
    if addresses.is_empty() { Err(NetError::from("the name has no address")) } else { Ok((addresses, ttl)) }
}

fn asking(server: SocketAddr) -> Result<TokioResolver, NetError> {
    let [mut udp, mut tcp] = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
    (udp.port, tcp.port) = (server.port(), server.port());
    let server = NameServerConfig::new(server.ip(), true, vec![udp, tcp]);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut options = ResolverOpts::default();
    options.timeout = SERVER_TIMEOUT;
    options.use_hosts_file = ResolveHosts::Never;
    build(config, options)
}

/// The resolver that the system's files describe.
#[derive(Default)]
pub(super) struct System(Mutex<Option<(Stamps, TokioResolver)>>);

/// When the files were last changed.
type Stamps = [Option<SystemTime>; 2];

impl System {
    /// Made anew when the files have changed: some systems rewrite them with every network they join.
    fn resolver(&self) -> Result<TokioResolver, NetError> {
        let stamps = ["/etc/resolv.conf", "/etc/hosts"].map(|file| std::fs::metadata(file).ok()?.modified().ok());
        let mut made = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, resolver)) = &*made
            && *of == stamps
        {
            return Ok(resolver.clone());
        }
        let resolver = match TokioResolver::builder_tokio() {
            Ok(mut builder) => {
                let options = std::mem::take(builder.options_mut());
                builder.with_options(ours(options)).build()?
            }
            // No /etc/resolv.conf, or no server in it: there is still /etc/hosts.
            Err(_) => build(ResolverConfig::from_parts(None, Vec::new(), Vec::new()), ResolverOpts::default())?,
        };
        *made = Some((stamps, resolver.clone()));
        Ok(resolver)
    }
}

impl std::fmt::Debug for System {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("System")
    }
}

fn build(config: ResolverConfig, options: ResolverOpts) -> Result<TokioResolver, NetError> {
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.with_options(ours(options)).build()
}

fn ours(mut options: ResolverOpts) -> ResolverOpts {
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    // What it would remember we do.
    options.cache_size = 0;
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn localhost_needs_no_server() {
        // Nobody is there.
        let (addresses, _) =
            look_up("localhost", Some("127.0.0.1:1".parse().unwrap()), &System::default()).await.unwrap();
        assert!(addresses.contains(&Ipv4Addr::LOCALHOST.into()));
    }
}
