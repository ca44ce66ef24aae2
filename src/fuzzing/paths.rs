//! Any bytes as a path, against the rule as it is told and against how backends read.

use std::path::Path;
use std::sync::LazyLock;

use http::Method;

use super::naive::{self, Entry};
use super::readings::readings;
use crate::config::{Access, Config};
use crate::path::Spellings;
use crate::route::RouteTable;

struct Tables {
    entries: Vec<Entry>,
    /// Without a spelling allowed by name, and with all of them.
    tables: Vec<RouteTable>,
}

fn is_public(index: usize) -> bool {
    index.is_multiple_of(2)
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let entries: Vec<Entry> = [
        ("", "/"),
        ("", "/admin"),
        ("", "/admin/open"),
        ("", "/shop/mine"),
        ("a.example", "/"),
        ("a.example", "/b/c"),
        ("*.example", "/x"),
        ("*.example", "/x/y"),
    ]
    .iter()
    .map(|(host, path)| Entry::new(host, path, &[]))
    .collect();
    let access = |index| if is_public(index) { "public" } else { "required" };
    let table = |allow: &[&str]| {
        let config = Config::parse(&naive::toml(&entries, access, allow), "fuzz.toml", Path::new("/")).ok()?;
        Some(RouteTable::new(&config, |_| None))
    };
    let tables = [table(&[]), table(Spellings::NAMES)].into_iter().flatten().collect();
    Tables { entries, tables }
});

/// The first byte chooses a host, the rest is a path: the table chooses as the plain rule does, and what passes as public
/// is protected to no backend.
pub fn route(data: &[u8]) {
    let Some((first, path)) = data.split_first() else { return };
    let Ok(path) = std::str::from_utf8(path) else { return };
    let Tables { entries, tables } = &*TABLES;
    assert_eq!(tables.len(), 2, "the tables are sound");
    let host = ["", "a.example", "b.example", "other"][usize::from(*first) % 4];
    for table in tables {
        let Ok(route) = table.find(host, path, &Method::GET) else { continue };
        let plain = naive::route(entries, host, path.as_bytes(), &Method::GET);
        assert_eq!(plain, Ok(route.index()), "{host} {path:?}");
        if route.access != Access::Public {
            continue;
        }
        for read in readings(path.as_bytes()) {
            let to = naive::candidates(entries, host, &read);
            assert!(to.into_iter().all(is_public), "{host} {path:?} is {:?} to some", String::from_utf8_lossy(&read));
        }
    }
}
