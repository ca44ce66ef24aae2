//! Tokens that somebody else made, at the front door.
