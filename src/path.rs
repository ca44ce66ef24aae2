//! stub
/// stub
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Spellings(u16);
