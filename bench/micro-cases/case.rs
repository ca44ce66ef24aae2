//! A step of a request that can be done again and again.

use std::fmt;

/// What is measured.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) how: How,
    pub(crate) prepare: fn() -> Box<dyn Work>,
}

/// By what a step is measured.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum How {
    /// Instructions and time.
    Both,
    /// Instructions alone: it would fill the output with what it writes.
    Counted,
    /// Time alone: most of it is the disk's, and other threads do a part of the work.
    Timed,
}

impl Case {
    pub(crate) const fn both(name: &'static str, prepare: fn() -> Box<dyn Work>) -> Self {
        Self { name, how: How::Both, prepare }
    }
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

/// A step whose preparations are made.
pub(crate) trait Work {
    /// Makes what the next [`run`](Self::run) uses up. Not measured.
    fn make_ready(&mut self);
    /// The step.
    fn run(&mut self);
}

/// A step that uses nothing up.
pub(crate) fn repeated<R>(mut run: impl FnMut() -> R + 'static) -> Box<dyn Work> {
    consuming(|| (), move |()| run())
}

/// A step that uses up what `make` makes.
pub(crate) fn consuming<I: 'static, R>(
    make: impl FnMut() -> I + 'static,
    run: impl FnMut(I) -> R + 'static,
) -> Box<dyn Work> {
    Box::new(Consuming { make, run, ready: Vec::new() })
}

struct Consuming<I, M, F> {
    make: M,
    run: F,
    ready: Vec<I>,
}

impl<I, R, M: FnMut() -> I, F: FnMut(I) -> R> Work for Consuming<I, M, F> {
    fn make_ready(&mut self) {
        self.ready.push((self.make)());
    }

    fn run(&mut self) {
        if let Some(input) = self.ready.pop() {
            std::hint::black_box((self.run)(input));
        }
    }
}
