//! Takes one message: fetches what a file has of it, decodes it, keeps it where it is bad.

use std::sync::Arc;

use super::messages::{learn, message};
use super::run::Runner;
use super::{Changefeed, spill};
use crate::sources::Stop;
use crate::sources::collect::Collect;
use crate::sources::formats::claim::{self, CLAIM_CHECK, Claimed, FILE_BYTES_MAX};
use crate::sources::formats::{BadMessage, Said, text};
use crate::sources::log::files::storage::{Storage, Whole};
use crate::sources::log::{Entry, Fault, Partition};

impl Runner {
    /// The answer is how much was fetched for it, in bytes.
    pub(super) async fn take(
        &mut self,
        partitions: &[Partition],
        collector: &mut dyn Collect,
        entry: Entry,
    ) -> Result<usize, Fault> {
        let partition = &partitions[entry.partition];
        let mut said: Vec<Said> = Vec::new();
        let mut fetched = 0;
        let Changefeed { decode, registry, claims, .. } = &mut self.feed;
        learn(&mut **decode, registry.as_deref(), &message(partition, &entry), &self.tables).await?;
        let mut decoded = decode.decode(message(partition, &entry), &self.tables, &mut said);
        if let Err(bad) = &decoded
            && bad.code == CLAIM_CHECK
            && let Some(files) = claims
            && let Some(location) = decode.claimed(message(partition, &entry))
        {
            decoded = match fetch(files, &location).await? {
                Err(bad) => Err(bad),
                Ok(Claimed { key, value }) => {
                    let entry = Entry { key, value, ..entry.clone() };
                    fetched = entry.value.as_ref().map_or(0, Vec::len);
                    let decoded = decode.decode(message(partition, &entry), &self.tables, &mut said);
                    let file = text::shown(&location);
                    decoded.map_err(|bad| BadMessage { reason: format!("in {file}: {bad}"), ..bad })
                }
            };
        }
        let place = || format!("topic {}, partition {}, offset {}", partition.topic, partition.number, entry.offset);
        let placed = |stop: Stop| spill::fault(Stop { message: format!("{}: {}", place(), stop.message), ..stop });
        if let Err(bad) = decoded {
            let Some(quarantine) = self.quarantine.as_mut().filter(|_| bad.can_be_left_out()) else {
                return Err(placed(bad.stop()));
            };
            said.clear();
            let kept = &mut self.standing.kept;
            if quarantine.keep(&self.link.store, kept, partition, &entry, &bad).map_err(placed)? {
                tracing::warn!(source = %self.link.id, code = bad.code, "kept in quarantine: {}: {bad}", place());
            }
        }
        collector.take(entry.partition, entry.offset, said).map_err(placed)?;
        Ok(fetched)
    }
}

/// A storage that does not answer is tried again, from before the message; a file that is not there is the message's
/// fault: it is written before its message.
async fn fetch(files: &Arc<dyn Storage>, location: &str) -> Result<Result<Claimed, BadMessage>, Fault> {
    let name = match claim::file_name(location) {
        Ok(name) => name.to_string(),
        Err(bad) => return Ok(Err(bad)),
    };
    let (files, of) = (Arc::clone(files), name.clone());
    let (whole, root) = tokio::task::spawn_blocking(move || (files.whole(&of, FILE_BYTES_MAX), files.name()))
        .await
        .expect("reading a file does not panic");
    let (what, remedy) = match whole? {
        Whole::Bytes(bytes) => return Ok(claim::read(bytes)),
        Whole::Missing => (
            "is not there".to_string(),
            "put the file back, then ALTER SOURCE … RESUME; or create the source anew with the FILES connection of \
             the changefeed's claim-check-storage-uri",
        ),
        Whole::TooLarge => {
            (format!("has more than {} MiB", FILE_BYTES_MAX >> 20), "leave the row out of the changefeed")
        }
    };
    let reason = format!("a row was too large for its message, and its file {root}/{name} {what}");
    Ok(Err(BadMessage { code: CLAIM_CHECK, reason, remedy: remedy.to_string() }))
}
