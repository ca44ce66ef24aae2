//! curl, and what programs write to their standard output.

use std::io::Read;
use std::process::{Child, Command, Stdio};

use aws_lc_rs::digest::{Context, SHA256};

use super::{Front, installed};

/// curl that trusts the gateway's certificate and carries the token of `ann`. Nothing of the caller's environment or
/// home directory counts.
pub(crate) fn curl(front: &Front, arguments: &[&str]) -> Command {
    curl_as(front, &front.access, arguments)
}

/// The same with another token.
pub(crate) fn curl_as(front: &Front, token: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(installed("curl"));
    command.args(["-q", "--silent", "--show-error", "--noproxy", "*", "--max-time", "600", "--cacert"]);
    command.arg(front.certificate()).args(["-H", &format!("Authorization: Bearer {token}")]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a program that succeeds writes to its standard output.
pub(crate) fn stdout_of(mut command: Command) -> String {
    let output = command.output().expect("started");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {error}", output.status);
    String::from_utf8(output.stdout).expect("text")
}

/// SHA-256 and length of what a program that succeeds writes to its standard output.
pub(crate) fn hashed(mut command: Command) -> (String, u64) {
    let mut child = command.stdout(Stdio::piped()).spawn().expect("started");
    let read = hash(child.stdout.take().expect("piped"));
    finish(child, &command);
    read
}

fn finish(child: Child, command: &Command) {
    let output = child.wait_with_output().expect("ours");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {error}", output.status);
}

/// SHA-256 in hexadecimal, and the length.
fn hash(mut input: impl Read) -> (String, u64) {
    let (mut context, mut length) = (Context::new(&SHA256), 0);
    let mut piece = vec![0; 256 * 1024];
    loop {
        match input.read(&mut piece).expect("read") {
            0 => return (hexadecimal(context), length),
            count => {
                context.update(&piece[..count]);
                length += u64::try_from(count).expect("small");
            }
        }
    }
}

/// The digest as text.
pub(crate) fn hexadecimal(context: Context) -> String {
    context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
