//! `portcullis keys`: the own signing and refresh keys, through the admin listener.

use clap::Subcommand;
use http::Method;
use serde_json::Value;

use super::admin_client::{AdminArgs, AdminClient, json_line, shown, table};
use super::output::{Failure, Format, Outcome, print};

/// List and rotate the keys of the running gateway: those that sign access tokens and those of refresh tokens
///
/// Asks its admin listener. Gateways that share a directory of keys take the change over within seconds.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  portcullis keys list\n  portcullis keys rotate\n  portcullis keys rotate --refresh"
)]
pub(super) struct KeysArgs {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    command: KeysCommand,
}

/// What to do with keys.
#[derive(Clone, Debug, Subcommand)]
enum KeysCommand {
    /// List the keys: signing keys first, then refresh keys
    List,
    /// Have the next signing key sign from now on, or make a new refresh key
    ///
    /// The last signing key stays published until its tokens have expired, and a new next key is made.
    Rotate {
        /// Also when the next key may not be known everywhere yet
        #[arg(long)]
        force: bool,
        /// Make a new refresh key instead
        ///
        /// It is accepted at once and makes new refresh tokens 300 s later, when every gateway knows it. The older ones
        /// stay accepted: delete the file of one, `<id>.key` in the directory `refresh` of the keys, when no session
        /// needs it any more. Its refresh tokens are refused from then on.
        #[arg(long, conflicts_with = "force")]
        refresh: bool,
    },
}

/// Carries the command out; as JSON it prints what the server answered.
pub(super) fn run(args: &KeysArgs, format: Format) -> Result<Outcome, Failure> {
    let text = carry_out(args, format == Format::Json)?;
    if !text.is_empty() {
        print(text.trim_end_matches('\n'))?;
    }
    Ok(Outcome::Done)
}

fn carry_out(args: &KeysArgs, json: bool) -> Result<String, Failure> {
    let client = AdminClient::new(&args.admin)?;
    let keys = match args.command {
        KeysCommand::List => client.ask(Method::GET, "/v1/keys", None)?,
        KeysCommand::Rotate { refresh: true, .. } => client.ask(Method::POST, "/v1/keys/rotate?kind=refresh", None)?,
        KeysCommand::Rotate { force: true, .. } => client.ask(Method::POST, "/v1/keys/rotate?force=true", None)?,
        KeysCommand::Rotate { .. } => client.ask(Method::POST, "/v1/keys/rotate", None)?,
    };
    Ok(if json { json_line(&keys) } else { overview(&keys) })
}

/// A table for each kind of key.
fn overview(keys: &Value) -> String {
    let signing = rows(&keys["keys"], &["kid", "state", "created_at", "activated_at", "retired_at"]);
    let mut refresh = rows(&keys["refresh_keys"], &["id", "state", "created_at"]);
    "refresh_id".clone_into(&mut refresh[0][0]);
    format!("{}\n{}", table(&signing), table(&refresh))
}

fn rows(keys: &Value, names: &[&str]) -> Vec<Vec<String>> {
    let mut rows = vec![names.iter().map(|name| (*name).to_owned()).collect()];
    let all = keys.as_array().map(Vec::as_slice).unwrap_or_default();
    rows.extend(all.iter().map(|key| names.iter().map(|name| shown(key, name)).collect()));
    rows
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::admin::tests::{Fixture, TOKEN};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        keys: KeysArgs,
    }

    #[test]
    fn keys_are_listed_and_rotated_when_forced() {
        let f = Fixture::new();
        let token = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(token.path(), TOKEN).unwrap();
        let (admin, token) =
            (format!("--admin=http://{}", f.address()), format!("--token=file:{}", token.path().display()));
        let run = |words: &[&str], json| {
            let line = ["keys", &admin, &token].into_iter().chain(words.iter().copied());
            carry_out(&Line::try_parse_from(line).unwrap().keys, json)
        };
        let listed = run(&["list"], false).unwrap();
        let words: Vec<&str> = listed.lines().map(|line| line.split_whitespace().nth(1).unwrap_or_default()).collect();
        assert_eq!(words, ["state", "current", "next", "", "state", "current"]);
        let Err(Failure::Failed(early)) = run(&["rotate"], false) else { panic!("rotated too early") };
        assert!(early.starts_with("refused (409, key_not_yet_published): "), "{early}");
        let rotated: Value = serde_json::from_str(&run(&["rotate", "--force"], true).unwrap()).unwrap();
        assert_eq!(rotated["keys"].as_array().unwrap().len(), 3);
        assert_eq!(rotated, serde_json::from_str::<Value>(&run(&["list"], true).unwrap()).unwrap());

        let refresh = run(&["rotate", "--refresh"], false).unwrap();
        let last: Vec<&str> = refresh.lines().rev().take(2).collect();
        assert!(last[1].contains("  next  ") && last[0].contains("  current  "), "{refresh}");
        let Err(Failure::Failed(early)) = run(&["rotate", "--refresh"], false) else { panic!("rotated too early") };
        assert!(early.starts_with("refused (409, key_not_yet_published): refresh key "), "{early}");
        assert!(Line::try_parse_from(["keys", &admin, &token, "rotate", "--refresh", "--force"]).is_err());
    }
}
