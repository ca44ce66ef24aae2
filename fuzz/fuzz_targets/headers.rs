//! The fields of a request on their way to the upstream.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis::fuzzing::headers(data));
