use super::*;
use crate::config::Config;

/// A table of `host path methods access` lines; an empty host is `-`, `*` is any method.
fn table(lines: &[&str]) -> RouteTable {
    let mut text = String::from(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[session]\nissuer = \"i\"\naudience = \"a\"\n[upstream.u]\nservers = [\"http://127.0.0.1:1\"]\n",
    );
    for line in lines {
        let [host, path, methods, access] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        text += &format!("[[route]]\nname = \"{}\"\npath = \"{path}\"\nupstream = \"u\"\nauth = \"{access}\"\n", line);
        if host != "-" {
            text += &format!("host = \"{host}\"\n");
        }
        if methods != "*" {
            text += &format!(
                "methods = [{}]\n",
                methods.split(',').map(|m| format!("\"{m}\"")).collect::<Vec<_>>().join(",")
            );
        }
    }
    RouteTable::new(&Config::parse(&text, "test.toml", std::path::Path::new("/")).unwrap(), |_| None)
}

fn name<'a>(table: &'a RouteTable, host: &str, path: &str) -> Result<&'a str, RouteError> {
    table.find(host, path, &Method::GET).map(|route| &*route.name)
}

#[test]
fn the_longest_prefix_of_whole_segments_wins() {
    let table = table(&["- / * public", "- /orders * required", "- /orders/open * public", "- /a/b/c/d * required"]);
    for (path, route) in [
        ("/", "- / * public"),
        ("/order", "- / * public"),
        ("/orders2", "- / * public"),
        ("/orders", "- /orders * required"),
        ("/orders/", "- /orders * required"),
        ("/orders/17/x/y/z/w", "- /orders * required"),
        ("/orders/open", "- /orders/open * public"),
        ("/orders/open/1", "- /orders/open * public"),
        ("/orders/opened", "- /orders * required"),
        ("/a/b/c", "- / * public"),
        ("/a/b/c/d", "- /a/b/c/d * required"),
        ("/a/b/c/d/e", "- /a/b/c/d * required"),
    ] {
        assert_eq!(name(&table, "", path), Ok(route), "{path}");
    }
}

#[test]
fn an_unknown_route_is_refused() {
    let table = table(&["- /orders * required"]);
    assert_eq!(name(&table, "", "/"), Err(RouteError::NotFound));
    assert_eq!(name(&table, "", "/order"), Err(RouteError::NotFound));
}

#[test]
fn routes_of_the_host_come_before_those_of_any() {
    let table = table(&["a.example /x * required", "- / * public", "b.example / * required"]);
    assert_eq!(name(&table, "a.example", "/x/1"), Ok("a.example /x * required"));
    assert_eq!(name(&table, "a.example", "/y"), Ok("- / * public"));
    assert_eq!(name(&table, "b.example", "/y"), Ok("b.example / * required"));
    assert_eq!(name(&table, "c.example", "/x"), Ok("- / * public"));
}

#[test]
fn a_nearer_host_wins_when_it_has_the_path() {
    let table = table(&[
        "*.example / * public",
        "*.eu.example /x * required",
        "a.eu.example /x/y * required",
        "- /any * public",
        "*.example /any/deep * public",
    ]);
    for (host, path, route) in [
        ("a.eu.example", "/x/y/z", Some("a.eu.example /x/y * required")),
        ("a.eu.example", "/x", Some("*.eu.example /x * required")),
        ("a.eu.example", "/", Some("*.example / * public")),
        ("b.a.eu.example", "/x/y", Some("*.eu.example /x * required")),
        ("eu.example", "/x", Some("*.example / * public")),
        ("example", "/any/deep", Some("- /any * public")),
        ("example", "/", None),
        ("[::ffff:1.example]", "/", None),
        (&"a.".repeat(100), "/x", None),
    ] {
        assert_eq!(name(&table, host, path).ok(), route, "{host}{path}");
    }
}

#[test]
fn no_spelling_takes_a_request_from_a_wildcards_protected_route_to_a_public_one() {
    let table = table(&["- / * public", "*.example /admin * required", "a.example /open * public"]);
    for host in ["a.example", "b.a.example"] {
        assert_eq!(name(&table, host, "/Admin"), Err(RouteError::AmbiguousPath), "{host}");
        assert_eq!(name(&table, host, "/admin;x"), Err(RouteError::AmbiguousPath), "{host}");
    }
    assert!(name(&table, "example", "/Admin").is_ok(), "the domain itself has no such route");
}

#[test]
fn a_route_that_only_observes_asks_for_less_than_one_that_enforces() {
    let text = |mode: &str| {
        format!(
            "[server]\nlisten=[\"127.0.0.1:0\"]\n[session]\nissuer=\"i\"\naudience=\"a\"\n\
             [upstream.u]\nservers=[\"http://127.0.0.1:1\"]\n[[route]]\npath=\"/\"\nupstream=\"u\"\nmode=\"observe\"\n\
             [[route]]\npath=\"/admin\"\nupstream=\"u\"\nmode=\"{mode}\"\n"
        )
    };
    let find = |mode| {
        let config = Config::parse(&text(mode), "test.toml", std::path::Path::new("/")).unwrap();
        RouteTable::new(&config, |_| None).find("", "/Admin", &Method::GET).map(Route::index)
    };
    assert_eq!(find("enforce"), Err(RouteError::AmbiguousPath));
    assert_eq!(find("observe"), Ok(0));
}

#[test]
fn another_method_does_not_fall_through_to_a_shorter_prefix() {
    let table = table(&["- / * public", "- /orders GET,HEAD required", "- /orders POST required"]);
    assert_eq!(name(&table, "", "/orders"), Ok("- /orders GET,HEAD required"));
    assert_eq!(table.find("", "/orders", &Method::POST).map(Route::index).ok(), Some(2));
    assert_eq!(
        table.find("", "/orders", &Method::DELETE).map(Route::index),
        Err(RouteError::MethodNotAllowed(HeaderValue::from_static("GET, HEAD, POST")))
    );
}

#[test]
fn no_spelling_of_a_protected_path_takes_the_public_route() {
    let table = table(&["- / * public", "- /admin * required"]);
    for path in ["/Admin", "/ADMIN/x", "/admin;x", "/admin.", "/admin%20", "/adMin;v=1", "/x/%41"] {
        assert_eq!(name(&table, "", path), Err(RouteError::AmbiguousPath), "{path}");
    }
    // The same spellings below a route that asks for no less are harmless.
    for path in ["/admin/Users", "/admin/report;v", "/Public", "/file;v", "/a.b.", "/x%20"] {
        assert!(name(&table, "", path).is_ok(), "{path}");
    }
}

#[test]
fn a_backend_that_takes_some_liberties_and_not_all_is_not_led_past_a_route_on_the_way() {
    let table = table(&["- / * public", "- /a * required", "- /a/b * public", "- /a/b/c/d * required"]);
    // In lower case and with its parameter `/a/B;x` is below `/a`; without the parameter it is `/a/b`, which is public.
    for path in ["/A/b;x", "/A/b.", "/A/b%20", "/a/b/C/d/e", "/A/B/C/D"] {
        assert_eq!(name(&table, "", path), Err(RouteError::AmbiguousPath), "{path}");
    }
    // No way of reading these leaves the route.
    for (path, route) in
        [("/a/b/Photo.JPG", "- /a/b * public"), ("/a/B;x", "- /a * required"), ("/X/y;z", "- / * public")]
    {
        assert_eq!(name(&table, "", path), Ok(route), "{path}");
    }
}

#[test]
fn no_spelling_reaches_an_upstream_past_a_route_that_answers_itself() {
    let text = "[server]\nlisten=[\"127.0.0.1:0\"]\n[session]\nissuer=\"i\"\naudience=\"a\"\n\
                [upstream.u]\nservers=[\"http://127.0.0.1:1\"]\n[[route]]\npath=\"/\"\nupstream=\"u\"\nauth=\"public\"\n\
                [[route]]\npath=\"/internal\"\nauth=\"public\"\nrespond = { status = 403 }\n";
    let config = Config::parse(text, "test.toml", std::path::Path::new("/")).unwrap();
    let table = RouteTable::new(&config, |_| None);
    assert_eq!(table.find("", "/internal/x", &Method::GET).map(Route::index), Ok(1));
    for path in ["/Internal", "/internal;x", "/internal.", "/INTERNAL/x", "/%EF%BD%89nternal"] {
        assert_eq!(table.find("", path, &Method::GET).map(Route::index), Err(RouteError::AmbiguousPath), "{path}");
    }
}

#[test]
fn a_route_with_a_spelling_of_its_own_is_not_passed_by_either() {
    let table = table(&["- / * public", "- /caf%C3%A9 * required", "- /Admin * required", "- /b%20c * required"]);
    for (path, route) in
        [("/caf%C3%A9/x", "- /caf%C3%A9 * required"), ("/Admin", "- /Admin * required"), ("/x", "- / * public")]
    {
        assert_eq!(name(&table, "", path), Ok(route), "{path}");
    }
    for path in ["/caf%c3%a9", "/caf%C3%a9/x", "/admin", "/ADMIN/x", "/B%20c", "/b%20C/"] {
        assert_eq!(name(&table, "", path), Err(RouteError::AmbiguousPath), "{path}");
    }
}

#[test]
fn a_route_loosens_one_spelling_by_name_and_no_reading_leads_elsewhere() {
    let mut text = String::from(
        "[server]\nlisten=[\"127.0.0.1:0\"]\n[session]\nissuer=\"i\"\naudience=\"a\"\n[upstream.u]\nservers=[\"http://127.0.0.1:1\"]\n",
    );
    text += "[[route]]\npath=\"/\"\nupstream=\"u\"\nauth=\"public\"\nallow_path=[\"encoded_slash\"]\n";
    text += "[[route]]\npath=\"/admin\"\nupstream=\"u\"\n";
    let config = Config::parse(&text, "test.toml", std::path::Path::new("/")).unwrap();
    let table = RouteTable::new(&config, |_| None);
    assert_eq!(table.find("", "/a%2fb", &Method::GET).map(Route::index), Ok(0));
    assert_eq!(table.find("", "/a%5cb", &Method::GET).map(Route::index), Err(RouteError::AmbiguousPath));
    assert_eq!(table.find("", "/%2fadmin", &Method::GET).map(Route::index), Err(RouteError::AmbiguousPath));
    assert_eq!(
        table.find("", "/x%2f..%2fadmin", &Method::GET).map(Route::index),
        Err(RouteError::Path(PathError::DotSegment))
    );
    assert_eq!(table.find("", "/admin/a%2fb", &Method::GET).map(Route::index), Err(RouteError::AmbiguousPath));
}

#[test]
fn a_host_is_compared_without_case_port_and_trailing_dot() {
    for (authority, host) in [
        ("shop.example", "shop.example"),
        ("Shop.Example", "shop.example"),
        ("shop.example.", "shop.example"),
        ("shop.example:8443", "shop.example"),
        ("SHOP.example.:443", "shop.example"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
    ] {
        assert_eq!(host_name(authority).as_deref(), Some(host), "{authority}");
    }
    for bad in [
        "",
        ":80",
        ".",
        "..",
        "a..b",
        "a..",
        "a..:80",
        ".a",
        "a b",
        "a/b",
        "user@a",
        "a:b",
        "a:",
        "a:99999",
        "a:+1",
        "a,b",
        "[::1",
        "[::1]x",
        "[a]",
        "[::1]80",
        "a%00",
        "caf\u{e9}",
        "a\\b",
        "a?b",
        "a#b",
    ] {
        assert_eq!(host_name(bad), None, "{bad}");
    }
}

proptest::proptest! {
    /// The indexed hosts and the plain reading of the rule pick the same route.
    #[test]
    fn hosts_agree_with_a_naive_look_up(host in "[ab]{1,2}(\\.[ab]{1,2}){0,4}") {
        let patterns = ["a.b", "*.b", "*.a.b", "b.a.b", "*.aa.bb", "*.b.b.b"];
        let lines: Vec<String> = patterns.iter().map(|p| format!("{p} / * public")).collect();
        let table = table(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let fits = |pattern: &str| match pattern.strip_prefix('*') {
            Some(end) => host.len() > end.len() && host.ends_with(end),
            None => host == pattern,
        };
        // An exact host is longer than every wildcard that fits it, but for one.
        let naive = patterns.iter().filter(|p| fits(p)).max_by_key(|p| (!p.starts_with('*'), p.len()));
        let naive = naive.map(|p| format!("{p} / * public"));
        proptest::prop_assert_eq!(name(&table, &host, "/").ok().map(str::to_owned), naive);
    }

    /// The indexed table and the plain reading of the rule pick the same route.
    #[test]
    fn agrees_with_a_naive_router(path in "(/[abc]{1,2}){0,5}/?") {
        let prefixes = ["/", "/a", "/a/b", "/ab", "/c/a/b", "/b/b/b/b"];
        let lines: Vec<String> = prefixes.iter().map(|p| format!("- {p} * public")).collect();
        let table = table(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let path = if path.is_empty() { "/".to_owned() } else { path };
        let naive = prefixes
            .iter()
            .filter(|p| **p == "/" || path == **p || path.strip_prefix(**p).is_some_and(|rest| rest.starts_with('/')))
            .max_by_key(|p| p.len())
            .map(|p| format!("- {p} * public"));
        proptest::prop_assert_eq!(name(&table, "", &path).ok().map(str::to_owned), naive);
    }
}
