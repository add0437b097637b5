//! What the fuzz targets share with the tests: the golden files and how bytes are read as messages.

#[path = "../../tests/feeds/formats.rs"]
pub mod formats;
#[path = "../../tests/feeds/golden.rs"]
pub mod golden;
#[path = "../../tests/feeds/inputs.rs"]
pub mod inputs;

use std::path::{Path, PathBuf};

use golden::Feed;

thread_local! {
    static FEEDS: Vec<Feed> = golden::feeds(&root());
}

/// The checkout.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package is in the checkout").to_path_buf()
}

/// One input of a target.
pub fn decode(format: &str, data: &[u8]) {
    FEEDS.with(|feeds| inputs::decode(feeds, format, data));
}
