//! The command line: a file for each subcommand, thin: arguments in, library call, text out.
//!
//! Results go to standard output, everything else to standard error. Exit codes: 0 done, 1 refused or failed, 2 wrong
//! usage; 141, as of any program, when nobody reads standard output any more.

mod admin_client;
mod check;
mod demo;
mod explain;
mod health;
mod keys;
mod keys_offline;
mod output;
mod run;
mod session;
mod stop;
mod store;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::output::{Format, Outcome};

/// Reverse-proxy authentication gateway.
///
/// Portcullis stands in front of backends that know nothing of tokens. It checks who is calling, tells the backend with
/// X-User-Id and X-Session-Id, and owns the sessions: sign-in, refresh and an end that works at once.
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "New here? `portcullis demo` needs no files and shows everything in five minutes.\n\n\
    Exit codes: 0 done, 1 refused or failed, 2 wrong usage.")]
struct Cli {
    /// Print the result as JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Args),
    Check(check::Args),
    Demo(demo::Args),
    Explain(explain::Args),
    Session(session::SessionArgs),
    Keys(keys::KeysArgs),
    Store(store::StoreArgs),
    #[command(subcommand)]
    Token(token::Command),
    Health(health::Args),
}

/// Which configuration a command is about.
#[derive(Debug, clap::Args)]
struct ConfigArg {
    /// The configuration file
    #[arg(long = "config", short = 'c', value_name = "FILE")]
    #[arg(env = "PORTCULLIS_CONFIG", default_value = "portcullis.toml")]
    file: PathBuf,
}

/// Does what this process's arguments say.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are results, all else is wrong usage: clap knows where each goes. When even that output
            // is closed, nobody is left to tell.
            drop(error.print());
            return if error.use_stderr() { ExitCode::from(2) } else { ExitCode::SUCCESS };
        }
    };
    let format = if cli.json { Format::Json } else { Format::Human };
    let result = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args, format),
        Command::Demo(args) => demo::run(&args, format),
        Command::Explain(args) => explain::run(&args, format),
        Command::Session(args) => session::run(&args, format),
        Command::Keys(args) => keys::run(&args, format),
        Command::Store(args) => store::run(&args, format),
        Command::Token(command) => token::run(&command, format),
        Command::Health(args) => health::run(&args, format),
    };
    match result {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Refused) => ExitCode::FAILURE,
        Err(failure) => {
            failure.print(format);
            failure.exit_code()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_says_what_it_is_for_and_gives_an_example() {
        let mut all = Cli::command();
        all.build();
        assert_eq!(all.get_subcommands().count(), 10, "with clap's own help");
        for command in all.get_subcommands_mut().filter(|command| command.get_name() != "help") {
            let help = command.render_long_help().to_string();
            let name = command.get_name().to_owned();
            assert!(help.contains(&format!("Example:\n  portcullis {name}")) || help.contains("Examples:"), "{help}");
            for below in command.get_subcommands() {
                assert!(below.get_about().is_some(), "{name} {}", below.get_name());
            }
        }
    }

    #[test]
    fn json_may_stand_before_or_behind_the_command() {
        for words in [["portcullis", "--json", "check"], ["portcullis", "check", "--json"]] {
            assert!(Cli::try_parse_from(words).unwrap().json);
        }
        let words = ["portcullis", "session", "list", "ann", "--admin", "http://127.0.0.1:1", "--json"];
        assert!(Cli::try_parse_from(words).is_ok());
    }
}
