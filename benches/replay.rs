//! How fast does a real history replay, end to end?
//!
//! `../shared/data/github-stars.csv.zst`: decompressed and parsed on one thread, applied on another in atomic batches
//! of a thousand that also set the position in the file, with a sync at the end: what `plaudit replay` does, but for
//! its fingerprint of the rows. Skipped where the file is not there.
//!
//! `PLAUDIT_BENCH_SCALE=0.01` replays only the file's beginning, for a quick check that it works.

mod support;

use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use criterion::{SamplingMode, Throughput};
use plaudit::Store;

use support::{median, scaled, verdict};

/// What the whole file holds.
const EVENTS: u64 = 4_704_973;
const KEYS: usize = 22_980;
const SUM: i64 = 164_737_226;

const BATCH: usize = 1_000;
/// Parsed batches that may wait to be applied.
const QUEUE: usize = 64;
const RUNS: usize = 5;
const TARGET_RATE: f64 = 1e6;

fn main() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/github-stars.csv.zst");
    if !file.exists() {
        println!("replay: skipped, because {} is not there", file.display());
        return;
    }
    let events = scaled(EVENTS).min(EVENTS);
    let mut criterion = support::criterion();
    let mut group = criterion.benchmark_group("replay");
    group.throughput(Throughput::Elements(events)).sampling_mode(SamplingMode::Flat);
    group.bench_function("github-stars.csv.zst", |bencher| {
        bencher.iter_custom(|iterations| (0..iterations).map(|_| replay(&file, events)).sum());
    });
    group.finish();
    criterion.final_summary();
    if support::is_list() {
        return;
    }
    let seconds = median((0..RUNS).map(|_| replay(&file, events).as_secs_f64()));
    let rate = events as f64 / seconds;
    let measured = format!("{:.2} M events/s ({events} in {seconds:.2} s)", rate / 1e6);
    verdict("replay end to end", &format!(">= {} M events/s", TARGET_RATE / 1e6), &measured, rate >= TARGET_RATE);
}

/// Replays into a new store. Making the store and removing it are not in the time.
fn replay(file: &Path, events: u64) -> Duration {
    let dir = support::temp_dir();
    let store = Store::open(dir.path()).expect("a new store opens");
    let started = Instant::now();
    let (sender, receiver) = sync_channel(QUEUE);
    std::thread::scope(|scope| {
        scope.spawn(move || parse(file, events, &sender));
        apply(&store, &receiver, events);
    });
    store.sync().expect("the store can sync");
    let elapsed = started.elapsed();
    check(&store, events);
    store.close().expect("the store can close");
    elapsed
}

/// A rate means nothing if the counts are wrong.
fn check(store: &Store, events: u64) {
    if events < EVENTS {
        return;
    }
    let stars = store.counters("stars").expect("the namespace is there");
    let values = stars.iter().map(|counter| counter.expect("the store can be read").1);
    assert_eq!((stars.len().expect("the store can be read"), values.sum::<i64>()), (KEYS, SUM));
}

/// Some events, their keys one after another.
#[derive(Default)]
struct Rows {
    keys: Vec<u8>,
    rows: Vec<(Range<usize>, i64)>,
}

fn parse(file: &Path, events: u64, sender: &SyncSender<Rows>) {
    let opened = File::open(file).and_then(zstd::Decoder::new);
    let mut reader = csv::Reader::from_reader(opened.expect("the file can be read"));
    let (mut record, mut rows) = (csv::ByteRecord::new(), Rows::default());
    for _ in 0..events {
        assert!(reader.read_byte_record(&mut record).expect("a row is well formed"), "the file has {EVENTS} events");
        let delta = std::str::from_utf8(&record[2]).ok().and_then(|delta| delta.parse().ok());
        let start = rows.keys.len();
        rows.keys.extend_from_slice(&record[1]);
        rows.rows.push((start..rows.keys.len(), delta.expect("a delta is a number")));
        if rows.rows.len() == BATCH {
            sender.send(std::mem::take(&mut rows)).expect("the other thread takes all rows");
        }
    }
    sender.send(rows).expect("the other thread takes all rows");
}

fn apply(store: &Store, receiver: &Receiver<Rows>, events: u64) {
    let stars = store.counters("stars").expect("a namespace can be created");
    let positions = store.counters("plaudit.replay").expect("a namespace can be created");
    let (mut batch, mut position) = (store.batch(), 0);
    for Rows { keys, rows } in receiver {
        position += rows.len() as i64;
        for (key, delta) in rows {
            batch.add(&stars, &keys[key], delta);
        }
        batch.set(&positions, "github-stars.csv.zst", position);
        batch.commit().expect("the store takes changes");
    }
    assert_eq!(position, events as i64);
}
