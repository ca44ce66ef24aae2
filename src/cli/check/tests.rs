use std::fs;

use super::*;

/// A directory with a configuration, and the report on it.
fn report(text: &str, files: impl FnOnce(&Path)) -> (tempfile::TempDir, Report) {
    let dir = tempfile::tempdir().unwrap();
    files(dir.path());
    let config = Config::parse(text, "p.toml", dir.path()).unwrap();
    let report = Report::of(&config, UnixTime::now()).unwrap();
    (dir, report)
}

const ROUTE: &str = "[upstream.a]\nservers = [\"http://127.0.0.1:1\"]\n[[route]]\npath = \"/\"\nupstream = \"a\"\n";

fn certificate(dir: &Path, name: &str, days: u64) {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = (std::time::SystemTime::now() + Duration::from_secs(days * 24 * 3600)).into();
    fs::write(dir.join(format!("{name}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

#[test]
fn every_bad_file_is_told_with_the_line_that_names_it() {
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n\
         [[server.tls.certificate]]\nchain = \"a.pem\"\nkey = \"b.key\"\n\
         [[server.tls.certificate]]\nchain = \"none.pem\"\nkey = \"none.key\"\n\
         [session]\nissuer = \"i\"\naudience = \"a\"\nsigning_keys = [\"a.pem\"]\nrefresh_keys = [\"short\"]\n\
         [[trusted_issuer]]\nissuer = \"t\"\naudience = [\"a\"]\njwks_file = \"short\"\n\
         [store]\npath = \"short\"\n{ROUTE}"
    );
    let (_dir, report) = report(&text, |dir| {
        certificate(dir, "a", 90);
        certificate(dir, "b", 90);
        fs::write(dir.join("short"), "short").unwrap();
    });
    assert!(!report.ok);
    let found: Vec<(usize, &str)> =
        report.faults.iter().map(|fault| (fault.position.unwrap().line, fault.message.as_str())).collect();
    let expected = [
        (5, "does not belong to the certificate"),
        (7, "none.pem: no such file"),
        (8, "none.key: no such file"),
        (12, "a.pem has no PEM block PRIVATE KEY"),
        (13, "has 5 bytes, expected 32"),
        (17, "short: key document cannot be used"),
        (19, "short is not a directory"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((line, message), (expected_line, part)) in found.iter().zip(expected) {
        assert_eq!(*line, expected_line, "{message}");
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_fresh_configuration_is_ok_and_nothing_is_made() {
    let text = format!("[server]\nlisten = [\"127.0.0.1:0\"]\n[session]\nissuer = \"i\"\naudience = \"a\"\n{ROUTE}");
    let (dir, report) = report(&text, |_| {});
    assert!(report.ok, "{report:?}");
    assert!(report.warnings.is_empty() && report.notes.is_empty(), "{report:?}");
    assert!(report.summary.starts_with("1 route, 1 upstream, plain HTTP on 127.0.0.1:0, no admin"), "{report:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

#[test]
fn what_may_not_be_meant_is_a_warning() {
    let text = format!(
        "[server]\nlisten = [\"0.0.0.0:8080\"]\n[admin]\nlisten = \"0.0.0.0:9443\"\ntoken = \"file:token\"\n\
         [[trusted_issuer]]\nissuer = \"t\"\naudience = [\"a\"]\njwks_url = \"https://id.example.com/keys\"\n{ROUTE}"
    );
    let (_dir, report) = report(&text, |dir| fs::write(dir.join("token"), "0123456789abcdef0123456789abcdef").unwrap());
    assert!(report.ok, "{report:?}");
    assert!(report.warnings[0].starts_with("plain HTTP on 0.0.0.0:8080"), "{report:?}");
    assert!(report.warnings[1].starts_with("the admin listener is on 0.0.0.0:9443"), "{report:?}");
    assert!(report.notes[0].contains("https://id.example.com/keys"), "{report:?}");
}

#[test]
fn routes_that_refuse_nobody_are_a_warning() {
    let warning = |modes: &[&str]| {
        let mut text = String::from(
            "[server]\nlisten = [\"127.0.0.1:0\"]\n[session]\nissuer = \"i\"\naudience = \"a\"\n\
             [upstream.a]\nservers = [\"http://127.0.0.1:1\"]\n",
        );
        for (index, mode) in modes.iter().enumerate() {
            text += &format!("[[route]]\npath = \"/{index}\"\nupstream = \"a\"\nmode = \"{mode}\"\n");
        }
        observing(&Config::parse(&text, "p.toml", Path::new("")).unwrap())
    };
    let said = |who: &str| {
        Some(format!(
            "mode \"observe\": {who} for want of an identity; what would be refused is logged and counted (would_refuse)"
        ))
    };
    assert_eq!(warning(&["enforce"]), None);
    assert_eq!(warning(&["observe", "enforce"]), said("the route \"/0\" refuses nobody"));
    assert_eq!(warning(&["observe", "enforce", "observe"]), said("the routes \"/0\", \"/2\" refuse nobody"));
    assert_eq!(warning(&["observe", "observe"]), said("no route refuses anybody"));
}

#[test]
fn a_certificate_that_ends_soon_is_a_warning() {
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[[server.tls.certificate]]\nchain = \"a.pem\"\nkey = \"a.key\"\n\
         [session]\nissuer = \"i\"\naudience = \"a\"\n{ROUTE}"
    );
    let (_dir, report) = report(&text, |dir| certificate(dir, "a", 7));
    assert!(report.ok, "{report:?}");
    assert!(report.warnings[0].contains("expires in 6 days"), "{report:?}");
}

const SHARED: &str = "[server]\nlisten = [\"127.0.0.1:0\"]\n[session]\nissuer = \"i\"\naudience = \"a\"\nkeys = \"keys\"\n\
                      [store]\n";

#[test]
fn a_shared_store_is_named_and_no_directory_is_asked_for() {
    let text =
        format!("{SHARED}redis = \"rediss://10.0.0.5/1\"\nca = \"ca.pem\"\npassword = \"file:password\"\n{ROUTE}");
    let (dir, report) = report(&text, |dir| {
        // Where an embedded store would be.
        fs::write(dir.join("data"), "").unwrap();
        fs::write(dir.join("password"), "hunter2").unwrap();
        certificate(dir, "ca", 90);
    });
    assert!(report.ok && report.warnings.is_empty(), "{report:?}");
    assert!(report.summary.ends_with("store rediss://10.0.0.5:6379/1"), "{report:?}");
    assert_eq!(report.notes, ["the store rediss://10.0.0.5:6379/1 is connected to at start; this was not tried"]);
    assert!(!dir.path().join("keys").exists());
}

#[test]
fn authorities_and_shared_keys_that_cannot_be_read_are_faults() {
    let text = format!("{SHARED}redis = \"rediss://10.0.0.5\"\nca = \"ca.pem\"\n{ROUTE}");
    let with_ca = |ca: &dyn Fn(&Path)| {
        let (_dir, report) = report(&text, |dir| {
            fs::create_dir(dir.join("keys")).unwrap();
            ca(&dir.join("ca.pem"));
        });
        assert!(!report.ok && report.faults.len() == 1, "{report:?}");
        assert_eq!(report.faults[0].position.unwrap().line, 9);
        report.faults[0].message.clone()
    };
    let none = with_ca(&|_| {});
    assert!(none.ends_with("ca.pem: no such file or directory"), "{none}");
    assert!(with_ca(&|ca| fs::write(ca, "ca").unwrap()).ends_with("ca.pem has no certificate"));
    let no_der = "-----BEGIN CERTIFICATE-----\naGVsbG8=\n-----END CERTIFICATE-----\n";
    let broken = with_ca(&|ca| fs::write(ca, no_der).unwrap());
    assert!(broken.contains("a certificate in ") && broken.contains("ca.pem cannot be used: "), "{broken}");
    let cut = with_ca(&|ca| fs::write(ca, "-----BEGIN CERTIFICATE-----\naGVsbG8=\n").unwrap());
    assert!(cut.starts_with("store: cannot read ") && cut.contains("ca.pem: "), "{cut}");

    let text = format!("{SHARED}redis = \"redis://10.0.0.5\"\n{ROUTE}");
    let (_dir, report) = report(&text, |dir| fs::write(dir.join("keys"), "").unwrap());
    assert!(!report.ok, "{report:?}");
    for fault in &report.faults {
        assert_eq!(fault.position.unwrap().line, 6, "{fault}");
        assert!(fault.message.starts_with("session: ") && fault.message.contains("not a directory"), "{fault}");
    }
}

#[test]
fn a_password_of_the_store_that_travels_in_clear_is_a_warning() {
    let warnings = |store: &str| {
        let (_dir, report) = report(&format!("{SHARED}{store}\n{ROUTE}"), |dir| {
            fs::write(dir.join("password"), "hunter2").unwrap();
        });
        assert!(report.ok, "{report:?}");
        report.warnings
    };
    const PASSWORD: &str = "password = \"file:password\"";
    let far = warnings(&format!("redis = \"redis://10.0.0.5\"\n{PASSWORD}"));
    assert!(far[0].starts_with("the password of the store goes to redis://10.0.0.5:6379 in clear"), "{far:?}");
    let sentinels = "redis = [\"redis://[::1]\", \"redis://far\"]\ntopology = \"sentinel\"\nsentinel_primary = \"m\"";
    let far = warnings(&format!("{sentinels}\nsentinel_{PASSWORD}"));
    assert!(far[0].contains(" goes to redis://far:26379 in clear"), "{far:?}");
    for store in [
        String::from("redis = \"redis://10.0.0.5\""),
        format!("redis = \"rediss://10.0.0.5\"\n{PASSWORD}"),
        format!("redis = \"redis://127.0.0.2\"\n{PASSWORD}"),
        format!("redis = \"redis://localhost\"\n{PASSWORD}"),
        format!("redis = \"redis://[::1]\"\n{PASSWORD}"),
    ] {
        assert_eq!(warnings(&store), [""; 0], "{store}");
    }
}

#[test]
fn files_of_upstreams_are_read_too() {
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[session]\nissuer = \"i\"\naudience = \"a\"\n\
         [upstream.b]\nservers = [\"https://127.0.0.1\"]\n[upstream.b.tls]\nca = \"none.pem\"\n\
         certificate = \"a.pem\"\nkey = \"b.key\"\n\
         [upstream.c]\nservers = [\"https://127.0.0.1\"]\n[upstream.c.tls]\nca = \"a.pem\"\n\
         certificate = \"none.pem\"\nkey = \"a.key\"\n{ROUTE}"
    );
    let (_dir, report) = report(&text, |dir| {
        certificate(dir, "a", 90);
        certificate(dir, "b", 90);
    });
    let found: Vec<(usize, &str)> =
        report.faults.iter().map(|fault| (fault.position.unwrap().line, fault.message.as_str())).collect();
    let expected = [
        (9, "upstream \"b\": tls: cannot read ", "none.pem: no such file or directory"),
        (11, "upstream \"b\": tls: the private key in ", "a.pem"),
        (16, "upstream \"c\": tls: cannot read ", "none.pem: no such file or directory"),
    ];
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for ((line, message), (expected_line, start, end)) in found.iter().zip(expected) {
        assert_eq!(*line, expected_line, "{message}");
        assert!(message.starts_with(start) && message.ends_with(end), "{message}");
    }
}

#[test]
fn a_client_certificate_that_ends_soon_is_a_warning() {
    let text = format!(
        "[server]\nlisten = [\"127.0.0.1:0\"]\n[session]\nissuer = \"i\"\naudience = \"a\"\n\
         [upstream.b]\nservers = [\"https://127.0.0.1\"]\n[upstream.b.tls]\nca = \"a.pem\"\n\
         certificate = \"a.pem\"\nkey = \"a.key\"\n{ROUTE}"
    );
    let (_dir, report) = report(&text, |dir| certificate(dir, "a", 7));
    assert!(report.ok, "{report:?}");
    assert!(report.warnings[0].contains("a.pem expires in 6 days"), "{report:?}");
}
