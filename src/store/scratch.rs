//! Bytes under numbers that are too many for memory, until they are taken: no tick ever names them.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::store::base::{BATCH_BYTES, Store};
use crate::store::kv::{Batch, Durability, KvError, Slice, Space};
use crate::store::{StoreError, keys};

/// Pieces of bytes under numbers, a segment of the store. Dropped, it deletes what is left; what a crash leaves is
/// deleted when the store opens. In memory is one batch of what was put and one of what is to be deleted.
pub struct Scratch {
    store: Arc<Store>,
    segment: u64,
    /// Of the next piece: those of one number go in the order in which they came.
    piece: u64,
    /// The lowest number that has pieces.
    first: Option<u64>,
    puts: Batch,
    deletes: Batch,
    /// The highest number in `deletes`.
    deleted: Option<u64>,
}

impl Scratch {
    /// The lowest number that has pieces.
    pub fn first(&self) -> Option<u64> {
        self.first
    }

    pub fn push(&mut self, number: u64, piece: Vec<u8>) -> Result<(), StoreError> {
        self.puts.put(Space::Segments, self.key(number, self.piece), piece);
        self.piece += 1;
        self.first = Some(self.first.map_or(number, |first| first.min(number)));
        if self.puts.bytes() >= BATCH_BYTES { self.write() } else { Ok(()) }
    }

    /// Takes out the pieces of a number, in the order in which they came; what an error of `each` leaves is lost.
    pub fn take<E: From<StoreError>>(
        &mut self,
        number: u64,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        if !self.puts.is_empty() || self.deleted >= Some(number) {
            self.write()?;
        }
        let kv = self.store.kv.snapshot();
        let until = keys::segment(self.segment + 1);
        let mut entries = kv.scan(Space::Segments, &self.key(number, 0), &until);
        let mut given = Ok(());
        let next = loop {
            let Some((key, piece)) = self.read(entries.next())? else { break None };
            match keys::segment_number(&key) {
                Some(found) if found != number => break Some(found),
                _ => {}
            }
            given = given.and_then(|()| each(&piece));
            self.deletes.delete(Space::Segments, key);
        };
        self.deleted = self.deleted.max(Some(number));
        if self.first.is_some_and(|first| first >= number) {
            self.first = next;
        }
        if self.deletes.bytes() >= BATCH_BYTES {
            self.write()?;
        }
        given
    }

    fn key(&self, number: u64, piece: u64) -> Vec<u8> {
        keys::segment_piece(self.segment, crate::row::ObjectId(number), piece)
    }

    fn read(&self, entry: Option<Result<(Slice, Slice), KvError>>) -> Result<Option<(Slice, Slice)>, StoreError> {
        entry.transpose().map_err(self.store.failed("read what was put aside"))
    }

    /// What was taken goes before what was put since: a number may come again.
    fn write(&mut self) -> Result<(), StoreError> {
        self.deleted = None;
        for batch in [std::mem::take(&mut self.deletes), std::mem::take(&mut self.puts)] {
            if !batch.is_empty() {
                let written = self.store.kv.write(batch, Durability::Later);
                written.map_err(self.store.failed("put rows aside"))?;
            }
        }
        Ok(())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let (from, until) = (keys::segment(self.segment), keys::segment(self.segment + 1));
        if let Err(error) = self.store.delete_range(Space::Segments, &from, &until) {
            tracing::warn!(segment = self.segment, %error, "what was put aside stays until the store opens again");
        }
    }
}

impl Store {
    pub fn scratch(self: &Arc<Self>) -> Scratch {
        Scratch {
            store: Arc::clone(self),
            segment: self.next_segment.fetch_add(1, Ordering::Relaxed),
            piece: 0,
            first: None,
            puts: Batch::default(),
            deletes: Batch::default(),
            deleted: None,
        }
    }
}
