//! Paths, judged and routed, against the plain rule and against backends.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| portcullis::fuzzing::route(data));
