//! Does a durable `add` keep up with a concurrent map that is not durable at all?
//!
//! A million counters with 16-byte keys, "add 1", Zipf 0.99 and uniform, on 1 and 2 threads, warm. plaudit has its
//! default options: every increment is on disk within 5 ms and a sync. Beside it runs `DashMap<Box<[u8]>, AtomicU64>`
//! as one would write it, with its default hasher, and with foldhash, which plaudit uses itself.
//!
//! Machines are noisy, so the engines take turns in short slices of one run, and what counts is the median of the
//! ratios of neighbouring slices. criterion measures the same beside it. Batches stand beside single adds in the same
//! way.
//!
//! `PLAUDIT_BENCH_SCALE=0.01` shrinks everything for a quick check that it works.

mod support;

use std::cell::RefCell;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, Throughput};
use dashmap::DashMap;
use plaudit::{Batch, Counters, Store};

use support::{Key, Load, Skew, add_one, fill, key, median, scaled, scaled_time, verdict};

const KEYS: u64 = 1_000_000;
const WARM_UP: Duration = Duration::from_secs(1);
const SLICE: Duration = Duration::from_millis(200);
const ROUNDS: usize = 21;
const BATCH: usize = 100;
const LOG_INCREMENTS: u64 = 100_000_000;
const TARGET_RATIO: f64 = 1.0;
const TARGET_LOG_BYTES: f64 = 2.0;

type Map<S> = DashMap<Box<[u8]>, AtomicU64, S>;

fn main() {
    let dir = support::temp_dir();
    let engines = Engines::new(&Store::open(dir.path()).expect("a new store opens"));
    let mut criterion = support::criterion();
    for skew in [Skew::Zipf, Skew::Uniform] {
        for threads in [1, 2] {
            let scenario = format!("{} {threads} thread{}", skew.name(), if threads == 1 { "" } else { "s" });
            let load = Load::new(skew, engines.keys, threads);
            measure(&mut criterion, &engines, &load, &scenario);
            if !support::is_list() {
                compare(&engines, &load, &scenario);
                compare_batches(&engines, &load, &scenario);
            }
        }
    }
    if !support::is_list() {
        log_bytes(&engines);
    }
    criterion.final_summary();
}

struct Engines {
    keys: u64,
    store: Store,
    counters: Counters,
    dashmap: Map<std::collections::hash_map::RandomState>,
    foldhash: Map<foldhash::fast::RandomState>,
}

impl Engines {
    /// All engines with the same counters.
    fn new(store: &Store) -> Self {
        let keys = scaled(KEYS).max(1_000);
        let counters = store.counters("bench").expect("a namespace can be created");
        let engines =
            Self { keys, store: store.clone(), counters, dashmap: DashMap::default(), foldhash: DashMap::default() };
        fill(&engines.counters, keys);
        for number in 0..keys {
            map_add(&engines.dashmap, &key(number));
            map_add(&engines.foldhash, &key(number));
        }
        engines
    }

    fn sync(&self) {
        self.store.sync().expect("the store can sync");
    }

    /// plaudit's rate over a slice, in millions a second.
    fn slice(&self, load: &Load, time: Duration, act: &(impl Fn(&Key) + Sync)) -> f64 {
        let rate = load.run_for(time, act);
        // What is left to commit must not run into the next slice.
        self.sync();
        rate / 1e6
    }
}

fn rounds() -> usize {
    if support::is_full_run() { ROUNDS } else { 3 }
}

/// How one counts in a `DashMap`: a shared lock where the counter exists, and the entry where it does not.
#[inline]
fn map_add<S: BuildHasher + Clone>(map: &Map<S>, key: &Key) {
    let previous = match map.get(&key[..]) {
        Some(counter) => counter.fetch_add(1, Ordering::Relaxed),
        None => map.entry(Box::from(&key[..])).or_default().fetch_add(1, Ordering::Relaxed),
    };
    black_box(previous);
}

/// criterion's own figures.
fn measure(criterion: &mut Criterion, engines: &Engines, load: &Load, scenario: &str) {
    let time = |iterations: u64, act: &dyn Fn(u64) -> f64| Duration::from_secs_f64(act(iterations) * iterations as f64);
    let mut group = criterion.benchmark_group(format!("add {scenario}"));
    group.throughput(Throughput::Elements(1));
    group.bench_function("plaudit", |bencher| {
        bencher
            .iter_custom(|iterations| time(iterations, &|n| load.run_count(n, &|key| add_one(&engines.counters, key))));
    });
    group.bench_function("DashMap", |bencher| {
        bencher
            .iter_custom(|iterations| time(iterations, &|n| load.run_count(n, &|key| map_add(&engines.dashmap, key))));
    });
    group.finish();
}

/// The engines in turns.
fn compare(engines: &Engines, load: &Load, scenario: &str) {
    let (warm_up, slice) = (scaled_time(WARM_UP), scaled_time(SLICE));
    let plaudit = |time| engines.slice(load, time, &|key| add_one(&engines.counters, key));
    let dashmap = |time| load.run_for(time, &|key| map_add(&engines.dashmap, key)) / 1e6;
    let foldhash = |time| load.run_for(time, &|key| map_add(&engines.foldhash, key)) / 1e6;
    plaudit(warm_up);
    dashmap(warm_up);
    foldhash(warm_up);
    let rates: Vec<[f64; 3]> = (0..rounds()).map(|_| [plaudit(slice), dashmap(slice), foldhash(slice)]).collect();
    let rate_of = |engine: usize| median(rates.iter().map(|rates| rates[engine]));
    let ratio_to = |engine: usize| median(rates.iter().map(|rates| rates[0] / rates[engine]));
    for (engine, name) in [(1, "DashMap"), (2, "DashMap with foldhash")] {
        let ratio = ratio_to(engine);
        println!("{scenario}: plaudit {:.1} M/s, {name} {:.1} M/s, ratio {ratio:.2}", rate_of(0), rate_of(engine));
    }
    let ratio = ratio_to(1);
    verdict(scenario, &format!("ratio >= {TARGET_RATIO}"), &format!("{ratio:.2}"), ratio >= TARGET_RATIO);
}

/// Adds in batches and one by one, in turns.
fn compare_batches(engines: &Engines, load: &Load, scenario: &str) {
    // The threads of a slice end with it, and what is in their last batches is left out.
    thread_local!(static GATHERED: RefCell<Option<Batch>> = const { RefCell::new(None) });
    let gather = |key: &Key| {
        GATHERED.with_borrow_mut(|batch| {
            let batch = batch.get_or_insert_with(|| engines.store.batch());
            batch.add(&engines.counters, key, 1);
            if batch.len() == BATCH {
                black_box(batch.commit().expect("the store takes changes"));
            }
        });
    };
    let slice = scaled_time(SLICE);
    let rates: Vec<[f64; 2]> = (0..rounds())
        .map(|_| {
            let one_by_one = engines.slice(load, slice, &|key| add_one(&engines.counters, key));
            [engines.slice(load, slice, &gather), one_by_one]
        })
        .collect();
    let rate = median(rates.iter().map(|rates| rates[0]));
    let ratio = median(rates.iter().map(|rates| rates[0] / rates[1]));
    println!("{scenario}: batches of {BATCH} {rate:.1} M/s, {ratio:.2} times adds one by one");
}

/// What an increment costs in the log, with the keys that each new segment names again, over several segments.
fn log_bytes(engines: &Engines) {
    let load = Load::new(Skew::Zipf, engines.keys, 2);
    engines.sync();
    let before = engines.store.stats();
    let increments = scaled(LOG_INCREMENTS);
    load.run_count(increments, &|key| add_one(&engines.counters, key));
    engines.sync();
    let after = engines.store.stats();
    let written = after.log_bytes_written - before.log_bytes_written;
    let each = written as f64 / increments as f64;
    println!(
        "log: {increments} increments, {written} bytes, {} epochs, {} compactions, sync {:?}",
        after.durable_epoch - before.durable_epoch,
        after.compactions - before.compactions,
        after.sync_latency
    );
    let target = format!("<= {TARGET_LOG_BYTES} bytes");
    verdict("log per increment", &target, &format!("{each:.2} bytes"), each <= TARGET_LOG_BYTES);
}
