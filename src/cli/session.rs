//! `portcullis session`: sign in, look up and end, through the admin listener.

use clap::Subcommand;
use http::Method;
use serde_json::{Map, Value, json};

use super::admin_client::{AdminArgs, AdminClient, encoded, json_line, plain, shown, table};
use super::output::{Failure, Format, Outcome, print};

/// Sign users in, look sessions up and end them, in the running gateway
///
/// Asks its admin listener, so that an ended session is refused at once.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:\n  portcullis session create ann --label laptop\n  \
    portcullis session list ann\n  portcullis session end-user ann")]
pub(super) struct SessionArgs {
    #[command(flatten)]
    admin: AdminArgs,
    #[command(subcommand)]
    command: SessionCommand,
}

/// What to do with sessions.
#[derive(Clone, Debug, Subcommand)]
enum SessionCommand {
    /// Sign a user in and print the pair of tokens
    Create {
        /// The user's id
        user: String,
        /// What the user knows the session by, such as the device
        #[arg(long)]
        label: Option<String>,
        /// More claims of its access tokens: a JSON object
        #[arg(long, value_name = "JSON")]
        claims: Option<String>,
    },
    /// List the sessions of a user, oldest first
    List {
        /// The user's id
        user: String,
    },
    /// Show a session
    Show {
        /// The session's id
        sid: String,
    },
    /// End a session
    End {
        /// The session's id
        sid: String,
    },
    /// End all sessions of a user
    EndUser {
        /// The user's id
        user: String,
        /// A session that stays
        #[arg(long, value_name = "SID")]
        except: Option<String>,
    },
}

/// Carries the command out; as JSON it prints what the server answered.
pub(super) fn run(args: &SessionArgs, format: Format) -> Result<Outcome, Failure> {
    let text = carry_out(args, format == Format::Json)?;
    if !text.is_empty() {
        print(text.trim_end_matches('\n'))?;
    }
    Ok(Outcome::Done)
}

fn carry_out(args: &SessionArgs, json: bool) -> Result<String, Failure> {
    // What is wrong with the arguments is said before anything is asked.
    let claims = match &args.command {
        SessionCommand::Create { claims: Some(text), .. } => Some(object(text)?),
        _ => None,
    };
    let client = AdminClient::new(&args.admin)?;
    match &args.command {
        SessionCommand::Create { user, label, .. } => {
            let body = json!({ "user_id": user, "label": label, "claims": claims });
            let made = client.ask(Method::POST, "/v1/sessions", Some(&body))?;
            let names = ["session_id", "user_id", "expires_in", "access_token", "refresh_token"];
            Ok(if json { json_line(&made) } else { fields(&made, &names) })
        }
        SessionCommand::List { user } => {
            let all = list(&client, user)?;
            Ok(if json { json_line(&json!({ "sessions": all, "next_cursor": null })) } else { overview(&all) })
        }
        SessionCommand::Show { sid } => {
            let found = client.ask(Method::GET, &format!("/v1/sessions/{}", encoded(sid)), None)?;
            let names = [
                "session_id",
                "user_id",
                "label",
                "claims",
                "created_at",
                "last_seen",
                "refreshes",
                "access_expires_at",
            ];
            Ok(if json { json_line(&found) } else { fields(&found, &names) })
        }
        SessionCommand::End { sid } => {
            client.ask(Method::DELETE, &format!("/v1/sessions/{}", encoded(sid)), None)?;
            // The server's answer is empty.
            Ok(if json { String::new() } else { format!("session {} has ended\n", plain(sid)) })
        }
        SessionCommand::EndUser { user, except } => {
            let except = except.as_ref().map(|sid| format!("?except={}", encoded(sid))).unwrap_or_default();
            let path = format!("/v1/users/{}/sessions{except}", encoded(user));
            let ended = client.ask(Method::DELETE, &path, None)?;
            let text = || format!("sessions of {} ended: {}\n", plain(user), shown(&ended, "ended"));
            Ok(if json { json_line(&ended) } else { text() })
        }
    }
}

/// All sessions of a user, page by page.
fn list(client: &AdminClient, user: &str) -> Result<Vec<Value>, Failure> {
    let mut all = Vec::new();
    let mut cursor = String::new();
    loop {
        let path = format!("/v1/sessions?user_id={}&limit=1000{cursor}", encoded(user));
        let mut page = client.ask(Method::GET, &path, None)?;
        if let Value::Array(sessions) = page["sessions"].take() {
            all.extend(sessions);
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={}", encoded(next)),
            None => return Ok(all),
        }
    }
}

fn object(text: &str) -> Result<Map<String, Value>, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::Usage(format!("--claims: expected a JSON object: {error}")))
}

fn fields(object: &Value, names: &[&str]) -> String {
    let width = names.iter().map(|name| name.len()).max().unwrap_or_default();
    names.iter().map(|name| format!("{name:width$}  {}\n", shown(object, name))).collect()
}

fn overview(sessions: &[Value]) -> String {
    let names = ["session_id", "created_at", "last_seen", "refreshes", "label"];
    let mut rows = vec![names.map(str::to_owned).to_vec()];
    rows.extend(sessions.iter().map(|session| names.map(|name| shown(session, name)).to_vec()));
    table(&rows)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use tempfile::TempDir;

    use super::*;
    use crate::admin::tests::{Fixture, TOKEN};

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        session: SessionArgs,
    }

    /// The command with its listener and token, but for what it was given.
    fn command(f: &Fixture, words: &[&str]) -> (TempDir, SessionArgs) {
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("token");
        std::fs::write(&file, format!("{TOKEN}\n")).unwrap();
        let (admin, token) = (format!("--admin=http://{}", f.address()), format!("--token=file:{}", file.display()));
        let line = ["session", &admin, &token].into_iter().chain(words.iter().copied());
        (dir, Line::try_parse_from(line).unwrap().session)
    }

    fn text(f: &Fixture, words: &[&str]) -> Result<String, Failure> {
        let (_token, args) = command(f, words);
        carry_out(&args, false)
    }

    fn json(f: &Fixture, words: &[&str]) -> Value {
        let (_token, args) = command(f, words);
        serde_json::from_str(&carry_out(&args, true).unwrap()).unwrap()
    }

    #[test]
    fn a_session_is_created_shown_listed_and_ended() {
        let f = Fixture::new();
        let user = "ann lee/1";
        let made = json(&f, &["create", user, "--label", "phone", "--claims", r#"{"role":"editor"}"#]);
        let sid = made["session_id"].as_str().unwrap();
        assert_eq!(json(&f, &["show", sid])["claims"], json!({ "role": "editor" }));
        let shown = text(&f, &["show", sid]).unwrap();
        assert!(
            shown.contains("label              phone\n") && shown.contains("user_id            ann lee/1\n"),
            "{shown}"
        );

        let created = text(&f, &["create", user]).unwrap();
        assert!(created.contains("\nrefresh_token  pcr_"), "{created}");
        let listed = text(&f, &["list", user]).unwrap();
        assert_eq!(listed.lines().count(), 3, "{listed}");
        assert_eq!(json(&f, &["list", user])["sessions"].as_array().unwrap().len(), 2);

        assert_eq!(text(&f, &["end-user", user, "--except", sid]).unwrap(), "sessions of ann lee/1 ended: 1\n");
        assert_eq!(text(&f, &["end", sid]).unwrap(), format!("session {sid} has ended\n"));
        let Err(Failure::Failed(refused)) = text(&f, &["show", sid]) else { panic!("still there") };
        assert_eq!(refused, "refused (404, no_such_session)");
        assert_eq!(json(&f, &["end-user", user]), json!({ "ended": 0 }));
    }

    #[test]
    fn a_list_has_all_pages() {
        let f = Fixture::new();
        let sessions = f.app.gateway().sessions.clone();
        f.app.block_on(async {
            let mut all = tokio::task::JoinSet::new();
            for _ in 0..1001 {
                let sessions = sessions.clone();
                all.spawn(async move {
                    let user = crate::ids::UserId::parse("ann").unwrap();
                    let new = crate::session::NewSession { user, label: None, claims: None };
                    sessions.sign_in(new, crate::clock::UnixTime::now()).await.map(drop)
                });
            }
            assert!(all.join_all().await.iter().all(Result::is_ok));
        });
        assert_eq!(json(&f, &["list", "ann"])["sessions"].as_array().unwrap().len(), 1001);
    }

    #[test]
    fn a_refusal_says_why_and_wrong_usage_is_another_failure() {
        let f = Fixture::new();
        let Err(Failure::Failed(refused)) = text(&f, &["create", ""]) else { panic!("signed nobody in") };
        assert_eq!(refused, "refused (400, invalid_field): user_id: is empty");
        for claims in ["[]", "{", "x"] {
            assert!(matches!(text(&f, &["create", "ann", "--claims", claims]), Err(Failure::Usage(_))), "{claims}");
        }
        let (token, mut args) = command(&f, &["list", "ann"]);
        std::fs::write(token.path().join("token"), "another token").unwrap();
        let Err(Failure::Failed(refused)) = carry_out(&args, false) else { panic!("let in") };
        assert_eq!(refused, "refused (401, wrong_token)");
        assert!(matches!(run(&args, Format::Human), Err(Failure::Failed(_))));
        args.command = SessionCommand::Create { user: "ann".into(), label: None, claims: Some("x".into()) };
        assert!(matches!(run(&args, Format::Human), Err(Failure::Usage(_))));
    }

    #[test]
    fn listener_and_token_are_those_of_the_configuration_unless_given() {
        let f = Fixture::new();
        let dir = TempDir::new().unwrap();
        let file = dir.path().join("gateway.toml");
        std::fs::write(dir.path().join("token"), TOKEN).unwrap();
        let text = format!(
            "[server]\nlisten = [\"127.0.0.1:1\"]\n[admin]\nlisten = \"{}\"\ntoken = \"file:token\"\n[session]\nissuer = \"i\"\n\
             audience = \"a\"\n[upstream.u]\nservers = [\"http://127.0.0.1:2\"]\n[[route]]\npath = \"/\"\nupstream = \"u\"\n",
            f.address()
        );
        std::fs::write(&file, &text).unwrap();
        let config = format!("--config={}", file.display());
        let run = |more: &[&str]| {
            let line = ["session", &config].into_iter().chain(more.iter().copied()).chain(["list", "ann"]);
            carry_out(&Line::try_parse_from(line).unwrap().session, true)
        };
        assert_eq!(run(&[]).unwrap(), "{\"next_cursor\":null,\"sessions\":[]}\n");
        assert!(matches!(run(&["--admin", "http://127.0.0.1:1"]), Err(Failure::Failed(_))));
        assert!(matches!(run(&["--token", "env:PORTCULLIS_NO_SUCH_VARIABLE"]), Err(Failure::Failed(_))));

        std::fs::write(&file, text.replace("[admin]", "[nothing]")).unwrap();
        let Err(Failure::Faults(faults)) = run(&[]) else { panic!("taken") };
        assert!(faults.to_string().contains("gateway.toml:3:"), "{faults}");
    }

    #[test]
    fn a_listener_that_is_not_there_is_a_failure_with_its_address() {
        let f = Fixture::new();
        let (_token, args) = command(&f, &["list", "ann"]);
        let address = f.address();
        f.app.stop().unwrap();
        let Err(Failure::Failed(away)) = carry_out(&args, false) else { panic!("answered") };
        assert!(away.starts_with(&format!("cannot ask the admin listener at http://{address}: ")), "{away}");
    }
}
