//! Spellings of a path: what was judged is, byte for byte, what the server gets.
