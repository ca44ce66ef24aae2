//! Sessions under attack: storms, guesses, stolen tokens.
