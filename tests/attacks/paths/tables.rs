//! Route tables under attack, and the plain reading of the rule by which routes are chosen.

/// What a route of a table does with a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Rule {
    /// Everybody may.
    Public,
    /// A token is needed.
    Protected,
    /// Nobody may: it has an answer of its own.
    Closed,
}

/// A route: its name is what the upstream is told in `X-Route`.
pub(super) struct Entry {
    pub(super) host: &'static str,
    pub(super) path: &'static str,
    pub(super) rule: Rule,
    /// What stands in place of `path` for the upstream; the same when nothing is said.
    pub(super) becomes: Option<&'static str>,
    pub(super) allow: &'static str,
}

/// Routes, and the paths and hosts that spellings are made of.
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) entries: Vec<Entry>,
    pub(super) hosts: &'static [&'static str],
    pub(super) paths: &'static [&'static str],
}

impl Entry {
    fn of(host: &'static str, path: &'static str, rule: Rule) -> Self {
        Self { host, path, rule, becomes: None, allow: "" }
    }

    fn becoming(self, to: &'static str) -> Self {
        Self { becomes: Some(to), ..self }
    }

    fn allowing(self, allow: &'static str) -> Self {
        Self { allow, ..self }
    }

    /// What the upstream gets of a target that this route takes.
    pub(super) fn forwarded(&self, target: &str) -> String {
        let Some(to) = self.becomes else { return target.to_owned() };
        let rest = target.strip_prefix(self.path.trim_end_matches('/')).unwrap_or(target);
        let whole = format!("{to}{rest}");
        if whole.starts_with('/') { whole } else { format!("/{whole}") }
    }

    fn fits(&self, host: &str, path: &[u8]) -> bool {
        let prefix = self.path.trim_end_matches('/').as_bytes();
        let host_fits = match self.host.strip_prefix('*') {
            _ if self.host.is_empty() => true,
            Some(end) => host.len() > end.len() && host.ends_with(end),
            None => host == self.host,
        };
        host_fits && path.strip_prefix(prefix).is_some_and(|rest| rest.first().is_none_or(|b| *b == b'/'))
    }
}

impl Table {
    /// The rule as it is told: the nearest host that has the path, then the longest path of whole segments.
    pub(super) fn route(&self, host: &str, path: &[u8]) -> Option<&Entry> {
        let nearness = |entry: &Entry| (!entry.host.is_empty(), !entry.host.starts_with('*'), entry.host.len());
        let fitting = self.entries.iter().filter(|entry| entry.fits(host, path));
        fitting.max_by_key(|entry| (nearness(entry), entry.path.trim_end_matches('/').len()))
    }

    /// The routes as the configuration has them.
    pub(super) fn toml(&self) -> String {
        let mut text = String::new();
        for (index, entry) in self.entries.iter().enumerate() {
            text += &format!("[[route]]\npath = {:?}\n", entry.path);
            if !entry.host.is_empty() {
                text += &format!("host = {:?}\n", entry.host);
            }
            text += match entry.rule {
                Rule::Public => "auth = \"public\"\n",
                Rule::Protected => "auth = \"required\"\n",
                Rule::Closed => "auth = \"public\"\nrespond = { status = 403 }\n\n",
            };
            if entry.rule == Rule::Closed {
                continue;
            }
            text += match entry.becomes {
                None => "",
                Some("") => "strip_prefix = true\n",
                Some(_) => "rewrite = ",
            };
            if let Some(to) = entry.becomes.filter(|to| !to.is_empty()) {
                text += &format!("{to:?}\n");
            }
            if !entry.allow.is_empty() {
                let names: Vec<String> = entry.allow.split(' ').map(|name| format!("{name:?}")).collect();
                text += &format!("allow_path = [{}]\n", names.join(", "));
            }
            text += &format!("upstream = \"app\"\nrequest_headers = {{ set = {{ X-Route = \"{index}\" }} }}\n\n");
        }
        text
    }
}

/// All that a route may allow.
const ALL: &str = "empty_segment backslash matrix_parameter encoded_slash encoded_backslash encoded_dot encoded_percent \
                   encoded_semicolon encoded_question_mark encoded_hash encoded_unreserved invalid_utf8";

const HERE: &[&str] = &["localhost"];

pub(super) fn tables() -> Vec<Table> {
    use Rule::{Closed, Protected, Public};
    vec![
        Table {
            name: "public within protected",
            entries: vec![
                Entry::of("", "/", Protected),
                Entry::of("", "/public", Public),
                Entry::of("", "/assets/open", Public),
                Entry::of("", "/assets/open/staff", Protected),
            ],
            hosts: HERE,
            paths: &["/admin/users", "/public/x", "/assets/open/staff/x", "/assets/close", "/public"],
        },
        Table {
            name: "protected within public",
            entries: vec![
                Entry::of("", "/", Public),
                Entry::of("", "/admin", Protected),
                Entry::of("", "/shop/mine", Protected),
                Entry::of("", "/shop/mine/open", Public),
                Entry::of("", "/internal", Closed),
            ],
            hosts: HERE,
            paths: &["/admin", "/admin/users", "/shop/mine/x", "/shop/mine/open/x", "/internal/keys"],
        },
        Table {
            name: "hosts and wildcards",
            entries: vec![
                Entry::of("", "/", Public),
                Entry::of("a.example", "/admin", Protected),
                Entry::of("*.example", "/", Public),
                Entry::of("*.example", "/admin", Protected),
                Entry::of("*.eu.example", "/", Protected),
                Entry::of("*.eu.example", "/public", Public),
                Entry::of("b.example", "/", Protected),
                Entry::of("b.example", "/open", Public),
            ],
            hosts: &[
                "a.example",
                "A.Example:443",
                "a.example.",
                "b.example",
                "B.EXAMPLE.:80",
                "x.eu.example",
                "c.example",
                "deep.X.eu.example.",
                "example",
                "b.example:8443",
                "other",
            ],
            paths: &["/admin", "/admin/users", "/open/x", "/public/x", "/x"],
        },
        Table {
            name: "stripped and rewritten",
            entries: vec![
                Entry::of("", "/", Public),
                Entry::of("", "/api", Public).becoming("").allowing("empty_segment encoded_slash encoded_percent"),
                Entry::of("", "/api/admin", Protected).becoming(""),
                Entry::of("", "/old", Public).becoming("/v2/api"),
                Entry::of("", "/old/mine", Protected).becoming("/mine"),
                Entry::of("", "/admin", Protected),
            ],
            hosts: HERE,
            paths: &["/api/admin/x", "/api/x", "/old/mine/x", "/old/x", "/admin"],
        },
        Table {
            name: "loosened by name",
            entries: vec![
                Entry::of("", "/", Public).allowing(ALL),
                Entry::of("", "/admin", Protected).allowing("encoded_slash"),
                Entry::of("", "/files", Public).allowing("encoded_slash encoded_question_mark encoded_percent"),
                Entry::of("", "/files/own", Protected).allowing(ALL),
                Entry::of("", "/files/own/open", Public).allowing(ALL),
            ],
            hosts: HERE,
            paths: &["/admin", "/admin/users", "/files/own/x", "/files/own/open/x", "/files/x"],
        },
    ]
}
