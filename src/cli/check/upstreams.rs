//! The files that upstreams name, and whether the system can tell good servers from others.

use super::{EXPIRES_SOON, Report, blamed};
use crate::certificate;
use crate::cli::output::{causes, from_now};
use crate::clock::UnixTime;
use crate::config::{Config, ServerAddress, Upstream};

/// Notes what the start would not take.
pub(super) fn check(report: &mut Report, config: &Config, now: UnixTime) {
    for upstream in &config.upstreams {
        let tls = &upstream.tls;
        let at = format!("upstream.{}", upstream.name);
        let mut fault = |key: &str, part: &str, error: &certificate::TlsError| {
            let message = format!("upstream {:?}: {part}{}", upstream.name, causes(error));
            report.fault(config, &format!("{at}.{key}"), message);
        };
        if let Some(ca) = &tls.ca
            && let Err(error) = certificate::authorities(ca)
        {
            fault("tls.ca", "tls: ", &error);
        }
        if let Some(certificate) = &tls.certificate
            && let Err(error) = certificate::load(certificate, now)
        {
            let key = if blamed(&error, certificate) == "key" { "tls.key" } else { "tls.certificate" };
            fault(key, "tls: ", &error);
        }
        if asks_the_system(upstream)
            && let Err(error) = certificate::system_authorities()
        {
            fault("servers", "", &error);
        }
    }
}

fn asks_the_system(upstream: &Upstream) -> bool {
    upstream.tls.ca.is_none() && upstream.tls.pins.is_empty() && upstream.servers.iter().any(ServerAddress::tls)
}

/// A warning for each client certificate that ends soon.
pub(super) fn warnings(config: &Config, now: UnixTime) -> impl Iterator<Item = String> {
    config.upstreams.iter().filter_map(move |upstream| {
        let certificate = upstream.tls.certificate.as_ref()?;
        let expires = certificate::load(certificate, now).ok()?.expires;
        let (file, when) = (certificate.chain.display(), from_now(expires, now));
        (expires.since(now) < EXPIRES_SOON).then(|| format!("the certificate in {file} expires {when}, on {expires}"))
    })
}
