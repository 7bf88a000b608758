//! How fast are likes, beside a concurrent map of sets that is not durable at all?
//!
//! A million items with 16-byte keys, a million viewers with ids of 64 bits, ten million likes, Zipf 0.99, on one
//! thread. plaudit has its default options: every like is on disk within 5 ms and a sync, and snapshots are made as
//! the log grows. Beside it runs `DashMap<Box<[u8]>, HashSet<u64>>` as one would write it, with its default hasher,
//! which knows neither when a like came nor what a viewer likes.
//!
//! New likes are timed from the first to the sync after the last, in new stores and maps by turns. For likes that are
//! there already and for questions the two take turns in short slices; what counts is the median.
//!
//! `PLAUDIT_BENCH_SCALE=0.01` shrinks everything for a quick check that it works.

mod support;

use std::collections::HashSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use dashmap::DashMap;
use plaudit::{Likes, Store};

use support::likes::{Pair, has_liked, like, pairs, viewer};
use support::{Skew, key, median, scaled, scaled_time, verdict};

const ITEMS: u64 = 1_000_000;
const VIEWERS: u64 = 1_000_000;
const LIKES: u64 = 10_000_000;
const RUNS: usize = 3;
const ROUNDS: usize = 21;
const SLICE: Duration = Duration::from_millis(200);
/// Calls between two looks at the clock.
const CHUNK: usize = 1 << 10;
const TARGET_NEW: f64 = 2e6;
const TARGET_REPEATED: f64 = 5e6;
const TARGET_HAS_LIKED: f64 = 5e6;
const TARGET_LOG_BYTES: f64 = 24.0;

type Map = DashMap<Box<[u8]>, HashSet<u64>>;

fn main() {
    let mut criterion = support::criterion();
    let (items, viewers) = (scaled(ITEMS).max(1_000), scaled(VIEWERS).max(1_000));
    let pairs = pairs(Skew::Zipf, items, viewers, scaled(LIKES).max(10_000));
    if !support::is_list() {
        compare_new(&pairs, items);
    }
    let dir = support::temp_dir();
    let store = Store::open(dir.path()).expect("a new store opens");
    let likes = store.likes("bench").expect("a namespace can be created");
    pairs.iter().for_each(|&pair| assert!(like(&likes, pair), "each pair comes once"));
    store.sync().expect("the store can sync");
    let map = Map::default();
    pairs.iter().for_each(|&pair| assert!(map_like(&map, pair)));
    let cases = Cases { pairs: &pairs, viewers: viewers as u32, likes: &likes, map: &map };
    cases.measure(&mut criterion);
    if !support::is_list() {
        cases.compare();
    }
    criterion.final_summary();
}

/// New likes, and what they take in the log.
fn compare_new(pairs: &[Pair], items: u64) {
    let (mut rates, mut log_bytes) = (Vec::new(), 0.0);
    let runs = if support::is_full_run() { RUNS } else { 1 };
    for run in 0..runs {
        let dir = support::temp_dir();
        let store = Store::open(dir.path()).expect("a new store opens");
        let likes = store.likes("bench").expect("a namespace can be created");
        let started = Instant::now();
        pairs.iter().for_each(|&pair| assert!(like(&likes, pair), "each pair comes once"));
        let counted = started.elapsed();
        store.sync().expect("the store can sync");
        let rate = pairs.len() as f64 / started.elapsed().as_secs_f64() / 1e6;
        let stats = store.stats();
        let total: u64 = likes.iter().map(|item| item.expect("the store can be read").1).sum();
        assert_eq!((likes.len().expect("the store can be read") as u64, total), (items, pairs.len() as u64));
        store.close().expect("the store can close");
        log_bytes = stats.log_bytes_written as f64 / pairs.len() as f64;
        println!(
            "new likes, run {run}: {rate:.2} M/s, without the sync {:.2} M/s, {} epochs, {} compactions",
            pairs.len() as f64 / counted.as_secs_f64() / 1e6,
            stats.durable_epoch,
            stats.compactions
        );
        let map = Map::default();
        let started = Instant::now();
        pairs.iter().for_each(|&pair| assert!(map_like(&map, pair)));
        rates.push([rate, pairs.len() as f64 / started.elapsed().as_secs_f64() / 1e6]);
    }
    report("new likes", &rates, TARGET_NEW);
    let target = format!("<= {TARGET_LOG_BYTES} bytes");
    verdict("log per like", &target, &format!("{log_bytes:.2} bytes"), log_bytes <= TARGET_LOG_BYTES);
}

/// The median of plaudit's rates and of the map's, in millions a second, and of their ratios.
fn report(what: &str, rates: &[[f64; 2]], target: f64) {
    let [plaudit, map] = [0, 1].map(|engine| median(rates.iter().map(|rates| rates[engine])));
    let ratio = median(rates.iter().map(|rates| rates[0] / rates[1]));
    println!("{what}: plaudit {plaudit:.2} M/s, DashMap of HashSet {map:.2} M/s, ratio {ratio:.2}");
    verdict(what, &format!(">= {} M/s", target / 1e6), &format!("{plaudit:.2} M/s"), plaudit * 1e6 >= target);
}

fn map_like(map: &Map, (item, number): Pair) -> bool {
    let key = key(u64::from(item));
    match map.get_mut(&key[..]) {
        Some(mut viewers) => viewers.insert(viewer(number)),
        None => map.entry(Box::from(&key[..])).or_default().insert(viewer(number)),
    }
}

fn map_has_liked(map: &Map, (item, number): Pair) -> bool {
    map.get(&key(u64::from(item))[..]).is_some_and(|viewers| viewers.contains(&viewer(number)))
}

/// What is asked of a store and a map that have all likes.
struct Cases<'a> {
    pairs: &'a [Pair],
    viewers: u32,
    likes: &'a Likes,
    map: &'a Map,
}

impl Cases<'_> {
    /// Every second one is of a viewer who does not like the item; no more of them than there are viewers do.
    fn asked(&self, place: usize) -> Pair {
        let (item, number) = self.pairs[place];
        if place.is_multiple_of(2) { (item, number) } else { (item, number + self.viewers) }
    }

    /// criterion's own figures.
    fn measure(&self, criterion: &mut Criterion) {
        let mut group = criterion.benchmark_group("likes");
        group.throughput(Throughput::Elements(1));
        self.bench(&mut group, "repeated, plaudit", |place| like(self.likes, self.pairs[place]));
        self.bench(&mut group, "repeated, DashMap", |place| map_like(self.map, self.pairs[place]));
        self.bench(&mut group, "has_liked, plaudit", |place| has_liked(self.likes, self.asked(place)));
        self.bench(&mut group, "has_liked, DashMap", |place| map_has_liked(self.map, self.asked(place)));
        group.finish();
    }

    fn bench(&self, group: &mut BenchmarkGroup<'_, WallTime>, name: &str, act: impl Fn(usize) -> bool) {
        group.bench_function(name, |bencher| {
            let mut places = (0..self.pairs.len()).cycle();
            bencher.iter(|| places.next().map(&act));
        });
    }

    /// The two in turns.
    fn compare(&self) {
        let (likes, map) = (self.likes, self.map);
        let repeat = |place| like(likes, self.pairs[place]);
        self.take_turns("repeated likes", TARGET_REPEATED, repeat, |place| map_like(map, self.pairs[place]));
        let ask = |place| has_liked(likes, self.asked(place));
        self.take_turns("has_liked", TARGET_HAS_LIKED, ask, |place| map_has_liked(map, self.asked(place)));
    }

    fn take_turns(&self, what: &str, target: f64, plaudit: impl Fn(usize) -> bool, map: impl Fn(usize) -> bool) {
        let (rounds, slice) = (if support::is_full_run() { ROUNDS } else { 3 }, scaled_time(SLICE));
        let (mut at, mut map_at) = (0, 0);
        let turn = |_| {
            let rate = run_for(slice, self.pairs.len(), &mut at, &plaudit);
            [rate, run_for(slice, self.pairs.len(), &mut map_at, &map)]
        };
        report(what, &(0..rounds).map(turn).collect::<Vec<_>>(), target);
    }
}

/// Calls `act` with one place after another for this long, and returns the calls in millions a second.
fn run_for(time: Duration, places: usize, next: &mut usize, act: impl Fn(usize) -> bool) -> f64 {
    let (started, mut done) = (Instant::now(), 0);
    loop {
        for _ in 0..CHUNK {
            black_box(act(*next));
            *next = if *next + 1 == places { 0 } else { *next + 1 };
        }
        done += CHUNK;
        let elapsed = started.elapsed();
        if elapsed >= time {
            return done as f64 / elapsed.as_secs_f64() / 1e6;
        }
    }
}
