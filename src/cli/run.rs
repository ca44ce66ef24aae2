//! `portcullis run`

use crate::app::{App, Sockets};
use crate::cli::output::{Failure, Outcome};
use crate::cli::stop::{Hangup, Stop};
use crate::cli::{ConfigArg, check};
use crate::clock::UnixTime;
use crate::config::{Config, Listener};
use crate::{sandbox, telemetry};

/// Serve a configuration until a signal says stop
///
/// Events go to standard error, the access log to standard output. SIGTERM or Ctrl-C: no new connections, requests in
/// flight are answered, then exit; a second one stops at once.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  portcullis run --config /etc/portcullis/portcullis.toml")]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArg,
}

pub(super) fn run(args: &Args) -> Result<Outcome, Failure> {
    // Before a secret is read. Systems without it have no core dumps to forbid either.
    drop(sandbox::forbid_core_dumps());
    let config = Config::load(&args.config.file)?;
    telemetry::init(&config.log)?;
    for warning in check::warnings(&config, UnixTime::now()) {
        tracing::warn!("{warning}");
    }
    let sockets = Sockets::bind(&config)?;
    // Nothing else runs yet: what a thread gives up, only the threads that it starts give up with it.
    let sandbox = sandbox::enter(&config)?;
    sandbox.log();
    let stop = Stop::watch(Hangup::Ignore, || {})?;
    let app = App::start_on(config, sockets)?;
    announce(&app);
    stop.wait();
    app.stop()?;
    Ok(Outcome::Done)
}

fn announce(app: &App) {
    let config = &app.gateway().config;
    let listeners = &config.server.listeners;
    let tls = listeners.iter().any(|listener| listener.tls);
    let url = |(listener, address): (&Listener, &std::net::SocketAddr)| {
        format!("{}://{}", if listener.tls { "https" } else { "http" }, listener.describe(*address))
    };
    let urls: Vec<String> = listeners.iter().zip(app.listening()).map(url).collect();
    let admin = app.admin().map_or_else(|| String::from("off"), |address| format!("http://{address}"));
    tracing::info!(
        tls,
        routes = config.routes.len(),
        upstreams = config.upstreams.len(),
        store = %config.store.describe(),
        %admin,
        "listening on {}",
        urls.join(", ")
    );
}
