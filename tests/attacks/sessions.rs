//! Sessions under attack: storms, guesses, stolen tokens.

mod races;
