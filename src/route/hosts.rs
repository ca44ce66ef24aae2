//! The look-up of a host and a path: exact hosts, wildcards, paths by their segments.

use std::collections::HashMap;
use std::hash::BuildHasher;

use smallvec::SmallVec;

use crate::config::HostPattern;

/// The routes of each host, and those of any.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    named: HashMap<Box<str>, Paths>,
    /// By the domain that a wildcard stands below.
    below: HashMap<Box<str>, Paths>,
    /// Bytes of the longest such domain: longer ones are not looked up.
    longest: usize,
    any: Paths,
}

impl Hosts {
    pub(super) fn insert(&mut self, host: Option<&HostPattern>, path: &str, index: usize) {
        let paths = match host {
            Some(HostPattern::Exact(host)) => self.named.entry(host.as_str().into()).or_default(),
            Some(HostPattern::Below(domain)) => {
                self.longest = self.longest.max(domain.len());
                self.below.entry(domain.as_str().into()).or_default()
            }
            None => &mut self.any,
        };
        paths.insert(path, index);
    }

    /// Routes of this very host come first, then those of the longest wildcard, then those of shorter ones, last those
    /// of any host: each is looked at when none before has the path.
    pub(super) fn find(&self, host: &str, path: &str) -> Option<&[usize]> {
        let named = if self.named.is_empty() { None } else { self.named.get(host).and_then(|paths| paths.find(path)) };
        named.or_else(|| self.find_below(host, path)).or_else(|| self.any.find(path))
    }

    /// All that [`Self::find`] would look at, in its order: hosts, then their prefixes of `path` from the longest on.
    pub(super) fn all<'h>(&'h self, host: &'h str, path: &'h str) -> impl Iterator<Item = &'h [usize]> {
        let below = host.match_indices('.').filter_map(|(dot, _)| self.below.get(&host[dot + 1..]));
        let hosts = self.named.get(host).into_iter().chain(below).chain(std::iter::once(&self.any));
        hosts.flat_map(move |paths| paths.all(path))
    }

    /// One look-up for each dot in the part of the host that a wildcard could stand below.
    fn find_below(&self, host: &str, path: &str) -> Option<&[usize]> {
        if self.below.is_empty() {
            return None;
        }
        let domains = host.match_indices('.').map(|(dot, _)| &host[dot + 1..]);
        let mut domains = domains.skip_while(|domain| domain.len() > self.longest);
        domains.find_map(|domain| self.below.get(domain).and_then(|paths| paths.find(path)))
    }
}

/// The routes of one host.
#[derive(Debug, Default)]
struct Paths<S = std::collections::hash_map::RandomState> {
    /// Prefix without a slash at its end (the root is empty) → routes, told apart by their methods.
    prefixes: HashMap<Box<str>, Vec<usize>, S>,
    /// Segments of the longest prefix: deeper ones are not looked up.
    depth: usize,
}

impl<S: BuildHasher> Paths<S> {
    fn insert(&mut self, path: &str, index: usize) {
        let prefix = path.trim_end_matches('/');
        self.depth = self.depth.max(prefix.matches('/').count());
        self.prefixes.entry(prefix.into()).or_default().push(index);
    }

    /// The routes of every prefix of whole segments, the longest first.
    fn all<'p>(&'p self, path: &'p str) -> impl Iterator<Item = &'p [usize]> {
        let ends = path.match_indices('/').take(self.depth + 1).map(|(at, _)| at).chain(std::iter::once(path.len()));
        let ends: SmallVec<[usize; 16]> = ends.collect();
        ends.into_iter().rev().filter_map(|end| self.prefixes.get(&path[..end]).map(Vec::as_slice))
    }

    /// The routes of the longest prefix of whole segments. At most `depth + 1` look-ups.
    fn find(&self, path: &str) -> Option<&[usize]> {
        let bytes = path.as_bytes();
        // The end of the deepest prefix that could match.
        let mut slashes = bytes.iter().enumerate().filter(|(_, b)| **b == b'/');
        let mut end = slashes.nth(self.depth).map_or(bytes.len(), |(at, _)| at);
        loop {
            if let Some(routes) = self.prefixes.get(&path[..end]) {
                return Some(routes);
            }
            end = bytes[..end].iter().rposition(|b| *b == b'/')?;
        }
    }
}
