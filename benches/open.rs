//! How fast does a store open?
//!
//! Ten million counters with 16-byte keys: from a snapshot in each home, and by replaying the log alone. The files
//! are in the page cache, as after a restart of the service.
//!
//! `PLAUDIT_BENCH_SCALE=0.01` shrinks everything for a quick check that it works.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use plaudit::{Options, SnapshotHome, Store};
use tempfile::TempDir;

use support::{fill, median, scaled, verdict};

const COUNTERS: u64 = 10_000_000;
const OPENS: usize = 5;
const TARGET_RATE: f64 = 5e6;

fn main() {
    let mut criterion = support::criterion();
    let count = scaled(COUNTERS);
    for home in support::homes() {
        let name = format!("open from a snapshot in {home:?}");
        let dir = snapshot_of(count, home);
        measure(&mut criterion, &name, dir.path(), count, Some(TARGET_RATE));
    }
    measure(&mut criterion, "open by replaying the log", log_of(count).path(), count, None);
    criterion.final_summary();
}

/// A closed store whose counters are in a snapshot, with an empty log after it.
fn snapshot_of(count: u64, home: SnapshotHome) -> TempDir {
    let dir = support::temp_dir();
    let store = create(dir.path(), Options { snapshot_home: home, ..Options::default() }, count);
    store.compact().expect("the store can compact");
    store.close().expect("the store can close");
    dir
}

/// A closed store whose counters are in the log only.
fn log_of(count: u64) -> TempDir {
    let dir = support::temp_dir();
    let store = create(dir.path(), Options::default(), count);
    store.close().expect("the store can close");
    dir
}

fn create(path: &Path, options: Options, count: u64) -> Store {
    // Compacting only when asked.
    let options = Options { compaction_threshold_bytes: u64::MAX, ..options };
    let store = Store::open_with(path, options).expect("a new store opens");
    fill(&store.counters("bench").expect("a namespace can be created"), count);
    store
}

/// Closing is not in the time.
fn open_time(path: &Path, count: u64) -> Duration {
    let options = Options { compaction_threshold_bytes: u64::MAX, ..Options::default() };
    let started = Instant::now();
    let store = Store::open_with(path, options).expect("the store opens");
    let elapsed = started.elapsed();
    assert_eq!(store.recovery().counters, count);
    store.close().expect("the store can close");
    elapsed
}

fn measure(criterion: &mut Criterion, name: &str, path: &Path, count: u64, target: Option<f64>) {
    let mut group = criterion.benchmark_group("open");
    group.throughput(Throughput::Elements(count)).sampling_mode(SamplingMode::Flat);
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| (0..iterations).map(|_| open_time(path, count)).sum());
    });
    group.finish();
    if support::is_list() {
        return;
    }
    let seconds = median((0..OPENS).map(|_| open_time(path, count).as_secs_f64()));
    let rate = count as f64 / seconds;
    let measured = format!("{:.1} M counters/s ({count} in {seconds:.2} s)", rate / 1e6);
    match target {
        Some(target) => verdict(name, &format!(">= {} M counters/s", target / 1e6), &measured, rate >= target),
        None => println!("{name}: no target, measured {measured}"),
    }
}
