//! Secrets: in no output, whatever happens.
