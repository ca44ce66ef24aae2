//! What a serving process is left with: read from the system, not from what the process says of itself.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use crate::support::{
    Backend, Client, Process, Toml, Workplace, ended, eventually, free_port, get, portcullis, refresh,
};

/// A user without a name, who owns nothing.
const NOBODY: u32 = 65_534;

/// The superuser's rights are what there is to drop; other users have none, and the tests of them nothing to see.
fn is_superuser() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn with(sandbox: &str) -> Toml {
    let rest = format!("{}[sandbox]\n{sandbox}", Toml::default().rest);
    Toml { rest, ..Toml::default() }
}

/// A field of `status`, which must be the same for all threads.
fn status(process: &Process, field: &str) -> String {
    let tasks = fs::read_dir(format!("/proc/{}/task", process.child.id())).unwrap();
    let mut values: Vec<String> = tasks
        .map(|task| {
            let text = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let line = text.lines().find(|line| line.starts_with(&format!("{field}:")));
            line.unwrap_or_else(|| panic!("no {field}")).split_once(':').unwrap().1.trim().to_owned()
        })
        .collect();
    assert!(values.len() > 4, "{} threads: workers, control, signals", values.len());
    values.sort();
    values.dedup();
    assert_eq!(values.len(), 1, "{field} differs between threads: {values:?}");
    values.remove(0)
}

/// The line of the log that tells of it.
fn told(process: &Process) -> serde_json::Value {
    let log = process.log();
    let line = log.lines().find(|line| line.contains("\"sandbox")).unwrap_or_else(|| panic!("not told: {log}"));
    serde_json::from_str(line).unwrap()
}

fn serves(process: &Process) {
    let (access, token) = process.sign_in("ann");
    assert_eq!(process.connect().ask(get("/", Some(&access))).status, 200);
    assert_eq!(process.connect().ask(refresh(&token)).status, 200);
}

#[test]
fn by_default_no_thread_can_gain_or_has_a_privilege_and_files_are_private() {
    let backend = Backend::start();
    let process = Process::start(&Arc::new(Workplace::new()), &Toml::default(), &backend);
    serves(&process);
    assert_eq!(status(&process, "NoNewPrivs"), "1");
    assert_eq!(status(&process, "Umask"), "0077");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        assert_eq!(status(&process, set), "0000000000000000", "{set}");
    }
    if is_superuser() {
        assert_eq!(status(&process, "CapBnd"), "0000000000000000", "CapBnd");
    }
    let data = process.place.path("data");
    for (path, mode) in [(data.clone(), 0o700), (data.join("keys"), 0o700)] {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, mode, "{}", path.display());
    }
    let told = told(&process);
    let holds = told["holds"].as_str().unwrap();
    for word in ["files are private", "no capabilities", "no new privileges", "no core dumps"] {
        assert!(holds.contains(word), "{told}");
    }
    assert_eq!(
        (told["off"].as_str(), told["level"].as_str()),
        (Some("user, files restricted"), Some("INFO")),
        "{told}"
    );
}

#[test]
fn what_is_turned_off_stays_as_it_was() {
    let backend = Backend::start();
    let toml = with("no_new_privileges = false\ndrop_capabilities = false\nprivate_files = false\ncore_dumps = true\n");
    let process = Process::start(&Arc::new(Workplace::new()), &toml, &backend);
    serves(&process);
    let own = fs::read_to_string("/proc/self/status").unwrap();
    let own =
        |field: &str| own.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(":\t")).unwrap().to_owned();
    for field in ["NoNewPrivs", "Umask", "CapPrm", "CapBnd"] {
        assert_eq!(status(&process, field), own(field), "{field}");
    }
    assert_eq!(told(&process)["holds"], "nothing");
}

/// `PR_SET_DUMPABLE`: no core dump is written, and another program of the same user sees neither memory nor environment,
/// where `env:NAME` secrets are.
#[test]
fn a_crash_leaves_no_core_dump_and_the_environment_is_hidden_from_others_of_the_same_user() {
    let place = Arc::new(Workplace::new());
    let backend = Backend::start();
    let process = Process::start(&place, &Toml::default(), &backend);
    let limits = fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"]);
    assert_eq!(visible(&process.child.id().to_string()), is_superuser(), "but for the superuser");
    drop(process);
    if !is_superuser() {
        return;
    }
    // As another user, looked at by that user: once so, and once with core dumps to know that this would be seen.
    for (core_dumps, seen) in [(false, false), (true, true)] {
        let place = Arc::new(Workplace::new());
        let toml = with(&format!("core_dumps = {core_dumps}\nuser = \"{NOBODY}\"\n"));
        give(place.root(), NOBODY);
        let process = Process::start(&place, &toml, &backend);
        let environ = format!("/proc/{}/environ", process.child.id());
        let looked = Command::new("cat").arg(environ).uid(NOBODY).gid(NOBODY).output().unwrap();
        assert_eq!(looked.status.success(), seen, "core_dumps = {core_dumps}");
    }
}

fn visible(id: &str) -> bool {
    fs::read(format!("/proc/{id}/environ")).is_ok()
}

/// A directory with all in it.
fn give(path: &Path, user: u32) {
    chown(path, Some(user), Some(user)).unwrap();
    if path.is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| give(&entry.unwrap().path(), user));
    }
}

#[test]
fn the_superuser_becomes_another_user_once_the_ports_are_bound() {
    if !is_superuser() {
        return;
    }
    let place = Arc::new(Workplace::new());
    give(place.root(), NOBODY);
    let backend = Backend::start();
    let process = Process::start(&place, &with(&format!("user = \"{NOBODY}\"\n")), &backend);
    serves(&process);
    for field in ["Uid", "Gid"] {
        let ids = status(&process, field);
        assert_eq!(ids.split_whitespace().collect::<Vec<_>>(), ["65534"; 4], "{field}");
    }
    assert_eq!(status(&process, "Groups"), "65534");
    for set in ["CapPrm", "CapEff", "CapBnd"] {
        assert_eq!(status(&process, set), "0000000000000000", "{set}");
    }
    assert_eq!(place.path("data").metadata().unwrap().uid(), NOBODY);
}

#[test]
fn a_port_below_1024_is_bound_before_the_right_to_is_given_up() {
    if !is_superuser() {
        return;
    }
    let place = Arc::new(Workplace::new());
    give(place.root(), NOBODY);
    let backend = Backend::start();
    // Bound and let go of: for a moment nobody has it.
    let low = (600..1024).find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()?.local_addr().ok()).unwrap();
    let admin = free_port();
    let text = with(&format!("user = \"{NOBODY}\"\n")).text(&[backend.address]);
    let text = text.replacen("listen = [\"127.0.0.1:0\"]", &format!("listen = [\"{low}\"]"), 1).replacen(
        "listen = \"127.0.0.1:0\"",
        &format!("listen = \"{admin}\""),
        1,
    );
    fs::write(place.path("portcullis.toml"), text).unwrap();
    let process = Process::serve(&place, low, admin);
    serves(&process);
    assert_eq!(status(&process, "CapEff"), "0000000000000000");
}

#[test]
fn a_user_that_does_not_exist_or_cannot_be_become_stops_the_start() {
    let place = Workplace::new();
    let config = place.path("portcullis.toml");
    fs::write(&config, with("user = \"no-such-user-here\"\n").text(&["127.0.0.1:1".parse().unwrap()])).unwrap();
    for word in ["run", "check"] {
        let mut command = portcullis();
        command.args([word, "--config"]).arg(&config);
        let ended = ended(command);
        assert_eq!(ended.code, 1);
        assert!(ended.err.contains("there is no user \"no-such-user-here\" in /etc/passwd"), "{}", ended.err);
    }
    if is_superuser() {
        give(place.root(), NOBODY);
        fs::write(&config, with("user = \"root\"\n").text(&["127.0.0.1:1".parse().unwrap()])).unwrap();
        let mut command = portcullis();
        command.args(["run", "--config"]).arg(&config).uid(NOBODY).gid(NOBODY);
        let ended = ended(command);
        assert_eq!(ended.code, 1);
        assert!(ended.err.contains("cannot become the user \"root\", which only the superuser can"), "{}", ended.err);
    }
}

#[test]
fn a_superuser_who_needs_anothers_files_keeps_the_right_to_them_and_says_why() {
    if !is_superuser() {
        return;
    }
    let place = Arc::new(Workplace::new());
    chown(place.path("key.pem"), Some(NOBODY), Some(NOBODY)).unwrap();
    fs::set_permissions(place.path("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    let backend = Backend::start();
    let process = Process::start(&place, &Toml::default(), &backend);
    serves(&process);
    // CAP_DAC_OVERRIDE is the second.
    assert_eq!(status(&process, "CapEff"), "0000000000000002");
    assert_eq!(status(&process, "CapBnd"), "0000000000000000");
    let holds = told(&process)["holds"].as_str().unwrap().to_owned();
    assert!(holds.contains("but CAP_DAC_OVERRIDE (") && holds.contains("key.pem is another user's"), "{holds}");
}

/// The store is made where only its owner and the superuser may.
#[test]
fn a_superuser_makes_the_store_in_a_directory_of_another_user() {
    if !is_superuser() {
        return;
    }
    let place = Arc::new(Workplace::new());
    fs::create_dir(place.path("theirs")).unwrap();
    fs::set_permissions(place.path("theirs"), fs::Permissions::from_mode(0o755)).unwrap();
    chown(place.path("theirs"), Some(NOBODY), Some(NOBODY)).unwrap();
    let toml = Toml { store: "path = \"theirs/state/data\"\n".into(), ..Toml::default() };
    let backend = Backend::start();
    let process = Process::start(&place, &toml, &backend);
    serves(&process);
    let holds = told(&process)["holds"].as_str().unwrap().to_owned();
    assert!(holds.contains("theirs is another user's"), "{holds}");
}

/// A usable key under each of these names.
fn jwks(names: &[&str]) -> String {
    let point =
        "\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\",\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"";
    let key = |name| format!("{{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"{name}\",{point}}}");
    format!("{{\"keys\":[{}]}}", names.iter().map(key).collect::<Vec<_>>().join(","))
}

/// Files are read again while it serves: a trusted issuer's keys show which can be.
#[test]
fn with_restricted_files_what_is_named_is_read_again_and_what_a_link_leads_to_elsewhere_is_not() {
    let (place, elsewhere) = (Arc::new(Workplace::new()), tempfile::tempdir().unwrap());
    let named = place.path("jwks.json");
    fs::write(&named, jwks(&["one"])).unwrap();
    let toml = with(
        "restrict_files = true\n[[trusted_issuer]]\nissuer = \"https://other.test\"\naudience = [\"app\"]\n\
         jwks_file = \"jwks.json\"\nrefresh_interval = \"1s\"\n",
    );
    let backend = Backend::start();
    let process = Process::start(&place, &toml, &backend);
    serves(&process);
    let told = told(&process);
    if told["failed"].as_str().is_some_and(|why| why.contains("no Landlock")) {
        println!("this kernel has no Landlock: all that was tested is that this is told");
        return;
    }
    assert!(told["holds"].as_str().unwrap().contains("files restricted"), "{told}");
    assert_eq!(status(&process, "NoNewPrivs"), "1");
    let keys = || {
        let text = Client::plain(process.admin).ask("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").text();
        let line = text.lines().find(|line| line.starts_with("portcullis_issuer_keys{issuer=\"https://other.test\"}"));
        line.unwrap_or_else(|| panic!("{text}")).rsplit_once(' ').unwrap().1.to_owned()
    };
    assert_eq!(keys(), "1.0");
    fs::write(place.path("new"), jwks(&["one", "two"])).unwrap();
    fs::rename(place.path("new"), &named).unwrap();
    eventually("a file that was replaced is read", || keys() == "2.0");
    // Whoever can write here cannot have the gateway read what is elsewhere.
    fs::write(elsewhere.path().join("forbidden.json"), jwks(&["one", "two", "three"])).unwrap();
    fs::remove_file(&named).unwrap();
    std::os::unix::fs::symlink(elsewhere.path().join("forbidden.json"), &named).unwrap();
    eventually("the forbidden file is refused", || process.log().contains("cannot load keys of the issuer"));
    assert_eq!(keys(), "2.0");
    serves(&process);
}
