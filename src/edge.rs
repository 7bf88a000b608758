//! What is kept of one viewer and one item: when the viewer last liked or unliked it, and which of the two.

use std::fmt;
use std::str::FromStr;

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

/// Who likes: a number, or a UUID in a namespace of [128-bit viewers](crate::ViewerIds::U128).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Viewer(u128);

impl Viewer {
    /// The whole id.
    #[must_use]
    pub fn as_u128(self) -> u128 {
        self.0
    }

    /// The id as a plain number, `None` when it does not fit.
    #[must_use]
    pub fn as_u64(self) -> Option<u64> {
        u64::try_from(self.0).ok()
    }
}

impl From<u32> for Viewer {
    fn from(id: u32) -> Self {
        Self(id.into())
    }
}

impl From<u64> for Viewer {
    fn from(id: u64) -> Self {
        Self(id.into())
    }
}

/// A UUID is the number of its 128 bits, first byte first: `uuid.as_u128()`.
impl From<u128> for Viewer {
    fn from(id: u128) -> Self {
        Self(id)
    }
}

/// A number as it is; what does not fit 64 bits as a UUID, `8-4-4-4-12` hexadecimal digits.
impl fmt::Display for Viewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.as_u64() {
            Some(id) => write!(f, "{id}"),
            None => {
                let [a, b, c, d, e] = [96, 80, 64, 48, 0].map(|shift| self.0 >> shift);
                let (b, c, d, e) = (b as u16, c as u16, d as u16, e & ((1 << 48) - 1));
                write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
            }
        }
    }
}

/// The text is neither a number of 64 bits nor a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a viewer is a number of 64 bits, or a UUID such as 67e55044-10b1-426f-9247-bb680e5fe0c8")]
pub struct ParseViewerError;

/// A decimal number of 64 bits, or a UUID, with hyphens or without.
impl FromStr for Viewer {
    type Err = ParseViewerError;

    fn from_str(text: &str) -> Result<Self, ParseViewerError> {
        if text.len() <= 20 && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse::<u64>().map(Self::from).map_err(|_| ParseViewerError);
        }
        let groups: Vec<usize> = text.split('-').map(str::len).collect();
        let digits = text.replace('-', "");
        let is_uuid = (groups == [8, 4, 4, 4, 12] || groups == [32]) && digits.bytes().all(|b| b.is_ascii_hexdigit());
        if !is_uuid {
            return Err(ParseViewerError);
        }
        u128::from_str_radix(&digits, 16).map(Self).map_err(|_| ParseViewerError)
    }
}

/// How wide the viewers of a namespace are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ViewerWidth {
    /// Plain numbers.
    Bits64,
    /// UUIDs.
    Bits128,
}

impl ViewerWidth {
    /// In bytes.
    pub(crate) const fn bytes(self) -> usize {
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
    fn a_viewer_is_read_as_it_is_written() {
        for id in [0, 7, u128::from(u64::MAX), u128::from(u64::MAX) + 1, u128::MAX, 0x67e5_5044 << 96] {
            let viewer = Viewer::from(id);
            assert_eq!(viewer.to_string().parse(), Ok(viewer));
        }
        let uuid: Viewer = "67e55044-10b1-426f-9247-bb680e5fe0c8".parse().unwrap();
        assert_eq!(uuid.as_u128(), 0x67e5_5044_10b1_426f_9247_bb68_0e5f_e0c8);
        assert_eq!(uuid.to_string(), "67e55044-10b1-426f-9247-bb680e5fe0c8");
        for text in ["", "-1", "18446744073709551616", "67e5504410b1-426f-9247-bb680e5fe0c8", "viewer", "+7"] {
            assert_eq!(text.parse::<Viewer>(), Err(ParseViewerError), "{text}");
        }
    }

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
