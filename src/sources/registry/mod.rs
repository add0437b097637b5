//! The contract of a schema registry: schemas by number and by the name of what they describe.
//!
//! What each side may rely on:
//! - a number is of one schema for ever: what was read is not asked for again;
//! - what the registry definitely does not have, or has in another language than Avro, is an answer; whatever may be
//!   otherwise in a minute (the link, its load, a password) is a [`Fault::Lost`];
//! - a question takes a bounded time, and an answer a bounded memory.

#[cfg(feature = "avro")]
pub mod confluent;

use std::sync::Arc;

use async_trait::async_trait;

use crate::sources::formats::avro::Learned;
use crate::sources::formats::avro::schema::Schema;
use crate::sources::log::Fault;

#[async_trait]
pub trait Registry: Send + Sync {
    /// The schema of that number; the inner error is of a message that is written by it.
    async fn by_number(&self, number: u32) -> Result<Learned, Fault>;

    /// The newest schema of a subject (`<topic>-value`, `<topic>-key`); `None`: there is none. The inner error says why
    /// it cannot be read.
    async fn latest(&self, subject: &str) -> Result<Option<Result<Arc<Schema>, String>>, Fault>;
}
