//! The body of an epoch's frame: each changed counter once, with its value at the end of the epoch.
//!
//! ```text
//! body  = group*
//! group = namespace  shard                                varints; u16 and u32
//!         n-set  n-named-set  n-removed  n-named-removed  varints; not all zero
//!         set{n-set}  named-set{n-named-set}  removed{n-removed}  named-removed{n-named-removed}
//!
//! set           = gap value
//! named-set     = gap key value
//! removed       = gap
//! named-removed = gap key
//!
//! gap   = varint; the slot less the one after the slot before it in the same list, or less 0 for the list's first
//! key   = varint length (1 to 1024), then as many bytes
//! value = zigzag varint
//! ```
//!
//! Slots ascend strictly in each list, because a gap cannot say anything else. Varints are those of
//! [`crate::varint`].

use crate::MAX_KEY_BYTES;
use crate::varint;

/// A change to one counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Record<'a> {
    /// The counter that the slot is known to be has this value.
    Set {
        /// Its slot in the shard.
        slot: u32,
        /// Its value.
        value: i64,
    },
    /// The slot is this key's from here on, and the counter has this value.
    NamedSet {
        /// Its slot in the shard.
        slot: u32,
        /// Its key.
        key: &'a [u8],
        /// Its value.
        value: i64,
    },
    /// The counter that the slot is known to be was removed.
    Removed {
        /// Its slot in the shard.
        slot: u32,
    },
    /// The counter of this key, in this slot, was removed.
    NamedRemoved {
        /// Its slot in the shard.
        slot: u32,
        /// Its key.
        key: &'a [u8],
    },
}

impl Record<'_> {
    /// The slot of the counter that changed.
    pub(super) fn slot(&self) -> u32 {
        match *self {
            Self::Set { slot, .. }
            | Self::NamedSet { slot, .. }
            | Self::Removed { slot }
            | Self::NamedRemoved { slot, .. } => slot,
        }
    }
}

/// Builds a body. It keeps its buffers, so that a body costs no allocation once they have grown.
#[derive(Debug, Default)]
pub(crate) struct BodyEncoder {
    body: Vec<u8>,
    namespace: u16,
    shard: u32,
    next_slot: u64,
    sets: List,
    named_sets: List,
    removed: List,
    named_removed: List,
}

impl BodyEncoder {
    /// Starts over with an empty body.
    pub(crate) fn clear(&mut self) {
        self.body.clear();
        self.clear_lists();
    }

    /// Begins the changes of a shard of a namespace.
    pub(crate) fn begin_group(&mut self, namespace: u16, shard: u32) {
        self.clear_lists();
        self.namespace = namespace;
        self.shard = shard;
    }

    /// Adds a change. Slots ascend strictly over all records of a group, of whatever kind, and a key has 1 to
    /// [`MAX_KEY_BYTES`] bytes.
    #[inline]
    pub(crate) fn push(&mut self, record: Record<'_>) {
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
        }
    }

    /// Ends the group. One without a change leaves no trace.
    pub(crate) fn end_group(&mut self) {
        let lists = [&self.sets, &self.named_sets, &self.removed, &self.named_removed];
        if lists.iter().all(|list| list.count == 0) {
            return;
        }
        varint::put_u64(&mut self.body, u64::from(self.namespace));
        varint::put_u64(&mut self.body, u64::from(self.shard));
        for list in lists {
            varint::put_u64(&mut self.body, list.count);
        }
        for list in lists {
            self.body.extend_from_slice(&list.bytes);
        }
        self.clear_lists();
    }

    /// The body as of the last group that ended.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.body
    }

    fn clear_lists(&mut self) {
        self.next_slot = 0;
        for list in [&mut self.sets, &mut self.named_sets, &mut self.removed, &mut self.named_removed] {
            list.clear();
        }
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
        self.bytes.clear();
        self.count = 0;
        self.next_slot = 0;
    }
}

fn put_key(out: &mut Vec<u8>, key: &[u8]) {
    debug_assert!((1..=MAX_KEY_BYTES).contains(&key.len()), "a key has 1 to {MAX_KEY_BYTES} bytes");
    varint::put_u64(out, key.len() as u64);
    out.extend_from_slice(key);
}

/// Why bytes are not a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed {
    /// Where, from the body's start.
    pub(crate) offset: usize,
    /// What was found.
    pub(crate) what: &'static str,
}

/// Hands every change of a body to `visit`, with its namespace and shard. What `visit` refuses makes the body
/// malformed at that record. Nothing is allocated.
pub(crate) fn decode_body<'a>(
    body: &'a [u8],
    mut visit: impl FnMut(u16, u32, Record<'a>) -> Result<(), &'static str>,
) -> Result<(), Malformed> {
    let mut decoder = Decoder { body, at: 0 };
    while decoder.at < body.len() {
        decoder.group(&mut visit)?;
    }
    Ok(())
}

/// The fewest bytes that a record of each list takes: a gap, a key's length and its one byte, a value.
const MIN_RECORD_BYTES: [u64; 4] = [2, 4, 1, 3];

struct Decoder<'a> {
    body: &'a [u8],
    at: usize,
}

impl<'a> Decoder<'a> {
    fn group(
        &mut self,
        visit: &mut impl FnMut(u16, u32, Record<'a>) -> Result<(), &'static str>,
    ) -> Result<(), Malformed> {
        let start = self.at;
        let namespace = self.unsigned::<u16>("a namespace is not 16 bits")?;
        let shard = self.unsigned::<u32>("a shard is not 32 bits")?;
        let counts = self.counts(start)?;
        let mut visit = |record| visit(namespace, shard, record);
        self.list(counts[0], &mut visit, |decoder, slot| Ok(Record::Set { slot, value: decoder.value()? }))?;
        self.list(counts[1], &mut visit, |decoder, slot| {
            Ok(Record::NamedSet { slot, key: decoder.key()?, value: decoder.value()? })
        })?;
        self.list(counts[2], &mut visit, |_, slot| Ok(Record::Removed { slot }))?;
        self.list(counts[3], &mut visit, |decoder, slot| Ok(Record::NamedRemoved { slot, key: decoder.key()? }))
    }

    /// The lengths of a group's lists, checked against the bytes that are there.
    fn counts(&mut self, group_start: usize) -> Result<[u64; 4], Malformed> {
        let mut counts = [0u64; 4];
        for count in &mut counts {
            *count = self.unsigned("a record count is not 64 bits")?;
        }
        let left = (self.body.len() - self.at) as u64;
        let needed = counts
            .iter()
            .zip(MIN_RECORD_BYTES)
            .try_fold(0u64, |sum, (count, min_bytes)| sum.checked_add(count.checked_mul(min_bytes)?));
        match needed {
            Some(0) => Err(Malformed { offset: group_start, what: "a group has no records" }),
            Some(needed) if needed <= left => Ok(counts),
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
            let gap = self.unsigned::<u64>("a slot is not 32 bits")?;
            let slot = next_slot.checked_add(gap).and_then(|slot| u32::try_from(slot).ok());
            let slot = slot.ok_or(Malformed { offset, what: "a slot is not 32 bits" })?;
            next_slot = u64::from(slot) + 1;
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

    fn unsigned<T: TryFrom<u64>>(&mut self, what: &'static str) -> Result<T, Malformed> {
        let offset = self.at;
        varint::get_u64(self.body, &mut self.at)
            .and_then(|value| T::try_from(value).ok())
            .ok_or(Malformed { offset, what })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone, PartialEq, Eq)]
    enum Owned {
        Set(i64),
        NamedSet(Vec<u8>, i64),
        Removed,
        NamedRemoved(Vec<u8>),
    }

    impl Owned {
        fn record(&self, slot: u32) -> Record<'_> {
            match self {
                Self::Set(value) => Record::Set { slot, value: *value },
                Self::NamedSet(key, value) => Record::NamedSet { slot, key, value: *value },
                Self::Removed => Record::Removed { slot },
                Self::NamedRemoved(key) => Record::NamedRemoved { slot, key },
            }
        }

        fn of(record: Record<'_>) -> Self {
            match record {
                Record::Set { value, .. } => Self::Set(value),
                Record::NamedSet { key, value, .. } => Self::NamedSet(key.to_vec(), value),
                Record::Removed { .. } => Self::Removed,
                Record::NamedRemoved { key, .. } => Self::NamedRemoved(key.to_vec()),
            }
        }
    }

    type Flat = Vec<(u16, u32, u32, Owned)>;

    fn decoded(body: &[u8]) -> Result<Flat, Malformed> {
        let mut flat = Flat::new();
        decode_body(body, |namespace, shard, record| {
            flat.push((namespace, shard, record.slot(), Owned::of(record)));
            Ok(())
        })?;
        Ok(flat)
    }

    fn example() -> BodyEncoder {
        let mut encoder = BodyEncoder::default();
        encoder.begin_group(1, 300);
        encoder.push(Record::Set { slot: 2, value: -1 });
        encoder.push(Record::NamedSet { slot: 3, key: b"ab", value: 64 });
        encoder.push(Record::Set { slot: 4, value: 5 });
        encoder.push(Record::Removed { slot: 7 });
        encoder.push(Record::NamedRemoved { slot: 9, key: b"z" });
        encoder.end_group();
        encoder
    }

    #[test]
    fn a_body_has_the_bytes_that_the_grammar_says() {
        let golden = [1, 0xac, 2, 2, 1, 1, 1, 2, 1, 1, 10, 3, 2, b'a', b'b', 0x80, 1, 7, 9, 1, b'z'];
        assert_eq!(example().as_bytes(), golden);
    }

    #[test]
    fn an_empty_group_leaves_no_trace_and_clear_starts_over() {
        let mut encoder = example();
        let one = encoder.as_bytes().to_vec();
        encoder.begin_group(2, 2);
        encoder.end_group();
        assert_eq!(encoder.as_bytes(), one);
        encoder.begin_group(2, 2);
        encoder.push(Record::Removed { slot: 1 });
        encoder.clear();
        encoder.end_group();
        assert_eq!(encoder.as_bytes(), [0u8; 0]);
    }

    #[test]
    fn every_malformed_body_is_refused_where_it_is() {
        let long_key = [&[0, 0, 0, 1, 0, 0, 0, 0x81, 8][..], &[7; 1030]].concat();
        let cases: [(&[u8], usize, &str); 10] = [
            (&[0x80, 0x80, 4, 0, 1, 0, 0, 0, 0, 0], 0, "a namespace is not 16 bits"),
            (&[0, 0x80, 0x80, 0x80, 0x80, 0x10, 1, 0, 0, 0, 0, 0], 1, "a shard is not 32 bits"),
            (&[0, 0, 0, 0, 0, 0], 0, "a group has no records"),
            (&[0, 0, 2, 0, 0, 0, 0, 0, 0], 0, "a group has more records than bytes"),
            (
                &[0, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1, 0, 0, 0],
                0,
                "a group has more records than bytes",
            ),
            (&[0, 0, 0, 0, 2, 0, 255, 255, 255, 255, 15, 0], 11, "a slot is not 32 bits"),
            (&[0, 0, 0, 1, 0, 0, 0, 0, 0, 0], 7, "a key is empty or too long"),
            (&long_key, 7, "a key is empty or too long"),
            (&[0, 0, 0, 1, 0, 0, 0, 9, 1, 1], 7, "a key is cut off"),
            (&[0, 0, 1, 0, 0, 0, 0, 0x80], 7, "a value is not 64 bits"),
        ];
        for (body, offset, what) in cases {
            assert_eq!(decoded(body), Err(Malformed { offset, what }));
        }
    }

    #[test]
    fn what_the_visitor_refuses_is_malformed_at_that_record() {
        let refused = decode_body(example().as_bytes(), |_, _, record| match record {
            Record::Removed { .. } => Err("never named"),
            _ => Ok(()),
        });
        assert_eq!(refused, Err(Malformed { offset: 17, what: "never named" }));
    }

    fn change() -> impl Strategy<Value = Owned> {
        let key = || prop::collection::vec(any::<u8>(), 1..40);
        prop_oneof![
            any::<i64>().prop_map(Owned::Set),
            (key(), any::<i64>()).prop_map(|(key, value)| Owned::NamedSet(key, value)),
            Just(Owned::Removed),
            key().prop_map(Owned::NamedRemoved),
        ]
    }

    type Groups = std::collections::BTreeMap<(u16, u32), std::collections::BTreeMap<u32, Owned>>;

    fn groups() -> impl Strategy<Value = Groups> {
        let slot = prop_oneof![0u32..50, any::<u32>(), Just(u32::MAX)];
        let records = prop::collection::btree_map(slot, change(), 1..30);
        prop::collection::btree_map((any::<u16>(), any::<u32>()), records, 0..4)
    }

    proptest! {
        #[test]
        fn every_body_comes_back(groups in groups()) {
            let mut encoder = BodyEncoder::default();
            let mut expected = Flat::new();
            for ((namespace, shard), records) in &groups {
                encoder.begin_group(*namespace, *shard);
                for (slot, change) in records {
                    encoder.push(change.record(*slot));
                    expected.push((*namespace, *shard, *slot, change.clone()));
                }
                encoder.end_group();
            }
            let mut found = decoded(encoder.as_bytes()).unwrap();
            found.sort_by_key(|&(namespace, shard, slot, _)| (namespace, shard, slot));
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn arbitrary_bytes_never_panic(body in prop::collection::vec(prop_oneof![0u8..4, any::<u8>()], 0..200)) {
            let records = decoded(&body).map_or(0, |flat| flat.len());
            prop_assert!(records <= body.len());
        }

        #[test]
        fn a_damaged_body_never_panics(groups in groups(), at: prop::sample::Index, bit in 0u8..8) {
            let mut encoder = BodyEncoder::default();
            for ((namespace, shard), records) in &groups {
                encoder.begin_group(*namespace, *shard);
                records.iter().for_each(|(slot, change)| encoder.push(change.record(*slot)));
                encoder.end_group();
            }
            let mut body = encoder.as_bytes().to_vec();
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] ^= 1 << bit;
            }
            let _ = decoded(&body);
            for len in 0..body.len() {
                let _ = decoded(&body[..len]);
            }
        }
    }
}
