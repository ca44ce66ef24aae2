//! Capabilities: what of the superuser's power is left.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD};
use rustix::io::Errno;
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::files;
use crate::config::{Config, ServerAddress};

/// Takes all capabilities out of the bounding set: no program started from here can have them.
///
/// # Errors
/// As the system says: without `CAP_SETPCAP` there is nothing to be done, and nothing to be feared.
pub(super) fn bound() -> io::Result<()> {
    // The kernel says where its list ends.
    for bit in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << bit);
        match rustix::thread::capability_is_in_bounding_set(one) {
            Ok(true) => rustix::thread::remove_capability_from_bounding_set(one)?,
            Ok(false) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

/// Gives up all capabilities; why `CAP_DAC_OVERRIDE` stays, if it does.
///
/// A superuser without it is a user like any other to the files of others: where those are named, it is kept.
///
/// # Errors
/// As the system says.
pub(super) fn give_up(config: &Config) -> io::Result<Option<String>> {
    let none = CapabilitySet::empty();
    let before = rustix::thread::capabilities(None)?;
    let keeps = |sets: CapabilitySets| rustix::thread::set_capabilities(None, sets).map_err(io::Error::from);
    // Kernels before 4.3 have no ambient set.
    let _ = rustix::thread::clear_ambient_capability_set();
    // Not yet for good: what cannot be done without is found out by trying.
    keeps(CapabilitySets { effective: none, permitted: before.permitted, inheritable: none })?;
    let needed = CapabilitySet::DAC_OVERRIDE & before.permitted;
    let why = if needed.is_empty() { None } else { out_of_reach(config) };
    let kept = if why.is_some() { needed } else { none };
    keeps(CapabilitySets { effective: kept, permitted: kept, inheritable: none })?;
    Ok(why)
}

/// A file that this process must open and cannot, in words.
fn out_of_reach(config: &Config) -> Option<String> {
    let may = |path: &Path, access| {
        // A file system that nobody can write to is as it should be for keys that others make.
        matches!(rustix::fs::accessat(CWD, path, access, AtFlags::EACCESS), Ok(()) | Err(Errno::ROFS))
    };
    // What is not there at all is for others to tell; what cannot even be looked for is another user's.
    let hidden = |path: &Path| !matches!(path.symlink_metadata(), Err(error) if error.kind() == ErrorKind::NotFound);
    let mut read = files::named(config).into_iter();
    let mut written = files::written(config).into_iter().flat_map(|directory| {
        // One that is still to be made is made in the nearest that is there.
        let there = directory.ancestors().find(|path| hidden(path)).map(Path::to_owned);
        match there {
            Some(there) if there != directory => vec![there],
            _ => everything_in(&directory),
        }
    });
    let out = read
        .find(|path| hidden(path) && !may(path, Access::READ_OK))
        .or_else(|| written.find(|path| hidden(path) && !may(path, Access::READ_OK | Access::WRITE_OK)));
    if let Some(path) = out {
        return Some(format!("{} is another user's", path.display()));
    }
    // Who makes a socket, and when, shows only when it is connected to.
    let mut servers = config.upstreams.iter().flat_map(|upstream| &upstream.servers);
    let socket = servers.find(|server| matches!(server.address, ServerAddress::Unix(_)));
    socket.map(|server| format!("{} may be another user's", server.address))
}

/// A directory and what is below it, as far as it can be read: 10,000 files and directories at most.
fn everything_in(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).filter(|_| found.len() < 10_000) {
        if path.symlink_metadata().is_ok_and(|one| one.is_dir())
            && let Ok(entries) = std::fs::read_dir(path)
        {
            let entries = entries.flatten().map(|entry| entry.path()).collect::<Vec<_>>();
            found.extend(entries);
        }
        next += 1;
    }
    found
}
