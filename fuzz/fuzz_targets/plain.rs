//! Any bytes as messages of the format in `tests/golden/feeds/plain`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidemill_fuzz::decode("plain", data));
