//! Sessions: what the standards ask of them.

mod standards;
