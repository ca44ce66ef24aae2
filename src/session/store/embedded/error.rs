//! Why a data directory cannot be used: what was found, in which file, and what to do.

use std::io;
use std::path::PathBuf;

use super::record;

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is a file in its place.
    #[error("data directory {} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// Another process has it open. Two would hand out two successors of one refresh token.
    #[error("data directory {} is used by another process", .0.display())]
    InUse(PathBuf),
    /// It, or something in it, cannot be made, read or written.
    #[error("cannot {doing} data directory {}", path.display())]
    Io {
        /// `create`, `lock`, …
        doing: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A later version of Portcullis has written it.
    #[error("data directory {} has format {found}, this version knows formats up to {}", path.display(), record::FORMAT)]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// What is there.
        found: u32,
    },
    /// The database in it cannot be read.
    #[error("cannot open the session store in {}", path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A file in it holds other bytes than were written and synced.
    #[error(
        "{} is damaged at byte {offset}: sessions ended or refreshed since would be forgotten; put the data directory \
         back from a copy, or move it away to begin anew (docs/security.md)",
        file.display()
    )]
    DamagedFile {
        /// The file.
        file: PathBuf,
        /// Where the damage begins.
        offset: u64,
    },
    /// A file in it has gone.
    #[error(
        "{} is missing: sessions ended or refreshed may be forgotten; put the data directory back from a copy, or move \
         it away to begin anew (docs/security.md)",
        .0.display()
    )]
    Missing(PathBuf),
    /// Changes that were acknowledged are not in it.
    #[error(
        "the session store in {} ends with change {found}, but change {acknowledged} was acknowledged: sessions ended \
         or refreshed since would be forgotten; put the data directory back from a copy, or move it away to begin anew \
         (docs/security.md)",
        path.display()
    )]
    Lost {
        /// The directory.
        path: PathBuf,
        /// The last change that is there.
        found: u64,
        /// The last change that somebody was told of.
        acknowledged: u64,
    },
}
