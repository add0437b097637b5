//! Any bytes as messages of the format in `tests/golden/feeds/avro`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidemill_fuzz::decode("avro", data));
