//! What is kept of one viewer and one item: when the viewer last liked or unliked it, and which of the two.

use crate::limits::MAX_TIME_MS;
use crate::options::ViewerIds;

/// The time of an edge's newest like or unlike, and which it was, in one number: twice the time, and one more for an
/// unlike. So the newer of two events is the larger number, and at equal times the unlike is: comparing decides what an
/// edge is, in whatever order its events come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(u64);

impl Stamp {
    /// The bytes that it takes, little-endian.
    pub(crate) const BYTES: usize = 6;

    const MAX: u64 = MAX_TIME_MS << 1 | 1;

    /// A like or an unlike at a time of at most [`MAX_TIME_MS`].
    pub(crate) fn new(time_ms: u64, liked: bool) -> Self {
        debug_assert!(time_ms <= MAX_TIME_MS, "callers check the time");
        Self((time_ms << 1 | u64::from(!liked)).min(Self::MAX))
    }

    /// In milliseconds since 1970-01-01 UTC.
    pub(crate) fn time_ms(self) -> u64 {
        self.0 >> 1
    }

    /// Whether the viewer likes the item.
    pub(crate) fn is_like(self) -> bool {
        self.0 & 1 == 0
    }

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let [a, b, c, d, e, f, ..] = self.0.to_le_bytes();
        [a, b, c, d, e, f]
    }

    /// Any bytes are a stamp.
    pub(crate) fn from_bytes([a, b, c, d, e, f]: [u8; Self::BYTES]) -> Self {
        Self(u64::from_le_bytes([a, b, c, d, e, f, 0, 0]))
    }
}

/// How wide the viewers of a namespace are, in memory and on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ViewerWidth {
    /// 64 bits.
    Bits64,
    /// 128 bits.
    Bits128,
}

impl ViewerWidth {
    /// The bytes that a viewer takes.
    pub(crate) fn bytes(self) -> usize {
        match self {
            Self::Bits64 => size_of::<u64>(),
            Self::Bits128 => size_of::<u128>(),
        }
    }
}

impl From<ViewerIds> for ViewerWidth {
    fn from(viewers: ViewerIds) -> Self {
        match viewers {
            ViewerIds::U64 => Self::Bits64,
            ViewerIds::U128 => Self::Bits128,
        }
    }
}

/// What a group of the log or a block of a snapshot holds of a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// Counters, or the counts of items.
    Counters,
    /// The edges of items.
    Edges(ViewerWidth),
}

const _: () = assert!(MAX_TIME_MS << 1 | 1 == (1 << (8 * Stamp::BYTES)) - 1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newer_event_is_the_larger_and_at_equal_times_the_unlike() {
        assert!(Stamp::new(2, true) > Stamp::new(1, false));
        assert!(Stamp::new(2, false) > Stamp::new(2, true));
        for (time_ms, liked) in [(0, true), (0, false), (1 << 40, true), (MAX_TIME_MS, true), (MAX_TIME_MS, false)] {
            let stamp = Stamp::from_bytes(Stamp::new(time_ms, liked).to_bytes());
            assert_eq!((stamp.time_ms(), stamp.is_like()), (time_ms, liked));
        }
    }
}
