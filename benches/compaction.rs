//! Does a compaction hold up those who count?
//!
//! One thread adds to a store of two million counters (`PLAUDIT_BENCH_COUNTERS` for another number), Zipf 0.99, and
//! times every call: without a compaction, and while one runs; with snapshots in each home; at 100,000 calls per
//! second and as fast as it can.
//!
//! `PLAUDIT_BENCH_SCALE=0.01` shrinks everything for a quick check that it works.

mod support;

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use criterion::SamplingMode;
use hdrhistogram::Histogram;
use plaudit::{Counters, Options, SnapshotHome, Store};

use support::{Skew, add_one, fill, key, scaled, scaled_time, verdict};

const COUNTERS: u64 = 2_000_000;
const COUNTERS_VARIABLE: &str = "PLAUDIT_BENCH_COUNTERS";
const SAMPLES: usize = 1 << 20;
const PACE: Duration = Duration::from_micros(10);
const QUIET: Duration = Duration::from_secs(4);
const BUSY: Duration = Duration::from_secs(4);
const TARGET: Duration = Duration::from_millis(1);
/// Whatever takes longer is recorded as this.
const LONGEST: Duration = Duration::from_secs(60);

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

fn compact(store: &Store) {
    store.compact().expect("the store can compact");
}

/// Compacts again and again for this long, and once at least.
fn compact_for(store: &Store, time: Duration) {
    let started = Instant::now();
    loop {
        compact(store);
        if started.elapsed() >= time {
            return;
        }
    }
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
        let ended = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let adder = scope.spawn(|| self.add_until(&ended));
            let end = SetOnDrop(&ended);
            act();
            drop(end);
            adder.join().expect("the adding thread panicked")
        })
    }

    fn add_until(&self, ended: &AtomicBool) -> Latencies {
        let (mut latencies, mut next) = (Latencies::new(), Instant::now());
        for &number in self.samples.iter().cycle() {
            if ended.load(Ordering::Relaxed) {
                break;
            }
            if let Some(pace) = self.pace {
                next += pace;
                while Instant::now() < next {
                    std::hint::spin_loop();
                }
            }
            let started = Instant::now();
            add_one(self.counters, &key(u64::from(number)));
            let ended = Instant::now();
            latencies.record(ended - started, ended - if self.pace.is_some() { next } else { started });
        }
        latencies
    }
}

/// Ends the adding thread also when the act panics.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Latencies {
    /// How long the calls took.
    calls: Histogram<u64>,
    /// How long after the moment each call was due it was done: a pause that holds up the calls behind it counts for
    /// all of them, and so does one in which the machine runs something else.
    due: Histogram<u64>,
}

impl Latencies {
    fn new() -> Self {
        // With its bounds given, because a histogram that is to grow does not do so for a saturating record.
        let histogram = || Histogram::new_with_bounds(1, LONGEST.as_nanos() as u64, 3).expect("the bounds are sound");
        Self { calls: histogram(), due: histogram() }
    }

    fn record(&mut self, call: Duration, due: Duration) {
        self.calls.saturating_record(call.as_nanos() as u64);
        self.due.saturating_record(due.as_nanos() as u64);
    }
}

fn percentile(histogram: &Histogram<u64>, percent: f64) -> Duration {
    Duration::from_nanos(histogram.value_at_percentile(percent))
}

impl fmt::Display for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} adds", self.calls.len())?;
        for (name, histogram) in [("call", &self.calls), ("from due", &self.due)] {
            let [p50, p99, p999] = [50.0, 99.0, 99.9].map(|percent| percentile(histogram, percent));
            let max = Duration::from_nanos(histogram.max());
            write!(f, "; {name} p50 {p50:?}, p99 {p99:?}, p99.9 {p999:?}, max {max:?}")?;
        }
        Ok(())
    }
}
