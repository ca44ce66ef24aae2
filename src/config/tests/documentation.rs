//! `docs/configuration.md` beside the code: the keys it has, and the defaults it gives.

use std::collections::BTreeSet;

use super::*;
use crate::config::shape::Shape;

/// What stands below one heading of the page.
struct Section<'d> {
    /// The tables it is for, as the file writes their headers.
    titles: Vec<&'d str>,
    /// The first two cells of each row of its table: the keys, and their defaults.
    rows: Vec<(&'d str, &'d str)>,
}

/// What stands in backticks.
fn code(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn sections(page: &str) -> Vec<Section<'_>> {
    let sections = page.split("\n## ").skip(1).map(|text| {
        let (heading, text) = text.split_once('\n').unwrap();
        let rows = text.lines().filter(|line| line.starts_with("| `")).map(|line| {
            let mut cells = line.trim_start_matches("| ").split(" | ");
            (cells.next().unwrap(), cells.next().unwrap())
        });
        Section { titles: code(heading), rows: rows.collect() }
    });
    sections.filter(|section| !section.titles.is_empty()).collect()
}

fn page() -> String {
    fs::read_to_string(root().join("docs/configuration.md")).unwrap()
}

/// Such as `upstream.NAME.tls`.
fn path(title: &str) -> &str {
    title.trim_matches(['[', ']'])
}

#[test]
fn every_key_stands_under_the_heading_of_its_table_and_none_that_is_not_there() {
    let page = page();
    let sections = sections(&page);
    let titles: BTreeSet<&str> = sections.iter().flat_map(|section| section.titles.clone()).collect();
    let documented = |shape: &Shape| -> BTreeSet<&str> {
        let own = sections.iter().filter(|section| section.titles.contains(&shape.title));
        own.flat_map(|section| section.rows.iter().flat_map(|(keys, _)| code(keys))).collect()
    };
    for shape in shape::ALL {
        let documented = documented(shape);
        for key in shape.keys {
            // A table within a table has a heading of its own, or one for what is in it alone.
            let own = if std::ptr::eq(shape, &shape::ROOT) {
                (*key).to_owned()
            } else {
                format!("{}.{key}", path(shape.title))
            };
            let is_own = |title: &&str| {
                path(title).strip_prefix(own.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
            };
            let headed = titles.iter().any(is_own);
            assert!(headed || documented.contains(key), "{}: {key} is not in docs/configuration.md", shape.title);
        }
        for key in documented {
            assert!(shape.keys.contains(&key), "docs/configuration.md has {key}, {} has not", shape.title);
        }
    }
    for title in titles {
        assert!(shape::ALL.iter().any(|shape| shape.title == title), "docs/configuration.md has {title}");
    }
}

/// A file in which every table has what it must have, and no more.
const BARE: &str = r#"
[server]
listen = ["127.0.0.1:0"]
[[server.listener]]
address = "127.0.0.1:0"
[[server.tls.certificate]]
chain = "chain.pem"
key = "key.pem"
[admin]
token = "env:FIXTURE_ADMIN_TOKEN"
[auth]
cors = { origins = ["https://app.example.com"] }
[session]
issuer = "own"
audience = "shop"
[store]
[limits]
[log]
[sandbox]
[[trusted_issuer]]
issuer = "other"
audience = ["shop"]
jwks_file = "jwks.json"
[upstream.NAME]
servers = [{ url = "https://one.internal" }]
health = { path = "/healthz" }
ejection = {}
[[route]]
path = "/"
upstream = "NAME"
cors = { origins = ["https://app.example.com"] }
rate_limit = [{ by = "user", rate = "1/1s" }]
"#;

/// The file above with what must be there for `key` of the table at `path` to mean anything.
fn bare(path: &str, key: &str) -> toml::Table {
    let changes: &[(&str, &str)] = match (path, key) {
        ("upstream.NAME", "queue" | "queue_timeout") => &[("[upstream.NAME]", "[upstream.NAME]\nmax_connections = 7")],
        ("upstream.NAME", "hash_by") => &[("[upstream.NAME]", "[upstream.NAME]\nbalance = \"hash\"")],
        ("store", "path") => &[],
        ("store", _) => {
            &[("[store]", "[store]\nredis = \"redis://one.internal\""), ("[session]", "[session]\nkeys = \"keys\"")]
        }
        ("route", "redirect_status") => &[("upstream = \"NAME\"", "redirect = \"https://new.example.com\"")],
        ("route.respond", _) => &[("upstream = \"NAME\"", "respond = { body = \"x\" }")],
        _ => &[],
    };
    let text = changes.iter().fold(BARE.to_owned(), |text, (from, to)| text.replace(from, to));
    toml::from_str(&text).unwrap()
}

/// The table at `path`; the first one of an array.
fn table<'f>(file: &'f mut toml::Table, path: &str) -> &'f mut toml::Table {
    path.split('.').fold(file, |table, name| match table.get_mut(name) {
        Some(toml::Value::Table(inner)) => inner,
        Some(toml::Value::Array(items)) => items[0].as_table_mut().unwrap(),
        _ => panic!("no {name} of {path} in the bare file"),
    })
}

/// All that a configuration says, but for where it stands in its file.
fn said(file: &toml::Table) -> String {
    let text = toml::to_string(file).unwrap();
    let config = parse(&text).unwrap_or_else(|faults| panic!("{text}\n{faults}"));
    let Config {
        server, admin, auth, session, store, limits, log, sandbox, trusted_issuers, upstreams, routes, ..
    } = config;
    format!("{:?}", (server, admin, auth, session, store, limits, log, sandbox, trusted_issuers, upstreams, routes))
}

#[test]
fn a_default_that_is_written_out_changes_nothing() {
    let page = page();
    let mut tried = 0;
    for section in sections(&page) {
        for (keys, defaults) in &section.rows {
            // Defaults in words, such as "the system's", are for people.
            let literal = defaults.split('`').step_by(2).all(|between| matches!(between, "" | ", "));
            if !literal {
                continue;
            }
            let (keys, defaults) = (code(keys), code(defaults));
            assert_eq!(keys.len(), defaults.len(), "{keys:?} have {defaults:?}: one for each");
            let pairs = keys.iter().zip(defaults);
            for (title, (key, default)) in
                section.titles.iter().flat_map(|title| pairs.clone().map(move |it| (title, it)))
            {
                let mut file = bare(path(title), key);
                let without = said(&file);
                let value = toml::from_str::<toml::Table>(&format!("it = {default}")).unwrap().remove("it").unwrap();
                table(&mut file, path(title)).insert((*key).to_owned(), value);
                assert!(said(&file) == without, "{title}: {key} = {default} is not its default");
                tried += 1;
            }
        }
    }
    assert!(tried > 60, "only {tried} defaults were found");
}
