//! stub
/// stub
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Spellings(u16);

impl Spellings {
    /// stub
    pub const NAMES: &[&str] = &[
        "repeated_slash",
        "dot_segments",
        "backslash",
        "parameters",
        "encoded_slash",
        "encoded_backslash",
        "encoded_dot",
        "encoded_percent",
    ];

    /// stub
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().position(|known| *known == name).map(|bit| Self(1 << bit))
    }

    /// stub
    #[must_use]
    pub fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}
