//! A WebSocket server and clients of Python's `websockets`, and the cases of conformance frame by frame.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use crate::support::{Front, Server, Toml, in_turn, python_script, stdout_of};

pub(crate) fn server() -> Server {
    Server::start(|address: SocketAddr, _: &Path| {
        let mut command = python_script("websocket_server.py");
        command.arg(address.port().to_string());
        command
    })
}

/// The client with what it needs to reach `front`.
pub(crate) fn client(front: &Front, case: &str, token: Option<&str>) -> Command {
    let mut command = python_script("websocket_client.py");
    let url = front.url("").replacen("http", "ws", 1);
    command.args([case, &url]).arg(front.certificate()).args(token);
    command
}

fn passes(case: &str) {
    let _turn = in_turn();
    let server = server();
    let front = Front::of(server.address);
    let idle = front.idle_sockets();
    stdout_of(client(&front, case, Some(&front.access)));
    front.settles_at(idle);
}

#[test]
fn messages_of_all_lengths_pass_with_and_without_compression() {
    passes("echo");
}

#[test]
fn fragmented_messages_pass_as_they_are() {
    passes("fragmented");
}

#[test]
fn pings_and_pongs_pass_both_ways() {
    passes("pings");
}

#[test]
fn close_codes_and_reasons_pass_both_ways() {
    passes("closes");
}

#[test]
fn subprotocols_are_agreed_between_client_and_server() {
    passes("subprotocols");
}

#[test]
fn two_hundred_websockets_at_once() {
    passes("many");
}

#[test]
fn websocket_server_sees_the_identity_and_never_a_forged_one() {
    passes("identity");
}

#[test]
fn handshake_without_a_good_token_is_refused_with_the_reason() {
    let _turn = in_turn();
    let server = server();
    let front = Front::of(server.address);
    stdout_of(client(&front, "refused", None));
}

/// What the Autobahn test suite asks of a server, asked with and without the gateway between: it gives and takes the same
/// bytes.
#[test]
fn conformance_cases_end_as_they_do_without_the_gateway() {
    let _turn = in_turn();
    let server = server();
    for tls in [false, true] {
        let front = Front::with(&Toml { tls, ..Toml::default() }, &[server.address]);
        let idle = front.idle_sockets();
        let mut command = python_script("websocket_cases.py");
        command.arg(server.address.to_string()).arg(front.address().to_string());
        command.arg(if tls { front.certificate() } else { "-".into() }).arg(&front.access);
        let told = stdout_of(command);
        println!("TLS {tls}: {told}");
        let cases: usize = told.trim().split(' ').next().unwrap().parse().unwrap();
        assert!(cases > 200, "{told}");
        front.settles_at(idle);
    }
}
