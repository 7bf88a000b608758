//! How fast does a store of likes open?
//!
//! Ten million likes of a million items with 16-byte keys by a million viewers with ids of 64 bits, Zipf 0.99: from a
//! snapshot in each home, and by replaying the log alone. Every item's count is compared with its likes, and the
//! viewers' lists are built; both are in the time. The files are in the page cache, as after a restart of the service.
//!
//! `PLAUDIT_BENCH_SCALE=0.01` shrinks everything for a quick check that it works.

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use plaudit::{Options, SnapshotHome, Store};
use tempfile::TempDir;

use support::likes::{Pair, like, pairs};
use support::{Skew, median, scaled, verdict};

const ITEMS: u64 = 1_000_000;
const VIEWERS: u64 = 1_000_000;
const LIKES: u64 = 10_000_000;
const OPENS: usize = 5;
const TARGET_RATE: f64 = 3e6;

fn main() {
    let mut criterion = support::criterion();
    for skew in [Skew::Zipf, Skew::Uniform] {
        let pairs = pairs(skew, scaled(ITEMS).max(1_000), scaled(VIEWERS).max(1_000), scaled(LIKES).max(10_000));
        let likes = pairs.len() as u64;
        for home in support::homes() {
            let name = format!("open {} likes from a snapshot in {home:?}", skew.name());
            let dir = store_of(&pairs, home, true);
            measure(&mut criterion, &name, dir.path(), likes, Some(TARGET_RATE));
        }
        let name = format!("open {} likes by replaying the log", skew.name());
        measure(&mut criterion, &name, store_of(&pairs, SnapshotHome::File, false).path(), likes, None);
    }
    criterion.final_summary();
}

/// A closed store whose likes are in a snapshot, with an empty log after it, or in the log only.
fn store_of(pairs: &[Pair], home: SnapshotHome, compacted: bool) -> TempDir {
    let dir = support::temp_dir();
    let store = Store::open_with(dir.path(), options(home)).expect("a new store opens");
    let likes = store.likes("bench").expect("a namespace can be created");
    pairs.iter().for_each(|&pair| assert!(like(&likes, pair), "each pair comes once"));
    if compacted {
        store.compact().expect("the store can compact");
    }
    store.close().expect("the store can close");
    dir
}

/// Compacting only when asked.
fn options(home: SnapshotHome) -> Options {
    Options { snapshot_home: home, compaction_threshold_bytes: u64::MAX, ..Options::default() }
}

/// Closing is not in the time.
fn open_time(path: &Path, likes: u64) -> Duration {
    let started = Instant::now();
    let store = Store::open_with(path, options(SnapshotHome::File)).expect("the store opens");
    let elapsed = started.elapsed();
    assert_eq!(store.recovery().likes, likes);
    store.close().expect("the store can close");
    elapsed
}

fn measure(criterion: &mut Criterion, name: &str, path: &Path, likes: u64, target: Option<f64>) {
    let mut group = criterion.benchmark_group("open likes");
    group.throughput(Throughput::Elements(likes)).sampling_mode(SamplingMode::Flat);
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| (0..iterations).map(|_| open_time(path, likes)).sum());
    });
    group.finish();
    if support::is_list() {
        return;
    }
    let seconds = median((0..OPENS).map(|_| open_time(path, likes).as_secs_f64()));
    let rate = likes as f64 / seconds;
    let measured = format!("{:.1} M likes/s ({likes} in {seconds:.2} s)", rate / 1e6);
    match target {
        Some(target) => verdict(name, &format!(">= {} M likes/s", target / 1e6), &measured, rate >= target),
        None => println!("{name}: no target, measured {measured}"),
    }
}
