//! One counter in 32 bytes: its value, its place in the open epoch, and its key.
//!
//! Keys of up to [`INLINE_KEY_BYTES`] stand in the entry itself. Longer ones live in the table's spill list, and
//! the entry holds their number there. Two entries fill a cache line, and ten million counters with keys of
//! 16 bytes take 320 MB.

use crate::reuse;

/// The longest key that is kept in the entry.
pub(super) const INLINE_KEY_BYTES: usize = 19;

const SPILLED: u8 = INLINE_KEY_BYTES as u8 + 1;
const REMOVED_BIT: u8 = 0x80;
const VACANT: u8 = 0;

const _: () = assert!(size_of::<Entry>() == 32);
const _: () = assert!(SPILLED < REMOVED_BIT);

/// A slot of a table: vacant, live, or removed but still named by an epoch that is not in the log yet.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// The counter's value; meaningless unless live.
    pub(super) value: i64,
    /// Where the open epoch's buffer may hold this slot's change. Only a hint: the buffer's own slot number
    /// decides, so nothing has to be reset when an epoch is sealed.
    pub(super) mark: u32,
    /// 0 when vacant, else the inline key's length or [`SPILLED`], with [`REMOVED_BIT`] when removed.
    tag: u8,
    key: [u8; INLINE_KEY_BYTES],
}

impl Entry {
    pub(super) const fn vacant() -> Self {
        Self { value: 0, mark: 0, tag: VACANT, key: [0; INLINE_KEY_BYTES] }
    }

    pub(super) fn is_vacant(&self) -> bool {
        self.tag == VACANT
    }

    pub(super) fn is_live(&self) -> bool {
        self.tag != VACANT && self.tag & REMOVED_BIT == 0
    }

    /// The value, or `None` for a counter that was removed.
    pub(super) fn live_value(&self) -> Option<i64> {
        self.is_live().then_some(self.value)
    }

    /// Sets the value, or removes the counter while its key stays. Must not be vacant.
    pub(super) fn set_live_value(&mut self, value: Option<i64>) {
        match value {
            Some(value) => {
                self.value = value;
                self.tag &= !REMOVED_BIT;
            }
            None => self.tag |= REMOVED_BIT,
        }
    }

    /// The key's number in the spill list, when it is there.
    fn spill(&self) -> Option<usize> {
        (self.tag & !REMOVED_BIT == SPILLED).then(|| {
            let [a, b, c, d, ..] = self.key;
            u32::from_le_bytes([a, b, c, d]) as usize
        })
    }
}

/// The keys that do not fit their entries.
#[derive(Debug, Default)]
pub(super) struct SpilledKeys {
    keys: Vec<Box<[u8]>>,
    free: Vec<u32>,
    bytes: usize,
}

impl SpilledKeys {
    /// Gives a vacant entry its key.
    pub(super) fn assign(&mut self, entry: &mut Entry, key: &[u8]) {
        if let Some(inline) = entry.key.get_mut(..key.len()) {
            inline.copy_from_slice(key);
            entry.tag = key.len() as u8;
            return;
        }
        self.bytes += key.len();
        let number = match self.free.pop() {
            Some(number) => {
                self.keys[number as usize] = key.into();
                number
            }
            None => {
                reuse::make_room(&mut self.keys);
                self.keys.push(key.into());
                self.keys.len() as u32 - 1
            }
        };
        entry.key[..4].copy_from_slice(&number.to_le_bytes());
        entry.tag = SPILLED;
    }

    /// Makes an entry vacant.
    pub(super) fn vacate(&mut self, entry: &mut Entry) {
        if let Some(number) = entry.spill() {
            self.bytes -= self.keys[number].len();
            self.keys[number] = Box::default();
            self.free.push(number as u32);
        }
        *entry = Entry::vacant();
    }

    /// An entry's key; empty for a vacant one.
    #[inline]
    pub(super) fn key<'a>(&'a self, entry: &'a Entry) -> &'a [u8] {
        match entry.spill() {
            Some(number) => &self.keys[number],
            None => &entry.key[..usize::from(entry.tag & !REMOVED_BIT)],
        }
    }

    /// Whether an entry is of this key, which is not empty.
    #[inline]
    pub(super) fn is_key(&self, entry: &Entry, key: &[u8]) -> bool {
        match entry.key.get(..key.len()) {
            Some(inline) => usize::from(entry.tag & !REMOVED_BIT) == key.len() && inline == key,
            None => self.key(entry) == key,
        }
    }

    /// Bytes of memory held beside the entries.
    pub(super) fn memory_bytes(&self) -> usize {
        self.keys.capacity() * size_of::<Box<[u8]>>() + self.free.capacity() * size_of::<u32>() + self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_every_length_come_back_and_their_room_is_used_again() {
        let mut keys = SpilledKeys::default();
        for round in 0..3u8 {
            let mut entries = Vec::new();
            for len in 1..=64 {
                let mut entry = Entry::vacant();
                keys.assign(&mut entry, &vec![round; len]);
                assert!(entry.is_live());
                entries.push(entry);
            }
            for (entry, len) in entries.iter_mut().zip(1..) {
                assert_eq!(keys.key(entry), vec![round; len]);
                entry.set_live_value(None);
                assert!(!entry.is_live() && !entry.is_vacant());
                assert_eq!(keys.key(entry), vec![round; len]);
                keys.vacate(entry);
                assert!(entry.is_vacant());
            }
        }
        assert_eq!(keys.bytes, 0);
        assert_eq!(keys.keys.len(), 64 - INLINE_KEY_BYTES);
    }
}
