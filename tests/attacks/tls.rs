//! What TLS is agreed on, and what is refused.
