//! Key sets by `kid`.
/// A public key and the one algorithm it is used with.
#[derive(Debug)]
pub struct VerifyingKey {}
