//! A gRPC server and client of `grpcio`.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{Front, Server, Toml, eventually, in_turn, python_script, stdout_of, unused_address};

fn server() -> Server {
    Server::start(|address: SocketAddr, _: &Path| {
        let mut command = python_script("grpc_server.py");
        command.arg(address.port().to_string());
        command
    })
}

/// The server speaks HTTP/2 without TLS, as inside a network.
fn front(server: SocketAddr) -> Front {
    Front::with(&Toml { upstream: "protocol = \"http2\"\n".into(), ..Toml::default() }, &[server])
}

fn client(front: &Front, case: &str, token: Option<&str>) -> Command {
    let mut command = python_script("grpc_client.py");
    command.arg(case).arg(format!("localhost:{}", front.address().port())).arg(front.certificate()).args(token);
    command
}

fn passes(case: &str) -> String {
    let _turn = in_turn();
    let server = server();
    let front = front(server.address);
    stdout_of(client(&front, case, Some(&front.access)));
    server.log()
}

#[test]
fn calls_of_all_four_kinds_pass() {
    passes("kinds");
}

#[test]
fn metadata_passes_both_ways_and_the_identity_is_ours() {
    passes("metadata");
}

#[test]
fn statuses_and_trailers_pass_as_the_server_said_them() {
    passes("statuses");
}

#[test]
fn deadlines_reach_the_server_and_are_kept() {
    passes("deadlines");
}

#[test]
fn server_learns_that_a_call_was_cancelled() {
    let _turn = in_turn();
    let server = server();
    let front = front(server.address);
    stdout_of(client(&front, "cancels", Some(&front.access)));
    eventually("the call ended", Duration::from_secs(10), || {
        server.log().contains("ended for the caller").then_some(())
    });
}

#[test]
fn a_thousand_calls_on_one_channel() {
    passes("many");
}

#[test]
fn large_messages_pass() {
    passes("large");
}

#[test]
fn calls_without_a_token_are_refused_in_terms_of_grpc() {
    let _turn = in_turn();
    let server = server();
    let front = front(server.address);
    for (token, reason) in [(None, "missing_token"), (Some("nonsense"), "malformed_token")] {
        let told = stdout_of(client(&front, "refused", token));
        let lines: Vec<_> = told.lines().collect();
        assert_eq!(lines.len(), 2, "{told}");
        assert!(lines.iter().all(|line| line.starts_with("16 ") && line.contains(reason)), "{told}");
    }
}

#[test]
fn calls_without_a_server_are_refused_in_terms_of_grpc() {
    let _turn = in_turn();
    let front = front(unused_address());
    let told = stdout_of(client(&front, "refused", Some(&front.access)));
    let lines: Vec<_> = told.lines().collect();
    assert_eq!(lines.len(), 2, "{told}");
    assert!(lines.iter().all(|line| line.starts_with("14 ") && line.contains("upstream_unreachable")), "{told}");
}
