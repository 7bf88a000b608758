//! Does a compaction hold up those who count?
//!
//! One thread adds to a store of two million counters (`PLAUDIT_BENCH_COUNTERS` for another number), Zipf 0.99, and
//! times every call: without a compaction, and while one runs; with snapshots in each home; at 100,000 calls per
//! second and as fast as it can.
//!
//! `PLAUDIT_BENCH_SCALE=0.01` shrinks everything for a quick check that it works.

mod support;

use std::time::Duration;

use criterion::SamplingMode;
use plaudit::{Counters, Options, SnapshotHome, Store};

use support::latency::{Latencies, percentile, time_while};
use support::{Skew, add_one, compact, compact_for, fill, key, scaled, scaled_time, verdict};

const COUNTERS: u64 = 2_000_000;
const COUNTERS_VARIABLE: &str = "PLAUDIT_BENCH_COUNTERS";
const SAMPLES: usize = 1 << 20;
const PACE: Duration = Duration::from_micros(10);
const QUIET: Duration = Duration::from_secs(4);
const BUSY: Duration = Duration::from_secs(4);
const TARGET: Duration = Duration::from_millis(1);

fn main() {
    let full = std::env::var(COUNTERS_VARIABLE).map_or(COUNTERS, |count| {
        count.parse().unwrap_or_else(|_| panic!("{COUNTERS_VARIABLE} is {count:?}, which is not a number"))
    });
    let count = scaled(full).max(1_000);
    let mut criterion = support::criterion();
    for home in support::homes() {
        let dir = support::temp_dir();
        // Compacting only when asked.
        let options = Options { snapshot_home: home, compaction_threshold_bytes: u64::MAX, ..Options::default() };
        let store = Store::open_with(dir.path(), options).expect("a new store opens");
        let counters = store.counters("bench").expect("a namespace can be created");
        fill(&counters, count);
        let mut group = criterion.benchmark_group("compact");
        group.sampling_mode(SamplingMode::Flat).throughput(criterion::Throughput::Elements(count));
        group.bench_function(format!("{home:?}"), |bencher| bencher.iter(|| compact(&store)));
        group.finish();
        if !support::is_list() {
            let samples = Skew::Zipf.samples(count, scaled(SAMPLES as u64) as usize, 1);
            for pace in [Some(PACE), None] {
                compare(&store, &Adder { counters: &counters, samples: &samples, pace }, home);
            }
        }
    }
    criterion.final_summary();
}

fn compare(store: &Store, adder: &Adder<'_>, home: SnapshotHome) {
    let pace = if adder.pace.is_some() { "100,000 adds/s" } else { "full speed" };
    let quiet = adder.add_while(|| std::thread::sleep(scaled_time(QUIET)));
    let busy = adder.add_while(|| compact_for(store, scaled_time(BUSY)));
    println!("adds in {home:?} at {pace}, without a compaction: {quiet}");
    println!("adds in {home:?} at {pace}, during compactions:   {busy}");
    let p999 = percentile(&busy.calls, 99.9);
    let what = format!("p99.9 of an add during a compaction, {home:?}, {pace}");
    verdict(&what, &format!("<= {TARGET:?}"), &format!("{p999:?}"), p999 <= TARGET);
}

/// A thread that counts and times each call.
struct Adder<'a> {
    counters: &'a Counters,
    samples: &'a [u32],
    /// The time from one call to the next; `None` for as fast as it can.
    pace: Option<Duration>,
}

impl Adder<'_> {
    /// Adds for as long as `act` takes.
    fn add_while(&self, act: impl FnOnce()) -> Latencies {
        let mut samples = self.samples.iter().cycle();
        let mut add = || {
            if let Some(&number) = samples.next() {
                add_one(self.counters, &key(u64::from(number)));
            }
        };
        time_while(self.pace, &mut add, act)
    }
}
