//! Sessions under attack: storms, guesses, stolen tokens; and what the standards ask of them.

mod races;
mod standards;
