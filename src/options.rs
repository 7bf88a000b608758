//! Settings of a store and of a namespace: plain fields, stated defaults and limits.
//!
//! Nothing is corrected silently: a value outside its limits is [`Error::InvalidOption`] with the field's name.

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::limits::MAX_TIME_MS;

/// Settings of a [`Store`](crate::Store), fixed while it is open. None of them is stored: the next open may
/// choose others.
///
/// ```
/// use std::time::Duration;
/// use plaudit::{Durability, Options};
///
/// let options = Options { durability: Durability::Immediate, segment_bytes: 16 << 20, ..Options::default() };
/// options.validate()?;
/// # Ok::<(), plaudit::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    /// Lock stripes. More of them means less waiting between threads and shorter pauses when a table grows,
    /// and a little more work per epoch.
    ///
    /// A power of two from 1 to 65,536. Default: 128 for each core, at least 256 and at most 4,096.
    pub shards: usize,

    /// When a change is durable. Default: [`Durability::Group`].
    pub durability: Durability,

    /// How long an epoch stays open to gather changes, under [`Durability::Group`].
    ///
    /// From 0 to 10 s. Default: 5 ms.
    pub group_window: Duration,

    /// The size of a log segment in bytes, reserved on the disk when the segment is created. An epoch that
    /// needs more gets a segment of its own size.
    ///
    /// From 4 KiB to 4 GiB. Default: 64 MiB.
    pub segment_bytes: u64,

    /// A compaction starts when the log since the last snapshot has outgrown both this many bytes and the snapshot's
    /// size. It bounds the disk space and the time that opening takes. A segment counts for 64 KiB
    /// beside its frames. A program that is always closed before a compaction ends calls
    /// [`Store::compact`](crate::Store::compact) when one [is due](crate::Store::is_compaction_due).
    ///
    /// At least 4 KiB. Default: 64 MiB.
    pub compaction_threshold_bytes: u64,

    /// How many snapshot generations are kept. With two, damage to the newest costs nothing: the one before
    /// and the log restore the same counts.
    ///
    /// From 1 to 16. Default: 2.
    pub generations_kept: usize,

    /// Where new snapshot generations are written. Existing ones are read from wherever they are.
    ///
    /// Default: [`SnapshotHome::Sled`] with the feature `sled`, else [`SnapshotHome::File`].
    pub snapshot_home: SnapshotHome,
}

/// When a change is durable, that is, safe from a crash of the process and from a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Within the group window and a sync of the log after the call returned, or two syncs if one was under way then. A
    /// call costs memory speed; the receipt tells when the change is durable. Made for many changes under way: whoever
    /// waits for each one before the next waits for the window each time, and gets further with [`Self::Immediate`].
    #[default]
    Group,
    /// Every call returns only once its change is durable. There is no window: a sync begins when the one before has
    /// ended, and calls of several threads share it. When such a call fails after the change was made (a full disk, a
    /// failed sync), the change stays in memory, and it is open whether it will be found after a crash.
    Immediate,
    /// Only when asked for, by [`Store::sync`](crate::Store::sync) or by waiting for a receipt.
    Manual,
}

/// Where snapshot generations are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotHome {
    /// Each generation is a sled database of checksummed blocks. Needs the real file system. sled's own threads (up to
    /// eight or so, which sleep) stay until the process ends.
    #[cfg(feature = "sled")]
    Sled,
    /// Each generation is one plain file of the same blocks.
    File,
}

impl Default for SnapshotHome {
    #[cfg(feature = "sled")]
    fn default() -> Self {
        Self::Sled
    }

    #[cfg(not(feature = "sled"))]
    fn default() -> Self {
        Self::File
    }
}

impl Default for Options {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        Self {
            shards: (cores * 128).next_power_of_two().clamp(256, 4_096),
            durability: Durability::default(),
            group_window: Duration::from_millis(5),
            segment_bytes: 64 << 20,
            compaction_threshold_bytes: 64 << 20,
            generations_kept: 2,
            snapshot_home: SnapshotHome::default(),
        }
    }
}

impl Options {
    /// Checks every field against its limits.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] with the name of the first field that is outside them.
    pub fn validate(&self) -> Result<()> {
        let invalid = |field, value: String, expected: &str| {
            Err(Error::InvalidOption { field, value, expected: expected.to_owned() })
        };
        if !self.shards.is_power_of_two() || self.shards > 65_536 {
            return invalid("shards", self.shards.to_string(), "a power of two from 1 to 65536");
        }
        if self.group_window > Duration::from_secs(10) {
            return invalid("group_window", format!("{:?}", self.group_window), "0 to 10 s");
        }
        if !(4_096..=4 << 30).contains(&self.segment_bytes) {
            return invalid("segment_bytes", self.segment_bytes.to_string(), "4096 (4 KiB) to 4294967296 (4 GiB)");
        }
        if self.compaction_threshold_bytes < 4_096 {
            let value = self.compaction_threshold_bytes.to_string();
            return invalid("compaction_threshold_bytes", value, "at least 4096 (4 KiB)");
        }
        if !(1..=16).contains(&self.generations_kept) {
            return invalid("generations_kept", self.generations_kept.to_string(), "1 to 16");
        }
        Ok(())
    }
}

/// Settings of a namespace of counters. They are stored with it and checked whenever it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CounterOptions {
    /// The smallest value, at most 0 because an absent counter reads 0. Default: `i64::MIN`.
    pub min: i64,
    /// The largest value, at least 0. Default: `i64::MAX`.
    pub max: i64,
    /// What happens to a change that would leave the bounds. Default: [`AtBound::Reject`].
    pub at_bound: AtBound,
}

/// What happens to a change that would take a counter out of its bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum AtBound {
    /// The change is refused with [`Error::OutOfBounds`], or [`Error::Overflow`] where the sum does not fit
    /// 64 bits.
    #[default]
    Reject,
    /// The value stops at the bound. The receipt's delta tells what was really applied.
    Clamp,
}

impl Default for CounterOptions {
    fn default() -> Self {
        Self { min: i64::MIN, max: i64::MAX, at_bound: AtBound::Reject }
    }
}

impl CounterOptions {
    /// Checks that the bounds hold 0 between them.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] with the name of the field that does not fit.
    pub fn validate(&self) -> Result<()> {
        let invalid = |field, value: i64, expected: &str| {
            Err(Error::InvalidOption { field, value: value.to_string(), expected: expected.to_owned() })
        };
        if self.min > 0 {
            return invalid("min", self.min, "at most 0, because an absent counter reads 0");
        }
        if self.max < 0 {
            return invalid("max", self.max, "at least 0, because an absent counter reads 0");
        }
        Ok(())
    }
}

impl fmt::Display for CounterOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at_bound = match self.at_bound {
            AtBound::Reject => "reject",
            AtBound::Clamp => "clamp",
        };
        write!(f, "min {}, max {}, at bound {at_bound}", self.min, self.max)
    }
}

/// Settings of a namespace of likes. They are stored with it and checked whenever it is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LikeOptions {
    /// What viewers are told apart by. Default: [`ViewerIds::U64`].
    pub viewers: ViewerIds,
    /// Unlikes are remembered for this long, in event time; an event that is older is answered
    /// [`Error::TooOld`]. So events may come in any order, and repeatedly, within this time.
    ///
    /// Whole milliseconds, from 0 to [`MAX_TIME_MS`](crate::MAX_TIME_MS) of them. Default: 7 days.
    pub horizon: Duration,
}

/// What the viewers of a namespace of likes are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ViewerIds {
    /// Numbers of 64 bits. One of more is refused with [`Error::ViewerTooWide`].
    #[default]
    U64,
    /// Numbers of 128 bits, such as UUIDs. Each like takes eight bytes more, in memory and on disk.
    U128,
}

impl Default for LikeOptions {
    fn default() -> Self {
        Self { viewers: ViewerIds::default(), horizon: Duration::from_secs(7 * 24 * 60 * 60) }
    }
}

impl LikeOptions {
    /// Checks that the horizon is within its limits.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidOption`] with the name of the field that does not fit.
    pub fn validate(&self) -> Result<()> {
        let is_whole = self.horizon.subsec_nanos().is_multiple_of(1_000_000);
        if is_whole && self.horizon <= Duration::from_millis(MAX_TIME_MS) {
            return Ok(());
        }
        let expected = format!("0 to {MAX_TIME_MS} whole milliseconds");
        Err(Error::InvalidOption { field: "horizon", value: format!("{:?}", self.horizon), expected })
    }

    /// The horizon as it is stored and compared with times of events.
    pub(crate) fn horizon_ms(&self) -> u64 {
        u64::try_from(self.horizon.as_millis()).unwrap_or(u64::MAX)
    }
}

impl fmt::Display for LikeOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = match self.viewers {
            ViewerIds::U64 => 64,
            ViewerIds::U128 => 128,
        };
        write!(f, "viewers of {bits} bits, horizon {:?}", self.horizon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_field(options: &Options) -> Option<&'static str> {
        match options.validate() {
            Err(Error::InvalidOption { field, .. }) => Some(field),
            _ => None,
        }
    }

    #[test]
    fn the_defaults_are_valid() {
        Options::default().validate().unwrap();
        CounterOptions::default().validate().unwrap();
        LikeOptions::default().validate().unwrap();
    }

    #[test]
    fn a_bad_value_is_refused_by_the_name_of_its_field() {
        let base = Options::default;
        assert_eq!(refused_field(&Options { shards: 0, ..base() }), Some("shards"));
        assert_eq!(refused_field(&Options { shards: 48, ..base() }), Some("shards"));
        assert_eq!(refused_field(&Options { shards: 1 << 17, ..base() }), Some("shards"));
        let hour = Duration::from_secs(3_600);
        assert_eq!(refused_field(&Options { group_window: hour, ..base() }), Some("group_window"));
        assert_eq!(refused_field(&Options { segment_bytes: 4_095, ..base() }), Some("segment_bytes"));
        assert_eq!(refused_field(&Options { segment_bytes: (4 << 30) + 1, ..base() }), Some("segment_bytes"));
        let threshold = Some("compaction_threshold_bytes");
        assert_eq!(refused_field(&Options { compaction_threshold_bytes: 0, ..base() }), threshold);
        assert_eq!(refused_field(&Options { generations_kept: 0, ..base() }), Some("generations_kept"));
        assert_eq!(refused_field(&Options { generations_kept: 17, ..base() }), Some("generations_kept"));
    }

    #[test]
    fn bounds_must_hold_zero() {
        assert!(CounterOptions { min: 1, ..CounterOptions::default() }.validate().is_err());
        assert!(CounterOptions { max: -1, ..CounterOptions::default() }.validate().is_err());
        assert!(CounterOptions { min: 0, max: 0, at_bound: AtBound::Clamp }.validate().is_ok());
    }

    #[test]
    fn a_horizon_is_whole_milliseconds_that_a_time_can_have() {
        let with = |horizon| LikeOptions { horizon, ..LikeOptions::default() };
        for horizon in [Duration::ZERO, Duration::from_millis(1), Duration::from_millis(MAX_TIME_MS)] {
            with(horizon).validate().unwrap();
            assert_eq!(u128::from(with(horizon).horizon_ms()), horizon.as_millis());
        }
        for horizon in [Duration::from_micros(1), Duration::from_millis(MAX_TIME_MS + 1), Duration::MAX] {
            let refused = with(horizon).validate();
            assert!(matches!(refused, Err(Error::InvalidOption { field: "horizon", .. })), "{horizon:?}");
        }
    }

    #[test]
    fn options_are_shown_as_they_were_asked_for() {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        assert_eq!(LikeOptions::default().to_string(), "viewers of 64 bits, horizon 604800s");
        let wide = LikeOptions { viewers: ViewerIds::U128, horizon: days(1) };
        assert_eq!(wide.to_string(), "viewers of 128 bits, horizon 86400s");
    }
}
