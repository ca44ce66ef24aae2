//! What the steps of a request cost one by one, each with what real clients send: in instructions, which are the same
//! on a busy machine, and in time.
#![expect(clippy::expect_used, reason = "a measurement that cannot go on ends")]

mod case;
mod count;
mod material;
mod request;
mod session;
mod token;

use std::cell::RefCell;
use std::process::ExitCode;

use case::{Case, How};

/// All of them, in the order of a request.
fn cases() -> impl Iterator<Item = &'static Case> {
    [request::CASES, token::CASES, session::CASES].into_iter().flatten()
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["count", ref filters @ ..] => count::compare(filters),
        ["table"] => count::table(),
        // What the counting starts under valgrind.
        [count::ONE, name, times] => {
            let case = cases().find(|case| case.name == name).expect("a name of the list");
            count::run(case, times.parse().expect("a number"));
            ExitCode::SUCCESS
        }
        _ => {
            divan::main();
            ExitCode::SUCCESS
        }
    }
}

#[divan::bench(args = cases().filter(|case| case.how != How::Counted))]
fn time(bencher: divan::Bencher<'_, '_>, case: &Case) {
    let work = RefCell::new((case.prepare)());
    bencher.with_inputs(|| work.borrow_mut().make_ready()).bench_local_values(|()| work.borrow_mut().run());
}
