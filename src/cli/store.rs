//! `portcullis store`: moves sessions between stores.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;
use serde_json::json;

use super::keys_offline::runtime;
use super::output::{Failure, Format, Outcome, print, print_json, remark};
use crate::app::session_policy;
use crate::config::{Config, Redis, Session};
use crate::revocation::Revocations;
use crate::session::store::SessionStore;
use crate::session::transfer::{self, Copied};
use crate::session::{EmbeddedStore, RedisStore, SessionPolicy};

/// Move sessions and revocations from one store to another
///
/// No gateway may run on either of the two meanwhile. Signing and refresh keys are not in a store: they stay where they
/// are, and session.keys (or signing_keys and refresh_keys) must name the same ones afterwards, or everyone is signed out.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  portcullis store copy --from data --to redis://10.0.0.5:6379\n  \
    portcullis store copy --from one.toml --to several.toml")]
pub(super) struct StoreArgs {
    #[command(subcommand)]
    command: StoreCommand,
}

/// What to do with stores.
#[derive(Clone, Debug, Subcommand)]
enum StoreCommand {
    /// Copy all sessions and revocations into a store that has none
    Copy {
        /// A directory of the embedded store, a redis:// URL, or a configuration (*.toml) whose store is meant
        #[arg(long, value_name = "STORE")]
        from: String,
        /// The same
        #[arg(long, value_name = "STORE")]
        to: String,
        /// Finish a copy that broke off, before any gateway has run on the target
        #[arg(long)]
        resume: bool,
    },
}

/// A store that was named on the command line.
enum Place {
    Embedded(PathBuf),
    Redis(Box<Redis>, Box<SessionPolicy>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embedded(path) => path.display().fmt(f),
            Self::Redis(redis, _) => write!(f, "{} (prefix {:?})", redis.urls().join(", "), redis.prefix),
        }
    }
}

impl Place {
    fn of(text: &str) -> Result<Self, Failure> {
        if text.starts_with("redis://") || text.starts_with("rediss://") {
            let redis = Redis::at(text).map_err(Failure::Usage)?;
            return Ok(Self::Redis(Box::new(redis), Box::new((&Session::unused()).into())));
        }
        if Path::new(text).extension().is_some_and(|ending| ending == "toml") {
            let config = Config::load(Path::new(text))?;
            let policy = session_policy(&config);
            return Ok(match config.store.redis {
                Some(redis) => Self::Redis(Box::new(redis), Box::new(policy)),
                None => Self::Embedded(config.store.path),
            });
        }
        Ok(Self::Embedded(text.into()))
    }

    /// Opened, with nobody else on it.
    async fn open(&self) -> Result<Arc<dyn SessionStore>, Failure> {
        let revocations = Arc::new(Revocations::new());
        match self {
            Self::Embedded(path) => Ok(Arc::new(EmbeddedStore::open(path, revocations)?)),
            Self::Redis(redis, policy) => {
                let store = RedisStore::open(redis, policy, revocations).await?;
                // What a gateway rotated behind the copy would be lost, and its refresh tokens would look stolen.
                if store.has_others().await {
                    return Err(Failure::Failed(format!("a gateway runs on {self}: stop it first")));
                }
                Ok(Arc::new(store))
            }
        }
    }
}

/// Carries the command out.
pub(super) fn run(args: &StoreArgs, format: Format) -> Result<Outcome, Failure> {
    let StoreCommand::Copy { from, to, resume } = &args.command;
    let (from, to) = (Place::of(from)?, Place::of(to)?);
    if let Place::Embedded(path) = &from
        && !path.join("store").is_dir()
    {
        // Opening would make an empty one, and nothing would be copied without a word.
        return Err(Failure::Failed(format!("there is no session store in {}", path.display())));
    }
    if from.to_string() == to.to_string() {
        return Err(Failure::Usage(format!("--from and --to are both {from}")));
    }
    let copied = runtime()?.block_on(copy(&from, &to, *resume))?;
    let Copied { sessions, known, revocations } = copied;
    match format {
        Format::Json => print_json(&json!({ "sessions": sessions, "known": known, "revocations": revocations }))?,
        Format::Human => {
            print(&format!("copied {sessions} sessions and {revocations} revocations from {from} to {to}"))?;
            if known > 0 {
                print(&format!("{known} sessions were there already"))?;
            }
        }
    }
    if matches!((&from, &to), (Place::Embedded(_), Place::Redis(..))) {
        remark(
            "note",
            "keys are not in the store: have session.keys name the directory that holds them (data/keys until now)",
        );
    }
    Ok(Outcome::Done)
}

async fn copy(from: &Place, to: &Place, resume: bool) -> Result<Copied, Failure> {
    let source = from.open().await?;
    let target = to.open().await?;
    // Sessions that have ended there since an earlier copy would be there again.
    if !resume && !transfer::is_empty(&*target).await? {
        return Err(Failure::Failed(format!(
            "{to} has sessions already: give an empty store, or --resume to finish a copy that broke off, before any \
             gateway has run on it"
        )));
    }
    let copied = transfer::copy(&*source, &target).await?;
    target.close().await?;
    source.close().await?;
    Ok(copied)
}
