//! `[[route]]`.

use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use toml::de::DeTable;

use super::nearest::suggestion;
use super::reader::{Table, Value};
use super::{Access, Route, Upstream, WhenStale, names, shape, streams};
use crate::path::Spellings;

const TICK: Duration = Duration::from_millis(1);

/// The routes. `upstreams` are the names they may use.
pub(super) fn routes(root: &Table<'_>, upstreams: &[Upstream]) -> Vec<Route> {
    // As its name will be, but from the values as they stand there: any of them may be at fault.
    let label = |entries: &DeTable<'_>| {
        let raw = |key| entries.get(key).and_then(|value| value.get_ref().as_str()).unwrap_or_default();
        let name =
            if raw("name").is_empty() { format!("{}{}", raw("host"), raw("path")) } else { raw("name").to_owned() };
        (!name.is_empty()).then(|| format!("route {name:?}"))
    };
    let tables = root.sections("route", &shape::ROUTE, label);
    tables.iter().map(|table| route(table, upstreams)).collect()
}

fn route(table: &Table<'_>, upstreams: &[Upstream]) -> Route {
    let name = table.get("name").and_then(|value| value.name("a name"));
    let host = table.get("host").map(|value| value.parsed("a host name", names::host));
    let path = table.require("path", "one such as \"/orders\"");
    let path = path.and_then(|value| value.parsed("a path such as \"/orders\"", path_of)).unwrap_or_default();
    let host = host.flatten();
    const ACCESS: [(&str, Access); 3] =
        [("required", Access::Required), ("optional", Access::Optional), ("public", Access::Public)];
    const WHEN_STALE: [(&str, WhenStale); 2] = [("serve", WhenStale::Serve), ("refuse", WhenStale::Refuse)];
    Route {
        name: match name {
            Some(name) => name.into(),
            None => Arc::from(format!("{}{path}", host.as_deref().unwrap_or_default())),
        },
        host,
        path,
        methods: table.get("methods").map(|value| methods(&value)).unwrap_or_default(),
        upstream: table
            .require("upstream", "the name of an [upstream.NAME]")
            .and_then(|value| upstream_index(&value, upstreams))
            .unwrap_or(usize::MAX),
        access: table.get("auth").and_then(|value| value.choice(&ACCESS)).unwrap_or(Access::Required),
        forward_token: table.get("forward_token").and_then(|value| value.flag()).unwrap_or(false),
        allow_path: table.get("allow_path").map(|value| spellings(&value)).unwrap_or_default(),
        issuers: table
            .get("issuers")
            .map(|value| {
                value.each(value.some_items("names of issuers"), |item| {
                    item.name("the name of an issuer").map(str::to_owned)
                })
            })
            .unwrap_or_default(),
        response_timeout: table.get("response_timeout").and_then(|value| value.duration(TICK)),
        body_bytes: table
            .get("body_bytes")
            .and_then(|value| value.size_or_unlimited())
            .map(|size| size.and_then(NonZeroU64::new)),
        when_stale: table.get("when_stale").and_then(|value| value.choice(&WHEN_STALE)).unwrap_or(WhenStale::Serve),
        on_token_expiry: table.get("on_token_expiry").map(|value| streams::on_token_expiry(&value)).unwrap_or_default(),
        upgrades: table.get("upgrades").map(|value| streams::upgrades(&value)).unwrap_or_default(),
    }
}

/// A canonical path without a slash at its end, which would not change what it matches.
fn path_of(text: &str) -> Result<String, String> {
    names::canonical_route_path(text)?;
    Ok(match text.trim_end_matches('/') {
        "" => String::from("/"),
        trimmed => trimmed.to_owned(),
    })
}

fn methods(value: &Value<'_>) -> Vec<Method> {
    let items = value.items("methods such as \"GET\"");
    if items.is_empty() && !value.document().faulty(value.key_path()) {
        value.report("is empty, expected methods such as \"GET\", or leave it out for any");
    }
    value.each(items, |item| item.parsed("a method such as \"GET\"", names::method))
}

fn upstream_index(value: &Value<'_>, upstreams: &[Upstream]) -> Option<usize> {
    let name = value.text("the name of an [upstream.NAME]")?;
    let index = upstreams.iter().position(|upstream| &*upstream.name == name);
    if index.is_none() {
        let known = upstreams.iter().map(|upstream| &*upstream.name);
        value.fault_absent(format_args!("is not defined{}", suggestion(name, known)));
    }
    index
}

fn spellings(value: &Value<'_>) -> Spellings {
    let items = value.items("spellings such as \"encoded_slash\"");
    let all = value.each(items, |item| {
        item.parsed("the name of a spelling", |text| {
            let known = Spellings::NAMES.iter().copied();
            Spellings::named(text).ok_or_else(|| format!("is not known{}", suggestion(text, known)))
        })
    });
    all.into_iter().fold(Spellings::default(), Spellings::with)
}
