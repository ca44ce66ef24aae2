//! `portcullis keys`: the own signing keys, through the admin listener.

use clap::Subcommand;
use http::Method;
use serde_json::Value;

use super::admin_client::{AdminArgs, AdminClient, json_line, shown, table};
use super::output::{Failure, Format, Outcome, print};

/// List and rotate the signing keys of the running gateway
///
/// Asks its admin listener.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  portcullis keys list\n  portcullis keys rotate")]
pub(super) struct KeysArgs {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    command: KeysCommand,
}

/// What to do with keys.
#[derive(Clone, Debug, Subcommand)]
enum KeysCommand {
    /// List the signing keys
    List,
    /// Have the next key sign from now on
    Rotate {
        /// Also when the next key may not be known everywhere yet
        #[arg(long)]
        force: bool,
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
        KeysCommand::Rotate { force: false } => client.ask(Method::POST, "/v1/keys/rotate", None)?,
        KeysCommand::Rotate { force: true } => client.ask(Method::POST, "/v1/keys/rotate?force=true", None)?,
    };
    Ok(if json { json_line(&keys) } else { overview(&keys) })
}

fn overview(keys: &Value) -> String {
    let names = ["kid", "state", "created_at", "activated_at", "retired_at"];
    let mut rows = vec![names.map(str::to_owned).to_vec()];
    let all = keys["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
    rows.extend(all.iter().map(|key| names.map(|name| shown(key, name)).to_vec()));
    table(&rows)
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
        let words: Vec<&str> = listed.lines().map(|line| line.split_whitespace().nth(1).unwrap()).collect();
        assert_eq!(words, ["state", "current", "next"]);
        let Err(Failure::Failed(early)) = run(&["rotate"], false) else { panic!("rotated too early") };
        assert!(early.starts_with("refused (409, key_not_yet_published): "), "{early}");
        let rotated: Value = serde_json::from_str(&run(&["rotate", "--force"], true).unwrap()).unwrap();
        assert_eq!(rotated["keys"].as_array().unwrap().len(), 3);
        assert_eq!(rotated, serde_json::from_str::<Value>(&run(&["list"], true).unwrap()).unwrap());
    }
}
