//! The named cases, by what they are about.

mod bodies;
mod chunks;
mod codings;
mod fields;
mod hops;
mod lengths;
mod lines;
mod targets;

use super::case::Case;

/// All of them.
pub(super) fn all() -> Vec<Case> {
    [
        lengths::cases(),
        codings::cases(),
        chunks::cases(),
        fields::cases(),
        lines::cases(),
        targets::cases(),
        hops::cases(),
        bodies::cases(),
    ]
    .concat()
}
