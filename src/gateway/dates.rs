//! `Date` (RFC 9110 §6.6.1) for answers that have none, formatted once a second.

use std::cell::Cell;
use std::time::SystemTime;

use crate::clock::UnixTime;

/// The last one that was made: its second, and its text.
#[derive(Debug, Default)]
pub(super) struct Dates(Cell<(u64, [u8; LENGTH])>);

/// `Thu, 26 Nov 2026 18:27:42 GMT`
const LENGTH: usize = 29;

impl Dates {
    /// Writes the field.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let now = UnixTime::now().as_secs();
        let (mut second, mut text) = self.0.get();
        if second != now
            && let Ok(new) = httpdate::fmt_http_date(SystemTime::now()).as_bytes().try_into()
        {
            (second, text) = (now, new);
            self.0.set((second, text));
        }
        out.extend_from_slice(b"date: ");
        out.extend_from_slice(&text);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_that_of_now() {
        let mut out = Vec::new();
        Dates::default().write(&mut out);
        let text = String::from_utf8(out).unwrap();
        let date = text.strip_prefix("date: ").and_then(|text| text.strip_suffix("\r\n")).unwrap();
        let since = SystemTime::now().duration_since(httpdate::parse_http_date(date).unwrap()).unwrap();
        assert!(since.as_secs() < 5, "{text}");
    }
}
