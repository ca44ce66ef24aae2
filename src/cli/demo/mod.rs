//! `portcullis demo`: a gateway to try, with nothing to prepare.

mod backend;
mod files;
mod walk;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use self::backend::Backend;
use self::files::Files;
use self::walk::{SignedIn, Walk};
use crate::app::App;
use crate::cli::output::{Failure, Format, Outcome, causes, print, print_json};
use crate::cli::stop::{Hangup, Stop};
use crate::clock::UnixTime;
use crate::config::Config;
use crate::ids::UserId;
use crate::server::accept;
use crate::session::NewSession;
use crate::telemetry;

/// Where to listen, and where the admin listener is, unless said or taken.
const LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8443);
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9443);

/// Try it: a gateway with a throw-away certificate, a sample backend and a signed-in user
///
/// Needs no files and leaves none. Prints curl lines to paste into another terminal: a request that passes, a refresh, a
/// stolen refresh token refused, a logout that works at once. Runs until Ctrl-C.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  portcullis demo --listen 127.0.0.1:18443")]
pub(super) struct Args {
    /// Where to listen [default: 127.0.0.1:8443, or a free port when that is taken]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<SocketAddr>,
    /// Where the admin listener is [default: 127.0.0.1:9443, or a free port when that is taken]
    #[arg(long, value_name = "ADDRESS")]
    admin_listen: Option<SocketAddr>,
}

pub(super) fn run(args: &Args, format: Format) -> Result<Outcome, Failure> {
    let (listen, moved) = free(args.listen, LISTEN)?;
    let (admin, admin_moved) = free(args.admin_listen, ADMIN)?;
    let files = Files::make(listen.ip())?;
    let directory = files.directory().to_owned();
    let stop = Stop::watch(Hangup::Stop, move || drop(std::fs::remove_dir_all(directory)))?;
    let backend = Backend::start()?;
    let config = Config::load(&files.write_config(listen, admin, backend.address(), format)?)?;
    telemetry::init(&config.log)?;
    let app = App::start(config)?;

    let walk = Walk {
        listen: app.listening().first().copied().unwrap_or(listen),
        admin: app.admin().unwrap_or(admin),
        backend: backend.address(),
        directory: files.directory().to_owned(),
        sessions: [sign_in(&app, "laptop")?, sign_in(&app, "phone")?],
        moved: [moved.then_some(LISTEN), admin_moved.then_some(ADMIN)],
    };
    match format {
        Format::Json => print_json(&walk.json())?,
        Format::Human => print(&walk.text())?,
    }
    stop.wait();
    app.stop()?;
    drop((backend, files));
    Ok(Outcome::Done)
}

/// The address that was asked for, or the default one; a free port in its place when that is taken, and whether it is.
fn free(asked: Option<SocketAddr>, default: SocketAddr) -> Result<(SocketAddr, bool), Failure> {
    // Tried as the gateway will: another program's port must not be shared.
    let bound = |address| accept::bind(address, 1)?.0.first().map_or(Ok(address), |listener| listener.local_addr());
    let address = asked.unwrap_or(default);
    match bound(address) {
        Ok(address) => Ok((address, false)),
        Err(error) if asked.is_none() && error.kind() == io::ErrorKind::AddrInUse => {
            Ok((bound(SocketAddr::new(default.ip(), 0))?, true))
        }
        Err(error) => Err(Failure::Failed(format!("cannot listen on {address}: {}", causes(&error)))),
    }
}

fn sign_in(app: &App, device: &str) -> Result<SignedIn, Failure> {
    let user = UserId::parse("ann")?;
    let new = NewSession { user, label: Some(device.to_owned()), claims: None };
    let pair = app.block_on(app.gateway().sessions.sign_in(new, UnixTime::now()))?;
    Ok(SignedIn {
        session: pair.session.to_string(),
        access: pair.access_token.to_string(),
        refresh: pair.refresh_token.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_port_that_is_taken_is_replaced_and_one_asked_for_is_not() {
        let (holder, _claim) = accept::bind("127.0.0.1:0".parse().unwrap(), 1).unwrap();
        let taken = holder[0].local_addr().unwrap();
        let (address, moved) = free(None, taken).unwrap();
        assert!(moved && address.port() != taken.port() && address.ip() == taken.ip());
        let Err(Failure::Failed(why)) = free(Some(taken), LISTEN) else { panic!("expected a failure") };
        assert_eq!(why, format!("cannot listen on {taken}: address already in use"));
    }
}
