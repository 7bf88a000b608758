//! A group of counters: four lists, one for each kind of record.

use super::{Decoder, Malformed, Record};
use crate::MAX_KEY_BYTES;
use crate::reuse;
use crate::varint;

/// The records of a group that is being built.
#[derive(Debug, Default)]
pub(super) struct Lists {
    next_slot: u64,
    sets: List,
    named_sets: List,
    removed: List,
    named_removed: List,
}

impl Lists {
    /// Gives up what is not appended yet. How much room to keep [`clear`](Self::clear) sees by what there was.
    pub(super) fn give_up(&mut self) {
        self.lists_mut().into_iter().for_each(|list| list.count = 0);
    }

    /// For the next group.
    pub(super) fn clear(&mut self) {
        self.next_slot = 0;
        self.lists_mut().into_iter().for_each(List::clear);
    }

    #[inline]
    pub(super) fn push(&mut self, record: Record<'_>) {
        debug_assert!(u64::from(record.slot()) >= self.next_slot, "slots ascend strictly in a group");
        self.next_slot = u64::from(record.slot()) + 1;
        match record {
            Record::Set { slot, value } => varint::put_i64(self.sets.begin(slot), value),
            Record::NamedSet { slot, key, value } => {
                let out = self.named_sets.begin(slot);
                put_key(out, key);
                varint::put_i64(out, value);
            }
            Record::Removed { slot } => {
                self.removed.begin(slot);
            }
            Record::NamedRemoved { slot, key } => put_key(self.named_removed.begin(slot), key),
            Record::Cleared { .. } | Record::Edge { .. } => debug_assert!(false, "edges are no counter's"),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lists().iter().all(|list| list.count == 0)
    }

    pub(super) fn append_to(&self, body: &mut Vec<u8>) {
        for list in self.lists() {
            varint::put_u64(body, list.count);
        }
        for list in self.lists() {
            body.extend_from_slice(&list.bytes);
        }
    }

    /// In the order in which they are written.
    fn lists(&self) -> [&List; 4] {
        [&self.sets, &self.named_sets, &self.removed, &self.named_removed]
    }

    fn lists_mut(&mut self) -> [&mut List; 4] {
        [&mut self.sets, &mut self.named_sets, &mut self.removed, &mut self.named_removed]
    }
}

/// The records of one kind in a group that is being built.
#[derive(Debug, Default)]
struct List {
    bytes: Vec<u8>,
    count: u64,
    next_slot: u64,
}

impl List {
    #[inline]
    fn begin(&mut self, slot: u32) -> &mut Vec<u8> {
        varint::put_u64(&mut self.bytes, u64::from(slot) - self.next_slot);
        self.next_slot = u64::from(slot) + 1;
        self.count += 1;
        &mut self.bytes
    }

    fn clear(&mut self) {
        reuse::clear(&mut self.bytes);
        self.count = 0;
        self.next_slot = 0;
    }
}

fn put_key(out: &mut Vec<u8>, key: &[u8]) {
    debug_assert!((1..=MAX_KEY_BYTES).contains(&key.len()), "a key has 1 to {MAX_KEY_BYTES} bytes");
    varint::put_u64(out, key.len() as u64);
    out.extend_from_slice(key);
}

/// The fewest bytes that a record of each list takes: a gap, a key's length and its one byte, a value.
const MIN_RECORD_BYTES: [u64; 4] = [2, 4, 1, 3];

/// Reads a group that began at `start`, from behind its shard on.
pub(super) fn decode<'a>(
    decoder: &mut Decoder<'a>,
    start: usize,
    visit: &mut impl FnMut(Record<'a>) -> Result<(), &'static str>,
) -> Result<(), Malformed> {
    let counts = decoder.counts(start)?;
    decoder.list(counts[0], visit, |decoder, slot| Ok(Record::Set { slot, value: decoder.value()? }))?;
    decoder.list(counts[1], visit, |decoder, slot| {
        Ok(Record::NamedSet { slot, key: decoder.key()?, value: decoder.value()? })
    })?;
    decoder.list(counts[2], visit, |_, slot| Ok(Record::Removed { slot }))?;
    decoder.list(counts[3], visit, |decoder, slot| Ok(Record::NamedRemoved { slot, key: decoder.key()? }))
}

impl<'a> Decoder<'a> {
    /// The lengths of a group's lists, checked against the bytes that are there.
    fn counts(&mut self, group_start: usize) -> Result<[u64; 4], Malformed> {
        let mut counts = [0u64; 4];
        for count in &mut counts {
            *count = self.unsigned("a record count is not 64 bits")?;
        }
        let needed = counts
            .iter()
            .zip(MIN_RECORD_BYTES)
            .try_fold(0u64, |sum, (count, min_bytes)| sum.checked_add(count.checked_mul(min_bytes)?));
        match needed {
            Some(0) => Err(Malformed { offset: group_start, what: "a group has no records" }),
            Some(needed) if needed <= self.left() => Ok(counts),
            _ => Err(Malformed { offset: group_start, what: "a group has more records than bytes" }),
        }
    }

    fn list(
        &mut self,
        count: u64,
        visit: &mut impl FnMut(Record<'a>) -> Result<(), &'static str>,
        read: impl Fn(&mut Self, u32) -> Result<Record<'a>, Malformed>,
    ) -> Result<(), Malformed> {
        let mut next_slot = 0u64;
        for _ in 0..count {
            let offset = self.at;
            let slot = self.slot(&mut next_slot)?;
            let record = read(self, slot)?;
            visit(record).map_err(|what| Malformed { offset, what })?;
        }
        Ok(())
    }

    fn key(&mut self) -> Result<&'a [u8], Malformed> {
        let offset = self.at;
        let len = self.unsigned::<usize>("a key's length is not a number")?;
        if !(1..=MAX_KEY_BYTES).contains(&len) {
            return Err(Malformed { offset, what: "a key is empty or too long" });
        }
        let key = self.body[self.at..].get(..len).ok_or(Malformed { offset, what: "a key is cut off" })?;
        self.at += len;
        Ok(key)
    }

    fn value(&mut self) -> Result<i64, Malformed> {
        varint::get_i64(self.body, &mut self.at).ok_or(Malformed { offset: self.at, what: "a value is not 64 bits" })
    }
}
