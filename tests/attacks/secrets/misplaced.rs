//! Secrets where a configuration or a command line has no place for them: told of, and not repeated.

use std::sync::Arc;

use super::watch::Secrets;
use crate::support::{Backend, Process, Toml, Workplace, command};

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2";

#[test]
fn a_secret_in_the_wrong_place_of_a_configuration_is_refused_without_being_shown() {
    let place = Workplace::new();
    let mut secrets = Secrets::of(&place);
    secrets.add("misplaced secret", SECRET);
    let pem = std::fs::read_to_string(place.path("key.pem")).unwrap();
    let good = Toml::default().text(&["127.0.0.1:1".parse().unwrap()]);
    let token = "token = \"file:admin-token\"";
    let cases = [
        ("admin token itself", token, format!("token = \"{SECRET}\"")),
        ("admin token in a list", token, format!("token = [\"{SECRET}\"]")),
        ("admin token in a table", token, format!("token = {{ value = \"{SECRET}\" }}")),
        ("admin token with another scheme", token, format!("token = \"plain:{SECRET}\"")),
        ("admin token as a variable's name", token, format!("token = \"env:{SECRET}\"")),
        ("admin token without quotes", token, format!("token = {SECRET}")),
        ("admin token, string not closed", token, format!("token = \"{SECRET}")),
        ("password itself", "path = \"data\"", format!("redis = \"redis://127.0.0.1:1\"\npassword = \"{SECRET}\"")),
        ("password in a URL", "path = \"data\"", format!("redis = \"redis://:{SECRET}@127.0.0.1:1\"")),
        (
            "user and password in a URL",
            "path = \"data\"",
            format!("redis = \"redis://portcullis:{SECRET}@127.0.0.1:1/x\""),
        ),
        (
            "password of the sentinels itself",
            "path = \"data\"",
            format!("redis = \"redis://127.0.0.1:1\"\nsentinel_password = \"{SECRET}\""),
        ),
        (
            "password of an upstream in its URL",
            "\"http://127.0.0.1:1\"",
            format!("\"http://ann:{SECRET}@127.0.0.1:1\""),
        ),
        ("key as PEM in place of its path", "key = \"key.pem\"", format!("key = \"\"\"{pem}\"\"\"")),
    ];
    let mut failed = Vec::new();
    for (name, from, to) in &cases {
        assert!(good.contains(from), "{name}");
        std::fs::write(place.path("portcullis.toml"), good.replacen(from, to, 1)).unwrap();
        for words in [&["check"][..], &["check", "--json"], &["run"], &["explain", "GET", "http://a/"]] {
            let config = place.path("portcullis.toml");
            let ended = command(words, &["--config", config.to_str().unwrap()]);
            if ended.code != 1 {
                failed.push(format!("{name}: {words:?} ended with {}", ended.code));
            }
            let said = format!("{}{}", ended.out, ended.err);
            failed.extend(secrets.found_in(said.as_bytes(), &format!("{words:?}: {name}")));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
    println!("misplaced secrets: {} cases, 4 commands each", cases.len());
}

#[test]
fn commands_that_are_given_a_token_do_not_repeat_what_makes_it_one() {
    let place = Arc::new(Workplace::new());
    let backend = Backend::start();
    let process = Process::start(&place, &Toml::default(), &backend);
    let (access, refresh) = process.sign_in("ann");
    let mut secrets = Secrets::default();
    secrets.add_token("access token", &access);
    secrets.add_token("refresh token", &refresh);
    let mut failed = Vec::new();
    for token in [access.as_str(), refresh.as_str(), &access[..access.len() - 3], "eyJ.x.y"] {
        for words in [&["token", "inspect", token][..], &["token", "inspect", "--json", token]] {
            let ended = command(words, &[]);
            failed.extend(secrets.found_in(format!("{}{}", ended.out, ended.err).as_bytes(), "token inspect"));
        }
        let ended = process.command(&["explain", "--token", token, "GET", "https://localhost/x"]);
        failed.extend(secrets.found_in(format!("{}{}", ended.out, ended.err).as_bytes(), "explain"));
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
