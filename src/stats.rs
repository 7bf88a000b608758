//! Figures about a running store.

use std::time::Duration;

use crate::error::Error;
use crate::sync::Mutex;

/// A store's figures at one moment, from [`Store::stats`](crate::Store::stats).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Stats {
    /// Counters that exist, in all namespaces.
    pub counters: u64,
    /// Namespaces.
    pub namespaces: u64,
    /// Memory of the counters and of the epochs that are not collected yet, in bytes.
    pub memory_bytes: u64,
    /// The part of it that the lists of what each viewer likes take, in bytes.
    pub viewers_memory_bytes: u64,
    /// Length of all log segments on disk, with the room that is reserved in the newest, in bytes.
    pub log_bytes: u64,
    /// Length of all snapshot generations on disk, in bytes.
    pub snapshot_bytes: u64,
    /// Bytes written to the log since the store was opened.
    pub log_bytes_written: u64,
    /// The open epoch: the one that a change made now belongs to.
    pub open_epoch: u64,
    /// The last epoch that is durable.
    pub durable_epoch: u64,
    /// Syncs of the log since the store was opened.
    pub syncs: u64,
    /// How long they took.
    pub sync_latency: LatencySummary,
    /// The numbers of the snapshot generations, oldest first.
    pub generations: Vec<u64>,
    /// Compactions that succeeded since the store was opened.
    pub compactions: u64,
    /// Why the newest compaction failed, if it did. Counts are safe in the log; it is tried again.
    pub last_compaction_error: Option<Error>,
    /// Whether changes wait for room on the disk.
    pub storage_full: bool,
}

/// How long something took, over many times. Percentiles are exact to a quarter of their value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LatencySummary {
    /// How many times.
    pub count: u64,
    /// The mean.
    pub mean: Duration,
    /// Half of the times took at most this long.
    pub p50: Duration,
    /// 99 in 100 times took at most this long.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// Counts what the committer and the compactor do. Its lock is taken last and held for a few instructions.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    pub(crate) log_bytes_written: u64,
    pub(crate) compactions: u64,
    pub(crate) last_compaction_error: Option<Error>,
    latency: Histogram,
}

impl Meter {
    /// A sync of the log succeeded.
    pub(crate) fn synced(&self, took: Duration, log_bytes_written: u64) {
        let mut counts = self.counts.lock();
        counts.latency.record(took);
        counts.log_bytes_written = log_bytes_written;
    }

    /// A compaction ended.
    pub(crate) fn compacted(&self, failure: Option<Error>) {
        let mut counts = self.counts.lock();
        counts.compactions += u64::from(failure.is_none());
        counts.last_compaction_error = failure;
    }

    pub(crate) fn log_bytes_written(&self) -> u64 {
        self.counts.lock().log_bytes_written
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts.lock().clone()
    }
}

impl Counts {
    pub(crate) fn sync_latency(&self) -> LatencySummary {
        self.latency.summary()
    }
}

/// Four buckets for each doubling of a duration in nanoseconds.
#[derive(Debug, Clone)]
struct Histogram {
    buckets: [u64; BUCKETS],
    count: u64,
    sum: Duration,
    max: Duration,
}

const SUB_BITS: u32 = 2;
const BUCKETS: usize = 64 << SUB_BITS;

impl Default for Histogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], count: 0, sum: Duration::ZERO, max: Duration::ZERO }
    }
}

impl Histogram {
    fn record(&mut self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)] += 1;
        self.count += 1;
        self.sum = self.sum.saturating_add(took);
        self.max = self.max.max(took);
    }

    fn summary(&self) -> LatencySummary {
        let mean = self.sum.checked_div(u32::try_from(self.count).unwrap_or(u32::MAX)).unwrap_or_default();
        let (p50, p99) = (self.percentile(50), self.percentile(99));
        LatencySummary { count: self.count, mean, p50, p99, max: self.max }
    }

    /// The upper end of the bucket that holds the percentile.
    fn percentile(&self, percent: u64) -> Duration {
        let rank = (self.count * percent).div_ceil(100);
        let mut seen = 0;
        let holds_rank = |&(_, &count): &(usize, &u64)| {
            seen += count;
            seen >= rank && rank > 0
        };
        let found = self.buckets.iter().enumerate().find(holds_rank);
        found.map_or(Duration::ZERO, |(index, _)| Duration::from_nanos(upper_end(index)).min(self.max))
    }
}

fn bucket(nanos: u64) -> usize {
    // Shorter ones do not matter, and have no quarters.
    let nanos = nanos.max(1 << SUB_BITS);
    let magnitude = nanos.ilog2();
    let sub = nanos >> (magnitude - SUB_BITS) & ((1 << SUB_BITS) - 1);
    ((magnitude << SUB_BITS) as usize) + sub as usize
}

fn upper_end(bucket: usize) -> u64 {
    let (magnitude, sub) = (bucket >> SUB_BITS, bucket & ((1 << SUB_BITS) - 1));
    let step = (1u128 << magnitude) >> SUB_BITS;
    u64::try_from((1u128 << magnitude) + step * (sub as u128 + 1)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_quarter() {
        let mut histogram = Histogram::default();
        for micros in 1..=1_000 {
            histogram.record(Duration::from_micros(micros));
        }
        let summary = histogram.summary();
        assert_eq!((summary.count, summary.max), (1_000, Duration::from_millis(1)));
        assert_eq!(summary.mean, Duration::from_nanos(500_500));
        let within = |found: Duration, exact: u64| {
            let exact = Duration::from_micros(exact);
            found >= exact && found <= exact * 5 / 4
        };
        assert!(within(summary.p50, 500), "{summary:?}");
        assert!(within(summary.p99, 990), "{summary:?}");
    }

    #[test]
    fn every_duration_has_a_bucket() {
        for nanos in [0, 1, 2, 3, 4, 5, 1 << 40, u64::MAX] {
            let index = bucket(nanos);
            assert!(index < BUCKETS && upper_end(index) >= nanos, "{nanos}");
        }
        assert_eq!(Histogram::default().summary(), LatencySummary::default());
    }
}
