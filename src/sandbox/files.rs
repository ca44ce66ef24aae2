//! Which files the process may open once it serves, kept by the kernel (Landlock).

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetError,
    RulesetStatus, Scope, path_beneath_rules,
};

use crate::config::{Config, JwksSource};

/// The rights that we know. Of these a kernel keeps those that it knows, too.
const KNOWN: ABI = ABI::V7;

/// What the system's libraries read while we run: names of hosts, authorities, modules of the resolver. `/etc` as a whole,
/// because its files are replaced by others of the same name.
const SYSTEM: [&str; 12] = [
    "/etc",
    "/usr",
    "/lib",
    "/lib64",
    "/nix/store",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/var/lib/sss",
    "/var/lib/ca-certificates",
    "/proc/self",
    "/sys/fs/cgroup",
];

/// Where else OpenSSL's variables say that authorities are.
const AUTHORITIES: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Devices that hold nothing.
const DEVICES: [&str; 3] = ["/dev/null", "/dev/urandom", "/dev/random"];

/// Refuses this thread, and those that it starts, every file but those that `config` names and [`SYSTEM`]'s; every program;
/// and every further port to listen on.
///
/// # Errors
/// In words: the kernel has no Landlock, or it was turned off.
pub(super) fn restrict(config: &Config) -> Result<(), String> {
    for directory in written(config) {
        // A rule is for what is there. Whether it can be used, the store says better.
        drop(DirBuilder::new().recursive(true).mode(0o700).create(directory));
    }
    match rules(config) {
        Ok(RulesetStatus::NotEnforced) => Err("the kernel has no Landlock, or it is turned off".to_owned()),
        Ok(_) => Ok(()),
        Err(error) => Err(crate::causes::chain(&error)),
    }
}

fn rules(config: &Config) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    // Files and directories; no devices, sockets or links, and nothing that could be started.
    let write = read
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    let device: BitFlags<AccessFs> = AccessFs::ReadFile | AccessFs::WriteFile;
    let named = named(config);
    let variables = AUTHORITIES.iter().filter_map(std::env::var_os).map(PathBuf::from);
    let system = SYSTEM.iter().map(PathBuf::from).chain(std::env::current_exe()).chain(variables);
    let read_only = named.iter().flat_map(|path| around(path)).chain(system);
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::BindTcp)?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .add_rules(path_beneath_rules(read_only, read))?
        .add_rules(path_beneath_rules(written(config), write))?
        .add_rules(path_beneath_rules(DEVICES, device))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// The directories around a file, as it is named and where links lead: files are replaced by others of the same name, and
/// a rule holds for what it was made for. Of a file at the root only the file itself.
fn around(path: &Path) -> Vec<PathBuf> {
    let directory = |path: &Path| match path.parent() {
        Some(above) if above.as_os_str().is_empty() => PathBuf::from("."),
        Some(above) if above != Path::new("/") => above.to_owned(),
        _ => path.to_owned(),
    };
    let mut found = vec![directory(path)];
    found.extend(path.canonicalize().ok().map(|path| directory(&path)));
    found
}

/// The files that are read at start or again later.
pub(super) fn named(config: &Config) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let own = config.upstreams.iter().filter_map(|upstream| upstream.tls.certificate.as_ref());
    for certificate in config.server.certificates.iter().chain(own) {
        files.extend([certificate.chain.clone(), certificate.key.clone()]);
    }
    files.extend(config.upstreams.iter().filter_map(|upstream| upstream.tls.ca.clone()));
    files.extend(config.session.iter().flat_map(|own| own.signing_keys.iter().chain(&own.refresh_keys).cloned()));
    files.extend(config.store.redis.as_ref().and_then(|redis| redis.ca.clone()));
    files.extend(config.trusted_issuers.iter().filter_map(|issuer| match &issuer.jwks {
        JwksSource::File(file) => Some(file.clone()),
        JwksSource::Url(_) => None,
    }));
    files
}

/// The directories that are written.
pub(super) fn written(config: &Config) -> Vec<PathBuf> {
    let store = config.store.redis.is_none().then(|| config.store.path.clone());
    let keys = config.session.as_ref().and_then(|own| own.keys.clone());
    store.into_iter().chain(keys).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Landlock holds for one thread and those it starts: this test's process goes on as it was.
    #[test]
    fn nothing_but_what_is_named_can_be_opened_nothing_started_and_no_port_listened_on() {
        let (place, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(place.path().join("cert.pem"), "named").unwrap();
        std::fs::write(elsewhere.path().join("secret"), "not named").unwrap();
        let text = "server = { listen = ['127.0.0.1:0'], tls.certificate = [{ chain = 'cert.pem', key = 'cert.pem' }] }\n\
            upstream.a.servers = ['http://127.0.0.1:1']\nroute = [{ path = '/', upstream = 'a', auth = 'public' }]\n";
        let config = Config::parse(text, "p.toml", place.path()).unwrap();
        let confined = std::thread::spawn(move || {
            if let Err(why) = restrict(&config) {
                assert!(why.contains("no Landlock"), "{why}");
                println!("this kernel has no Landlock: nothing was tested");
                return;
            }
            let denied = |what: &str, error: std::io::Error| {
                assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "{what}: {error}");
            };
            assert_eq!(std::fs::read_to_string(place.path().join("cert.pem")).unwrap(), "named");
            std::fs::write(place.path().join("data/file"), "store").unwrap();
            std::fs::rename(place.path().join("data/file"), place.path().join("data/renamed")).unwrap();
            std::fs::read("/etc/passwd").unwrap();
            denied("another file", std::fs::read(elsewhere.path().join("secret")).unwrap_err());
            denied("another directory", std::fs::read_dir(elsewhere.path()).unwrap_err());
            denied("a new file elsewhere", std::fs::write(elsewhere.path().join("new"), "").unwrap_err());
            denied("a named file to write", std::fs::write(place.path().join("cert.pem"), "").unwrap_err());
            denied(
                "a system's file to write",
                std::fs::OpenOptions::new().append(true).open("/etc/passwd").unwrap_err(),
            );
            let link = std::os::unix::fs::symlink("/etc/passwd", place.path().join("data/link"));
            denied("a link in the store", link.unwrap_err());
            denied("a program", std::process::Command::new("/bin/sh").spawn().unwrap_err());
            denied("a port", std::net::TcpListener::bind("127.0.0.1:0").unwrap_err());
        });
        confined.join().unwrap();
        std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    }

    #[test]
    fn a_file_is_reached_by_its_name_and_where_links_lead() {
        let place = tempfile::tempdir().unwrap();
        let root = place.path().canonicalize().unwrap();
        for directory in ["archive", "live"] {
            std::fs::create_dir(root.join(directory)).unwrap();
        }
        std::fs::write(root.join("archive/key1.pem"), "").unwrap();
        std::os::unix::fs::symlink("../archive/key1.pem", root.join("live/key.pem")).unwrap();
        assert_eq!(around(&root.join("live/key.pem")), [root.join("live"), root.join("archive")]);
        assert_eq!(around(Path::new("/no-such-key.pem")), [Path::new("/no-such-key.pem")], "never the whole system");
        assert_eq!(around(Path::new("no-such-key.pem")), [Path::new(".")]);
    }
}
