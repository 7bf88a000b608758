//! What a power cut leaves of the operations that were never synced.

use super::image::Image;
use super::random::Random;

/// Which of the unsynced operations survive a power cut.
///
/// Whatever was synced survives in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Survival {
    /// None of them.
    Nothing,
    /// All of them, as if everything had just been written back.
    Everything,
    /// Those before a random moment, over all files and directories, and none after it. A write in that moment comes
    /// any part of the way.
    Prefix,
    /// A random subset, in no order. Writes tear at sectors of 512 bytes. Where a write extended the file, the
    /// new length may be lost, survive in part, or survive without the bytes; zeros or arbitrary bytes are there then.
    /// Changes of names are lost or kept whole.
    Random,
}

/// A change of a file's contents or length.
#[derive(Clone)]
pub(super) enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    SetLen(u64),
}

impl Change {
    pub(super) fn apply(&self, image: &mut Image) {
        match self {
            Self::Write { offset, bytes } => image.write(*offset, bytes),
            Self::SetLen(len) => image.set_len(*len),
        }
    }

    /// The length of a file that had `len` bytes before the change.
    pub(super) fn len_after(&self, len: u64) -> u64 {
        match self {
            Self::Write { offset, bytes } => len.max(offset + bytes.len() as u64),
            Self::SetLen(len) => *len,
        }
    }
}

/// Draws the fate of each unsynced operation.
pub(super) struct Lottery {
    survival: Survival,
    /// With [`Survival::Prefix`], the first operation that is lost.
    first_lost: u64,
    random: Random,
}

impl Lottery {
    /// `unsynced` are the numbers of the operations, in no order.
    pub(super) fn new(survival: Survival, seed: u64, mut unsynced: Vec<u64>) -> Self {
        let mut random = Random::new(seed);
        unsynced.sort_unstable();
        let kept = random.below(unsynced.len() as u64 + 1) as usize;
        let first_lost = unsynced.get(kept).copied().unwrap_or(u64::MAX);
        Self { survival, first_lost, random }
    }

    /// Whether an operation that is lost or kept whole survives.
    pub(super) fn keeps(&mut self, number: u64) -> bool {
        match self.survival {
            Survival::Nothing => false,
            Survival::Everything => true,
            Survival::Prefix => number < self.first_lost,
            Survival::Random => self.random.coin(),
        }
    }

    /// Applies what survives of a change of a file.
    pub(super) fn play(&mut self, number: u64, change: &Change, image: &mut Image) {
        match change {
            Change::Write { offset, bytes } if self.survival == Survival::Random => self.tear(*offset, bytes, image),
            Change::Write { offset, bytes } if self.survival == Survival::Prefix && number == self.first_lost => {
                let part = self.random.below(bytes.len() as u64) as usize;
                image.write(*offset, &bytes[..part]);
            }
            _ if self.keeps(number) => change.apply(image),
            _ => {}
        }
    }

    fn tear(&mut self, offset: u64, bytes: &[u8], image: &mut Image) {
        let end = offset + bytes.len() as u64;
        if end > image.len() && self.random.coin() {
            self.extend(end, image);
        }
        match self.random.below(4) {
            0 => {}
            1 => image.write(offset, bytes),
            _ => self.tear_sectors(offset, bytes, image),
        }
    }

    fn tear_sectors(&mut self, offset: u64, bytes: &[u8], image: &mut Image) {
        const SECTOR_BYTES: u64 = 512;
        let (mut position, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let to_boundary = SECTOR_BYTES - position % SECTOR_BYTES;
            let (sector, after) = rest.split_at(rest.len().min(to_boundary as usize));
            if self.random.coin() {
                image.write(position, sector);
            }
            position += sector.len() as u64;
            rest = after;
        }
    }

    /// Extends a file whose bytes did not make it to the disk: with zeros, or with what the blocks held before.
    fn extend(&mut self, end: u64, image: &mut Image) {
        const MOST_STALE_BYTES: u64 = 1 << 20;
        let start = image.len();
        image.set_len(end);
        if self.random.coin() {
            // A hole far larger than any write stays zero beyond its first part.
            let stale = (end - start).min(MOST_STALE_BYTES) as usize;
            image.write(start, &self.random.bytes(stale));
        }
    }
}
