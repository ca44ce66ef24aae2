//! The rule by which routes are chosen, as it is told and without an index.

use http::Method;

/// A route: host (empty is any, `*.` is below), path, methods (none is all).
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) host: String,
    pub(crate) path: String,
    pub(crate) methods: Vec<Method>,
}

impl Entry {
    pub(crate) fn new(host: &str, path: &str, methods: &[Method]) -> Self {
        Self { host: host.to_owned(), path: path.to_owned(), methods: methods.to_vec() }
    }

    fn fits(&self, host: &str, path: &[u8]) -> bool {
        let host_fits = match self.host.strip_prefix('*') {
            _ if self.host.is_empty() => true,
            Some(end) => host.len() > end.len() && host.ends_with(end),
            None => host == self.host,
        };
        let rest = path.strip_prefix(self.path.trim_end_matches('/').as_bytes());
        host_fits && rest.is_some_and(|rest| rest.first().is_none_or(|b| *b == b'/'))
    }

    /// The nearest host counts before the longest path.
    fn rank(&self) -> (bool, bool, usize, usize) {
        let (named, exact) = (!self.host.is_empty(), !self.host.starts_with('*'));
        (named, exact, self.host.len(), self.path.trim_end_matches('/').len())
    }
}

/// Those that differ by their methods alone, and come before all others.
pub(crate) fn candidates(entries: &[Entry], host: &str, path: &[u8]) -> Vec<usize> {
    let fitting = || entries.iter().enumerate().filter(|(_, entry)| entry.fits(host, path));
    let best = fitting().map(|(_, entry)| entry.rank()).max();
    fitting().filter(|(_, entry)| Some(entry.rank()) == best).map(|(index, _)| index).collect()
}

/// The route of a request: `Err` tells whether there is one for another method.
pub(crate) fn route(entries: &[Entry], host: &str, path: &[u8], method: &Method) -> Result<usize, bool> {
    let candidates = candidates(entries, host, path);
    let takes = |index: &usize| entries[*index].methods.is_empty() || entries[*index].methods.contains(method);
    candidates.iter().copied().find(takes).ok_or(!candidates.is_empty())
}

/// The same routes as a configuration; `access` says what each asks for.
pub(crate) fn toml(entries: &[Entry], access: impl Fn(usize) -> &'static str, allow: &[&str]) -> String {
    let mut text = String::from(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[session]\nissuer = \"i\"\naudience = \"a\"\n\
         [upstream.u]\nservers = [\"http://127.0.0.1:1\"]\n",
    );
    for (index, entry) in entries.iter().enumerate() {
        let methods: Vec<&str> = entry.methods.iter().map(Method::as_str).collect();
        text += &format!("[[route]]\npath = {:?}\nupstream = \"u\"\nauth = {:?}\n", entry.path, access(index));
        if !entry.host.is_empty() {
            text += &format!("host = {:?}\n", entry.host);
        }
        if !methods.is_empty() {
            text += &format!("methods = {methods:?}\n");
        }
        if !allow.is_empty() {
            text += &format!("allow_path = {allow:?}\n");
        }
    }
    text
}
