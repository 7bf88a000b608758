//! One counter that every thread adds to: how far does it come, beside a concurrent map that is not durable at all?
//!
//! plaudit by a handle to a hot counter, a clone for each thread, and by `Counters::add`; beside it
//! `DashMap<Box<[u8]>, AtomicU64>` with its default hasher, and one bare `AtomicU64`, the least that a counter can cost
//! that all threads change in one place. plaudit has its default options: every increment is on disk within 5 ms and a
//! sync. They take turns in short slices of one run, and what counts is the median of the ratios of neighbouring
//! slices.
//!
//! `PLAUDIT_BENCH_SCALE=0.01` shrinks everything for a quick check that it works.

mod support;

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use plaudit::Store;

use support::{key, median, scaled_time, verdict};

const SLICE: Duration = Duration::from_millis(200);
const ROUNDS: usize = 21;
/// Calls between two looks at the clock.
const CHUNK: u64 = 1 << 10;
const TARGET_THREADS: usize = 2;
const TARGET_RATIO: f64 = 3.0;

fn main() {
    if support::is_list() {
        return;
    }
    let dir = support::temp_dir();
    let store = Store::open(dir.path()).expect("a new store opens");
    let counters = store.counters("bench").expect("a namespace can be created");
    let (hot_key, plain_key) = (key(1), key(2));
    let hot = counters.hot(hot_key).expect("a counter can be created");
    let map: DashMap<Box<[u8]>, AtomicU64> = DashMap::default();
    map.insert(Box::from(&hot_key[..]), AtomicU64::new(0));
    let atomic = AtomicU64::new(0);
    let (slice, rounds) = (scaled_time(SLICE), if support::is_full_run() { ROUNDS } else { 3 });
    let mut totals = [0; 4];
    for threads in [1, 2, 4] {
        let rates: Vec<[f64; 4]> = (0..=rounds)
            .map(|_| {
                let by_handle = run(threads, slice, &mut totals[0], &|| {
                    let own = hot.clone();
                    move || own.add(1).expect("the store takes changes")
                });
                store.sync().expect("the store can sync");
                let plain = run(threads, slice, &mut totals[1], &|| {
                    || _ = black_box(counters.add(plain_key, 1).expect("the store takes changes").value())
                });
                store.sync().expect("the store can sync");
                let dashmap = run(threads, slice, &mut totals[2], &|| {
                    || _ = black_box(map.get(&hot_key[..]).map(|counter| counter.fetch_add(1, Ordering::Relaxed)))
                });
                let bare =
                    run(threads, slice, &mut totals[3], &|| || _ = black_box(atomic.fetch_add(1, Ordering::Relaxed)));
                [by_handle, plain, dashmap, bare]
            })
            .skip(1)
            .collect();
        report(threads, &rates);
    }
    assert_eq!(hot.get().expect("the store can be read") as u64, totals[0]);
}

/// Lets each thread go on for this long with a way to add of its own; millions a second. `total` grows by the adds.
fn run<A: FnMut()>(threads: usize, time: Duration, total: &mut u64, hand: &(impl Fn() -> A + Sync)) -> f64 {
    let start = Barrier::new(threads);
    let work = || {
        let mut add = hand();
        start.wait();
        let (started, mut done) = (Instant::now(), 0);
        while started.elapsed() < time {
            (0..CHUNK).for_each(|_| add());
            done += CHUNK;
        }
        (done, done as f64 / started.elapsed().as_secs_f64() / 1e6)
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let done: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("a load thread panicked")).collect();
        *total += done.iter().map(|(adds, _)| adds).sum::<u64>();
        done.iter().map(|(_, rate)| rate).sum()
    })
}

fn report(threads: usize, rates: &[[f64; 4]]) {
    let rate_of = |engine: usize| median(rates.iter().map(|rates| rates[engine]));
    let ratio = |one: usize, other: usize| median(rates.iter().map(|rates| rates[one] / rates[other]));
    println!(
        "{threads} threads: by handle {:.1} M/s, add {:.1} M/s, DashMap {:.1} M/s, bare atomic {:.1} M/s",
        rate_of(0),
        rate_of(1),
        rate_of(2),
        rate_of(3)
    );
    println!(
        "{threads} threads: to DashMap: by handle {:.2}, add {:.2}; handle to bare {:.2}",
        ratio(0, 2),
        ratio(1, 2),
        ratio(0, 3)
    );
    if threads == TARGET_THREADS {
        let reached = ratio(0, 2);
        let what = "one hot key, 2 threads";
        verdict(what, &format!("ratio >= {TARGET_RATIO}"), &format!("{reached:.2}"), reached >= TARGET_RATIO);
    }
}
