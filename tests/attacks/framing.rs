//! Framing of HTTP/1.1: never two requests for one, never a byte of a body taken for a header.
//!
//! Each case is a few bytes with a name and a verdict. They are sent to a gateway with a request behind them, and what
//! became of them is judged by an upstream that writes down every byte (`recorder`) and reads it with a strict parser
//! that shares no code with the gateway (`wire`).

mod case;
mod cases;
mod front;
mod lanes;
mod mutations;
mod recorder;
mod standards;
pub(crate) mod wire;

use case::Case;
use front::Front;

/// Runs `try_one` on each case and fails with the names of all that did.
fn judge_all(what: &str, cases: &[Case], try_one: impl Fn(&Case) -> Result<(), String>) {
    let failed: Vec<String> =
        cases.iter().filter_map(|case| try_one(case).err().map(|wrong| format!("{}: {wrong}", case.name))).collect();
    println!("framing {what}: {} cases", cases.len());
    assert!(failed.is_empty(), "{} of {} failed\n{}", failed.len(), cases.len(), failed.join("\n"));
}

#[test]
fn every_case_has_a_name_of_its_own_and_there_are_enough() {
    let cases = cases::all();
    let mut names: Vec<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    names.sort_unstable();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    assert_eq!(twice, Vec::<&str>::new());
    assert!(cases.len() >= 280, "{}", cases.len());
}

#[test]
fn no_case_is_read_in_two_ways() {
    let front = Front::start(false);
    judge_all("at once", &cases::all(), |case| case.run(&front));
}

#[test]
fn no_case_is_read_in_two_ways_over_tls() {
    let front = Front::start(true);
    judge_all("over TLS", &cases::all(), |case| case.run(&front));
}

#[test]
fn no_case_is_read_otherwise_byte_by_byte() {
    let front = Front::start(false);
    judge_all("byte by byte", &cases::all(), |case| {
        let wire = case.wire();
        // The first bytes, and those around the end of a large one: the rest of it is all the same.
        let pieces: Vec<&[u8]> = if wire.len() > 4000 { vec![&wire] } else { wire.chunks(1).collect() };
        case.run_cut(&front, &pieces)
    });
}

#[test]
fn no_case_is_read_otherwise_when_it_comes_in_two_pieces() {
    let front = Front::start(false);
    // A sample: each seventh, which is some of every kind.
    let sample: Vec<Case> = cases::all().into_iter().step_by(7).filter(|case| case.bytes.len() < 200).collect();
    let mut cuts = 0;
    let cut_everywhere = |case: &Case| {
        let wire = case.wire();
        (1..wire.len()).try_for_each(|at| {
            case.run_cut(&front, &[&wire[..at], &wire[at..]]).map_err(|wrong| format!("cut at {at}: {wrong}"))
        })
    };
    for case in &sample {
        cuts += case.wire().len() - 1;
    }
    judge_all("in two pieces", &sample, cut_everywhere);
    println!("framing: {cuts} cuts");
}

/// `PORTCULLIS_LONG_ATTACKS=1` runs all of them.
#[test]
fn no_mutation_is_read_in_two_ways() {
    mutations::run(if is_long() { 100_000 } else { 5_000 });
}

fn is_long() -> bool {
    std::env::var_os("PORTCULLIS_LONG_ATTACKS").is_some_and(|value| value == "1")
}
