//! How much resident memory does a counter take?
//!
//! Ten million counters with 16-byte keys, added one by one to a store with default options, and to one with its
//! snapshots in plain files, then synced; beside them the same in `DashMap<Box<[u8]>, AtomicU64>`. Each is measured in
//! a process of its own, so that nothing freed by the one is used by the other: what the process has asked of the
//! allocator, and how much more resident memory it has than before.
//!
//! `PLAUDIT_BENCH_SCALE=0.01` shrinks everything for a quick check that it works.

mod support;

use std::process::Command;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use cap::Cap;
use criterion::{Criterion, Throughput};
use dashmap::DashMap;
use plaudit::{Options, SnapshotHome, Store};

use support::{fill, key, resident_bytes, scaled, verdict};

#[global_allocator]
static ALLOCATOR: Cap<std::alloc::System> = Cap::new(std::alloc::System, usize::MAX);

const COUNTERS: u64 = 10_000_000;
const TARGET_BYTES: f64 = 48.0;

/// Names the engine that a child process is to fill.
const CHILD_VARIABLE: &str = "PLAUDIT_BENCH_FILL";

const DEFAULT: &str = "default options";
const FILE: &str = "snapshots in plain files";
const DASHMAP: &str = "DashMap";

fn main() {
    if let Ok(engine) = std::env::var(CHILD_VARIABLE) {
        return fill_and_report(&engine);
    }
    let mut criterion = support::criterion();
    measure_growth(&mut criterion);
    criterion.final_summary();
    if support::is_list() {
        return;
    }
    if resident_bytes().is_none() {
        println!("memory per counter: skipped, because there is no /proc/self/statm here");
        return;
    }
    let [_, dashmap] = bytes_per_counter(DASHMAP);
    let target = format!("<= {TARGET_BYTES} bytes");
    for engine in [DEFAULT, FILE] {
        let [allocated, resident] = bytes_per_counter(engine);
        let what = format!("memory per counter, {engine}");
        println!(
            "{what}: {resident:.1} bytes, of DashMap's {dashmap:.1} {:.2}; allocated {allocated:.1}",
            resident / dashmap
        );
        verdict(&what, &target, &format!("{resident:.1} bytes"), resident <= TARGET_BYTES);
    }
}

/// What adding a counter that is new costs, while the tables grow.
fn measure_growth(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("add new counters");
    let count = scaled(500_000);
    group.throughput(Throughput::Elements(count));
    group.bench_function("plaudit", |bencher| {
        bencher.iter_custom(|iterations| {
            let growth = |_| {
                let dir = support::temp_dir();
                let store = Store::open(dir.path()).expect("a new store opens");
                let counters = store.counters("bench").expect("a namespace can be created");
                let started = std::time::Instant::now();
                fill(&counters, count);
                started.elapsed()
            };
            (0..iterations).map(growth).sum::<Duration>()
        });
    });
    group.finish();
}

/// What it has allocated for each counter, and how much more is resident.
fn bytes_per_counter(engine: &str) -> [f64; 2] {
    let program = std::env::current_exe().expect("the bench knows where it is");
    let child = Command::new(program).args(std::env::args().skip(1)).env(CHILD_VARIABLE, engine).output();
    let output = child.expect("the bench can start itself");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{engine} failed: {text}{}", String::from_utf8_lossy(&output.stderr));
    let mut figures = text.split_whitespace().map(|figure| figure.parse().expect("the child prints numbers"));
    [(); 2].map(|()| figures.next().expect("the child prints two numbers"))
}

/// In the child: prints the bytes for each counter, allocated and resident.
fn fill_and_report(engine: &str) {
    let count = scaled(COUNTERS);
    let figures = || [ALLOCATOR.allocated() as u64, resident_bytes().expect("the parent checked that it can be read")];
    let report = |before: [u64; 2]| {
        let growth = |(now, before)| (now as f64 - before as f64) / count as f64;
        figures().into_iter().zip(before).map(growth).for_each(|figure| println!("{figure}"));
    };
    if engine == DASHMAP {
        let before = figures();
        let map: DashMap<Box<[u8]>, AtomicU64> = DashMap::new();
        for number in 0..count {
            map.insert(Box::from(&key(number)[..]), AtomicU64::new(1));
        }
        return report(before);
    }
    let dir = support::temp_dir();
    let before = figures();
    let mut options = Options::default();
    if engine == FILE {
        options.snapshot_home = SnapshotHome::File;
    }
    let store = Store::open_with(dir.path(), options).expect("a new store opens");
    let counters = store.counters("bench").expect("a namespace can be created");
    fill(&counters, count);
    store.sync().expect("the store can sync");
    report(before);
    eprintln!("{:?}", store.stats());
}
