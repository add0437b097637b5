//! Any bytes as messages of the format in `tests/golden/feeds/debezium`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| tidemill_fuzz::decode("debezium", data));
