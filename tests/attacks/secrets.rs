//! Secrets: that none is written down, that none can be guessed, and how little a process is left with.

mod guesses;
mod leaks;
mod misplaced;
mod sandbox;
mod shared_store;
mod watch;
