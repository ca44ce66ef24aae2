//! The loader as a whole, on the files in `tests/fixtures/config` and the example that is shipped.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::*;

mod documentation;

const ADMIN_TOKEN: &str = "fixture-admin-token-0123456789";

/// What stands in fixtures where a secret must not be shown.
const SHOWN_SECRET: &str = "hunter2-hunter2";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn environment(name: &str) -> Option<OsString> {
    match name {
        "FIXTURE_ADMIN_TOKEN" => Some(format!("{ADMIN_TOKEN}\n").into()),
        "FIXTURE_SHORT" => Some(SHOWN_SECRET.into()),
        "FIXTURE_SPACES" => Some(format!("{SHOWN_SECRET} {SHOWN_SECRET}").into()),
        _ => None,
    }
}

fn parse(text: &str) -> Result<Config, Faults> {
    Config::parse_in(text, "config.toml", &root().join("tests/fixtures/config/valid"), environment)
}

/// The fixtures of `kind`: name and text, in the order of their names. There is at least one.
fn fixtures(kind: &str) -> Vec<(PathBuf, String)> {
    let directory = root().join("tests/fixtures/config").join(kind);
    let mut paths = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect::<Vec<_>>();
    paths.sort();
    assert!(!paths.is_empty(), "no fixtures in {}", directory.display());
    paths.into_iter().map(|path| (path.clone(), fs::read_to_string(&path).unwrap())).collect()
}

/// `text` with the machine's own directory taken out.
fn portable(text: &str) -> String {
    text.replace(&root().join("tests/fixtures/config/invalid").display().to_string(), "DIR")
}

#[test]
fn valid_fixtures_load() {
    for (path, text) in fixtures("valid") {
        let config = parse(&text);
        assert!(config.is_ok(), "{}:\n{}", path.display(), config.unwrap_err());
    }
}

/// To write the expectations anew, run with `BLESS=1` and look at the difference.
#[test]
fn invalid_fixtures_have_exactly_their_faults() {
    for (path, text) in fixtures("invalid") {
        let faults = Config::parse_in(&text, "config.toml", path.parent().unwrap(), environment).unwrap_err();
        let shown = portable(&format!("{faults}\n"));
        assert!(!shown.contains(SHOWN_SECRET), "{} shows a secret:\n{shown}", path.display());
        let expected_path = path.with_extension("txt");
        if std::env::var_os("BLESS").is_some() {
            fs::write(&expected_path, &shown).unwrap();
        }
        let expected = fs::read_to_string(&expected_path).unwrap_or_default();
        assert_eq!(shown, expected, "{}", path.display());
    }
}

#[test]
fn five_faults_of_five_kinds_are_all_reported_with_their_places() {
    let text = fs::read_to_string(root().join("tests/fixtures/config/invalid/five_kinds.toml")).unwrap();
    let places = parse(&text).unwrap_err().into_iter().map(|fault| fault.position.unwrap()).collect::<Vec<_>>();
    let expected = [(3, 1), (4, 11), (9, 16), (17, 12), (21, 8)];
    assert_eq!(places, expected.map(|(line, column)| Position { line, column }));
}

#[test]
fn the_shipped_example_loads() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    fs::copy(root().join("config.example.toml"), &path).unwrap();
    fs::create_dir(directory.path().join("secrets")).unwrap();
    fs::write(directory.path().join("secrets/admin-token"), format!("{ADMIN_TOKEN}\n")).unwrap();
    let config = Config::load(&path).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.admin.unwrap().token.expose(), ADMIN_TOKEN);
    assert_eq!(config.server.certificates[0].chain, directory.path().join("tls/fullchain.pem"));
    assert_eq!(config.store.path, directory.path().join("data"));
    assert_eq!(config.routes.len(), 3);
}

/// The setting in a line of comment that starts with `# ` and then has a key or a header.
fn commented_setting(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("# ")?;
    let (key, value) = rest.split_at(rest.find(|c: char| !matches!(c, 'a'..='z' | '0'..='9' | '_'))?);
    (rest.starts_with('[') || (!key.is_empty() && value.starts_with(" = "))).then_some(rest)
}

#[test]
fn what_the_example_leaves_out_in_comments_is_valid_too() {
    // A line that starts with `# ` and then a key or a header is an example of a setting.
    let text = fs::read_to_string(root().join("config.example.toml")).unwrap();
    let all = text.lines().map(|line| commented_setting(line).unwrap_or(line)).collect::<Vec<_>>().join("\n");
    assert!(all.contains("\n[[trusted_issuer]]\n") && all.contains("\nconnections = 10000"));
    let all = all.replace("file:secrets/admin-token", "env:FIXTURE_ADMIN_TOKEN");
    assert!(parse(&all).is_ok(), "{}", parse(&all).unwrap_err());
}

#[test]
fn the_shared_store_of_the_example_is_valid_in_place_of_the_embedded_one() {
    // A line that starts with `#   ` is a setting that does not go with all others.
    let text = fs::read_to_string(root().join("config.example.toml")).unwrap();
    let shared = text.lines().filter(|line| !line.starts_with("path = \"data\"")).map(|line| match line {
        _ if line.starts_with("# keys = ") => &line[2..],
        _ => line.strip_prefix("#   ").unwrap_or(line),
    });
    let shared = shared.collect::<Vec<_>>().join("\n").replace("file:secrets/admin-token", "env:FIXTURE_ADMIN_TOKEN");
    let config = parse(&shared.replace("file:secrets/redis-password", "env:FIXTURE_SHORT"));
    let config = config.unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(config.store.describe(), "rediss://redis.internal:6379");
    assert!(config.store.redis.unwrap().password.is_some());
    assert_eq!(config.routes[0].when_stale, WhenStale::Refuse);
}

#[test]
fn a_file_that_cannot_be_read_is_one_fault() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    let shown = |path: &Path| Config::load(path).unwrap_err().to_string().replace(&path.display().to_string(), "FILE");
    assert_eq!(shown(&path), "FILE: cannot read the configuration: no such file\n1 fault");
    assert_eq!(shown(directory.path()), "FILE: cannot read the configuration: it is a directory\n1 fault");
    fs::write(&path, b"[server]\nlisten = \"\xff\"\n").unwrap();
    assert_eq!(shown(&path), "FILE:2:11: the file is not UTF-8 from here on\n1 fault");
}

#[test]
fn defaults_are_those_of_the_documentation() {
    let text = fs::read_to_string(root().join("tests/fixtures/config/valid/minimal.toml")).unwrap();
    let mut json = parse(&text).unwrap().to_redacted_json();
    let workers = json["server"]["workers"].take();
    assert_eq!(workers, std::thread::available_parallelism().unwrap().get());
    let path = json["store"]["path"].take();
    assert_eq!(path, root().join("tests/fixtures/config/valid/data").display().to_string());
    let expected = serde_json::json!({
        "server": { "listen": ["127.0.0.1:0"], "workers": null, "fast_lane": true, "trusted_proxies": [], "drain_timeout": "30s" },
        "auth": {
            "prefix": "/auth", "user_header": "x-user-id", "session_header": "x-session-id", "strip_headers": [],
            "mode": "enforce",
        },
        "store": { "path": null },
        "limits": {
            "connections": 10000, "connections_per_address": 1024, "tls_handshake_timeout": "10s",
            "header_timeout": "10s", "idle_timeout": "1m", "body_idle_timeout": "30s", "body_progress": "1KiB",
            "stream_idle_timeout": "1h", "header_count": 100,
            "header_bytes": "32KiB", "uri_bytes": "8KiB", "body_bytes": "1GiB", "http2_streams": 128,
            "http2_resets": 256, "http2_control_frames": "6000/1m", "token_bytes": "8KiB", "token_cache_bytes": "64MiB",
            "refreshes_per_session": "60/1m", "refreshes_per_address": "600/1m",
        },
        "log": { "level": "info", "format": "auto", "access": "all" },
        "sandbox": {
            "no_new_privileges": true, "drop_capabilities": true, "private_files": true, "restrict_files": false,
            "core_dumps": false,
        },
        "trusted_issuer": [],
        "upstream": { "echo": {
            "servers": ["http://127.0.0.1:8080"], "connect_timeout": "5s", "response_timeout": "1m",
            "body_idle_timeout": "1m", "keep_alive_timeout": "55s", "keep_alive_connections": 128,
            "balance": "round_robin", "max_connections": "unlimited", "retries": 2, "retry_budget": 0.2,
            "ejection": {
                "failures": 5, "base": "5s", "max": "1m", "max_percent": 50, "slow_start": "10s",
            },
            "protocol": "http1",
        } },
        "route": [{
            "name": "/", "path": "/", "upstream": "echo", "auth": "public", "forward_token": false, "allow_path": [],
        }],
    });
    assert_eq!(json, expected);
}

#[test]
fn session_and_issuer_defaults_are_those_of_the_documentation() {
    let text = "server.listen = ['[::1]:0']\n\
        session = { issuer = 'a', audience = 'b' }\n\
        admin.token = 'env:FIXTURE_ADMIN_TOKEN'\n\
        upstream.u.servers = ['http://u']\n\
        trusted_issuer = [{ issuer = 'c', audience = ['d'], jwks_file = '/k' }]\n\
        route = [{ path = '/p', upstream = 'u' }]\n";
    let json = parse(text).unwrap_or_else(|faults| panic!("{faults}")).to_redacted_json();
    let session = serde_json::json!({
        "issuer": "a", "audience": "b", "access_token_ttl": "1h", "idle_timeout": "never", "max_lifetime": "never",
        "max_per_user": "unlimited", "refresh_grace": "10s",
    });
    assert_eq!(json["session"], session);
    assert_eq!(json["admin"], serde_json::json!({ "listen": "127.0.0.1:9443", "token": "[redacted]" }));
    let issuer = serde_json::json!({
        "issuer": "c", "audience": ["d"], "jwks_file": "/k", "algorithms": ["ES256"], "session_claim": "sid",
        "max_token_lifetime": "1d", "refresh_interval": "5m", "cooldown": "10s",
    });
    assert_eq!(json["trusted_issuer"][0], issuer);
    assert_eq!(json["upstream"]["u"]["servers"][0], "http://u:80");
    let route = serde_json::json!({
        "name": "/p", "path": "/p", "upstream": "u", "auth": "required", "mode": "enforce", "forward_token": false,
        "allow_path": [], "on_token_expiry": "close",
    });
    assert_eq!(json["route"][0], route);
}

#[test]
fn limits_of_http2_and_of_slow_bodies_are_read_as_they_are_written() {
    let text = fs::read_to_string(root().join("tests/fixtures/config/valid/everything.toml")).unwrap();
    let limits = parse(&text).unwrap().limits;
    assert_eq!(limits.http2_control_frames.unwrap().to_string(), "200/1s");
    assert_eq!((limits.body_progress.get(), limits.http2_resets.get()), (2048, 16));
    let text = text.replace("\"200/1s\"", "\"unlimited\"");
    assert_eq!(parse(&text).unwrap().limits.http2_control_frames, None);
}

#[test]
fn all_that_a_route_can_say_is_shown() {
    let text = fs::read_to_string(root().join("tests/fixtures/config/valid/everything.toml")).unwrap();
    let json = parse(&text).unwrap().to_redacted_json();
    let routes = json["route"].as_array().unwrap();
    assert_eq!(routes[0]["mode"], "observe", "that of [auth]");
    let expected = serde_json::json!({
        "name": "api.example.com,*.api.example.com/v1", "host": ["api.example.com", "*.api.example.com"],
        "path": "/v1", "auth": "required", "mode": "enforce", "forward_token": false, "allow_path": [],
        "on_token_expiry": "close", "upstream": "orders", "strip_prefix": true,
        "request_headers": {
            "remove": ["x-debug"], "set": { "x-tenant": "blue", "authorization": "[redacted]" },
            "add": { "x-via-route": "v1" },
        },
        "response_headers": {
            "remove": ["server"], "set": { "strict-transport-security": "max-age=31536000" },
            "add": { "link": "</docs>; rel=help" },
        },
        "cors": {
            "origins": ["https://app.example.com", "https://*.example.com:8443", "capacitor://localhost", "null"],
            "methods": ["GET", "PUT"], "headers": ["authorization", "x-tenant"],
            "expose": ["x-request-id", "ratelimit"], "credentials": true, "max_age": "10m",
        },
        "rate_limit": [
            { "by": "user", "rate": "100/1m", "burst": 20 }, { "by": "header:x-api-key", "rate": "5/1s", "burst": 5 },
        ],
    });
    assert_eq!(routes[4], expected);
    assert_eq!((&routes[5]["host"], &routes[5]["rewrite"]), (&"*.example.com".into(), &"/internal/v2".into()));
    let cors = serde_json::json!({
        "origins": ["*"], "methods": ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
        "headers": ["authorization", "content-type"], "expose": [], "credentials": false, "max_age": "1h",
    });
    assert_eq!(routes[5]["cors"], cors);
    assert_eq!(
        (&routes[6]["redirect"], &routes[6]["redirect_status"]),
        (&"https://new.example.com".into(), &302.into())
    );
    assert_eq!(routes[7]["redirect_status"], 308);
    assert_eq!(routes[8]["respond"]["headers"], serde_json::json!({ "retry-after": "600" }));
    let text = serde_json::json!({
        "status": 200, "body": "User-agent: *\nDisallow: /\n", "content_type": "text/plain; charset=utf-8",
    });
    assert_eq!(routes[9]["respond"], text);
    assert_eq!(routes[10]["respond"], serde_json::json!({ "status": 410 }));
    assert_eq!(json["auth"]["cors"]["methods"], serde_json::json!(["POST"]));
}

#[test]
fn listeners_have_the_tls_and_the_port_that_are_usual() {
    let text = fs::read_to_string(root().join("tests/fixtures/config/valid/listeners.toml")).unwrap();
    let config = parse(&text).unwrap_or_else(|faults| panic!("{faults}"));
    let found: Vec<_> = config
        .server
        .listeners
        .iter()
        .map(|it| (it.tls, it.proxy_protocol.len(), it.redirect_to_https.map(NonZeroU16::get)))
        .collect();
    assert_eq!(found, [(true, 0, None), (false, 1, None), (false, 0, Some(443)), (true, 0, None)]);
    let shown: Vec<_> = config.server.listeners.iter().map(|it| it.describe(it.address)).collect();
    assert_eq!(shown, ["[::1]:0", "[::1]:0 (PROXY protocol)", "[::1]:0 (redirects to https at port 443)", "[::1]:0"]);
    let json = config.to_redacted_json();
    // Those without anything special have the short form.
    assert_eq!(json["server"]["listen"], serde_json::json!(["[::1]:0", "[::1]:0"]));
    let listener = serde_json::json!({ "address": "[::1]:0", "tls": false, "proxy_protocol": ["192.0.2.0/24"] });
    assert_eq!(json["server"]["listener"][0], listener);
    let listener = serde_json::json!({ "address": "[::1]:0", "tls": false, "redirect_to_https": 443 });
    assert_eq!(json["server"]["listener"][1], listener);
}

/// The store of a valid fixture.
fn store(fixture: &str) -> Store {
    let text = fs::read_to_string(root().join("tests/fixtures/config/valid").join(fixture)).unwrap();
    parse(&text).unwrap_or_else(|faults| panic!("{faults}")).store
}

#[test]
fn store_defaults_are_those_of_the_documentation() {
    let redis = store("shared_store_single.toml").redis.unwrap();
    assert_eq!(redis.servers, [Origin { host: String::from("localhost"), port: 6379 }]);
    assert_eq!((redis.tls, redis.database, redis.topology, redis.replicas), (false, 0, Topology::Single, 0));
    assert!(redis.ca.is_none() && redis.username.is_none() && redis.password.is_none());
    assert_eq!((redis.prefix.as_str(), redis.timeout.as_secs()), ("portcullis", 1));
    assert_eq!(redis.max_revocation_lag.as_secs(), 5);
    let text = fs::read_to_string(root().join("tests/fixtures/config/valid/shared_store_single.toml")).unwrap();
    let json = parse(&text).unwrap().to_redacted_json();
    let expected = serde_json::json!({
        "redis": ["redis://localhost:6379"], "topology": "single", "prefix": "portcullis", "replicas": "none",
        "timeout": "1s", "max_revocation_lag": "5s",
    });
    assert_eq!(json["store"], expected);
    assert_eq!(json["route"][0]["when_stale"], "refuse");
}

#[test]
fn a_store_behind_sentinels_is_read_whole() {
    let store = store("shared_store.toml");
    let redis = store.redis.as_ref().unwrap();
    let ports = redis.servers.iter().map(|server| server.port).collect::<Vec<_>>();
    assert_eq!(ports, [26379, 26380, 26379], "sentinels have a port of their own");
    assert_eq!((redis.tls, redis.database, redis.replicas), (true, 2, 1));
    assert_eq!(redis.topology, Topology::Sentinel { primary: String::from("mymaster") });
    assert_eq!(redis.ca, Some(root().join("tests/fixtures/config/valid/tls/ca.pem")));
    // Passwords are short or long as their server has it, and may have spaces.
    assert_eq!(redis.sentinel_password.as_ref().unwrap().expose(), "x");
    assert_eq!(redis.password.as_ref().unwrap().expose(), format!("{SHOWN_SECRET} {SHOWN_SECRET}"));
    assert!(!format!("{redis:?}").contains(SHOWN_SECRET));
    assert_eq!(redis.urls()[2], "rediss://[fd00::5]:26379/2");
}

#[test]
fn a_store_is_described_in_a_few_words() {
    let everything = store("everything.toml");
    assert_eq!(everything.describe(), everything.path.display().to_string());
    for (fixture, expected) in [
        ("shared_store_single.toml", "redis://localhost:6379"),
        ("shared_store_cluster.toml", "redis://10.0.0.5:6379, redis://10.0.0.5:6380, redis://10.0.0.6:6379 (cluster)"),
        (
            "shared_store.toml",
            "rediss://10.0.0.5:26379/2, rediss://sentinel.internal:26380/2, rediss://[fd00::5]:26379/2 (sentinel of \
             \"mymaster\")",
        ),
    ] {
        assert_eq!(store(fixture).describe(), expected);
    }
}

#[test]
fn a_shown_configuration_reads_back_as_itself() {
    for (path, text) in fixtures("valid") {
        let json = parse(&text).unwrap().to_redacted_json();
        let shown = toml::to_string(&json).unwrap();
        assert!(!shown.contains(ADMIN_TOKEN) && !shown.contains(SHOWN_SECRET), "{}", path.display());
        let again = parse(&shown.replace("[redacted]", "env:FIXTURE_ADMIN_TOKEN"));
        let again = again.unwrap_or_else(|faults| panic!("{}:\n{shown}\n{faults}", path.display()));
        assert_eq!(again.to_redacted_json(), json, "{}", path.display());
    }
}

#[test]
fn every_key_of_every_table_is_read() {
    // A store of one's own and a shared one do not stand in one file.
    let configs = ["everything", "shared_store"].map(|name| {
        let path = root().join("tests/fixtures/config/valid").join(name).with_extension("toml");
        parse(&fs::read_to_string(path).unwrap()).unwrap()
    });
    // Arrays and names hold one shape each: `route[1].path` is `route.path`, `upstream.orders.servers` is
    // `upstream.NAME.servers`.
    let read = configs
        .iter()
        .flat_map(|config| config.source.key_paths())
        .map(|path| {
            let path = path.split('[').enumerate().map(|(index, part)| match index {
                0 => part,
                _ => part.split_once(']').map_or(part, |(_, rest)| rest),
            });
            path.collect::<String>().replace("upstream.orders.", "upstream.NAME.")
        })
        .collect::<std::collections::BTreeSet<_>>();
    for shape in shape::ALL {
        for key in shape.keys {
            let table = shape.title.trim_matches(['[', ']']);
            let path = if std::ptr::eq(shape, &shape::ROOT) { (*key).to_owned() } else { format!("{table}.{key}") };
            assert!(read.contains(&path), "{path} is a known key that nobody reads, or both files lack it");
        }
    }
}

#[test]
fn a_later_check_can_blame_the_right_line() {
    let text = fs::read_to_string(root().join("tests/fixtures/config/valid/everything.toml")).unwrap();
    let config = parse(&text).unwrap();
    let line_of = |setting: &str| 1 + text.lines().position(|line| line == setting).unwrap();
    let fault = config.fault_at("server.tls.certificate[1].key", String::from("server.tls.certificate 2: key x"));
    let expected = format!("config.toml:{}:7: server.tls.certificate 2: key x", line_of("key = \"tls/other-key.pem\""));
    assert_eq!(fault.to_string(), expected);
    let line = |path| config.source.position(path).map(|position| position.line);
    assert_eq!(line("route[1].methods"), Some(line_of("methods = [\"DELETE\"]")));
    assert_eq!(line("route[1].auth"), line("route[1]"), "left out: its table is blamed");
    assert_eq!(line("nothing.at.all"), None);
}

#[test]
fn a_fault_is_flat_json() {
    let position = Some(Position { line: 3, column: 5 });
    let mut fault = Fault { file: String::from("a.toml"), position, message: String::from("x") };
    let json = serde_json::to_value(&fault).unwrap();
    assert_eq!(json, serde_json::json!({ "file": "a.toml", "line": 3, "column": 5, "message": "x" }));
    fault.position = None;
    assert_eq!(serde_json::to_value(&fault).unwrap(), serde_json::json!({ "file": "a.toml", "message": "x" }));
}

#[test]
fn lines_are_counted_the_same_with_a_mark_and_with_carriage_returns() {
    let faults = parse("\u{feff}x = 1\r\n\r\ny = 2\r\n").unwrap_err().to_string();
    let places = faults.lines().filter(|line| line.contains("unknown key")).map(|line| &line[..15]).collect::<Vec<_>>();
    assert_eq!(places, ["config.toml:1:1", "config.toml:3:1"]);
}

/// A file with any of its values replaced by something else.
fn mutated(name: &str) -> impl Strategy<Value = String> + use<> {
    let text = fs::read_to_string(root().join("tests/fixtures/config/valid").join(name)).unwrap();
    let lines = text.lines().map(str::to_owned).collect::<Vec<_>>();
    let value = prop_oneof![
        Just(String::new()),
        "\\PC{0,12}",
        "\"\\PC{0,12}\"",
        "-?[0-9]{1,22}",
        "\"[0-9]{0,21}(ms|s|m|h|d|B|KiB|/1m)?\"",
        "\"[/%.a-z0-9;*]{0,10}\"",
        "\"(https?|rediss?)://[\\[\\]:@/a-z0-9.]{0,12}\"",
        Just(String::from("[]")),
        Just(String::from("{}")),
        Just(String::from("[[\"é\"], 0]")),
        Just(String::from("nan")),
    ];
    let changes = prop::collection::vec((0..lines.len(), value, 0..4_u8), 1..6);
    changes.prop_map(move |changes| {
        let mut lines = lines.clone();
        for (index, value, kind) in changes {
            let key = lines[index].split(" = ").next().unwrap_or_default().to_owned();
            lines[index] = match kind {
                0 => value,
                1 => format!("{value} = {value}"),
                _ => format!("{key} = {value}"),
            };
        }
        lines.join("\n")
    })
}

/// Whether `text` is a configuration or not: its faults have places inside it.
fn judge(text: &str) {
    if let Err(faults) = parse(text) {
        assert_ne!(faults.iter().count(), 0);
        for fault in &faults {
            let position = fault.position.unwrap_or(Position { line: 1, column: 1 });
            let lines = text.split('\n').count();
            assert!((1..=lines).contains(&position.line) && position.column >= 1, "{fault}");
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "[\\PC\n]{0,200}") {
        judge(&text);
    }

    #[test]
    fn no_slip_in_a_real_file_panics(text in prop_oneof![mutated("everything.toml"), mutated("shared_store.toml")]) {
        // Files named at random are not read: one could be a device.
        let text = text.replace("file:../secrets/one-byte", "env:FIXTURE_SHORT");
        judge(&text.replace("file:../secrets/admin-token", "env:FIXTURE_ADMIN_TOKEN").replace("file:", "file-"));
    }
}
