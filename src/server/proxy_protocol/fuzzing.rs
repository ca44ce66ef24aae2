//! Any bytes as the beginning of a connection from a balancer.

use super::parse;

/// The header ends where it ends, however it arrives: less of it is never a header, and more changes nothing.
pub(crate) fn header(data: &[u8]) {
    match parse(data) {
        Ok(Some(header)) => {
            assert!(header.length <= data.len());
            let (whole, _) = data.split_at(header.length);
            assert_eq!(parse(whole).ok().flatten(), Some(header), "read otherwise without what follows it");
            for end in 0..header.length {
                assert!(matches!(parse(&whole[..end]), Ok(None)), "a header of {end} bytes, then of {}", header.length);
            }
        }
        // Bounded: whoever sends on for ever is told so.
        Ok(None) => assert!(data.len() < super::FIXED + super::MOST_FOLLOWING),
        Err(_) => {}
    }
}
