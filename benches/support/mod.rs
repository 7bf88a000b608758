//! What the benches share: sizes, keys, skewed samples, directories, memory, and the line that states a verdict.

#![allow(dead_code, reason = "every bench compiles this file for itself and uses a part of it")]

pub(crate) mod latency;
pub(crate) mod likes;

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::Criterion;
use plaudit::{Counters, Store};
use tempfile::TempDir;

/// Shrinks every size and duration: `PLAUDIT_BENCH_SCALE=0.01 cargo bench` is a run of seconds that proves that the
/// benches work and measures nothing.
const SCALE_VARIABLE: &str = "PLAUDIT_BENCH_SCALE";

/// The scale of a run in which criterion only tests that each bench works (`cargo test --benches`, `-- --test`).
const TEST_SCALE: f64 = 0.002;

/// Bytes of a key.
pub(crate) const KEY_BYTES: usize = 16;

/// A key.
pub(crate) type Key = [u8; KEY_BYTES];

/// Whether criterion only tests that the benches work. It decides by the same arguments.
pub(crate) fn is_test() -> bool {
    !has_argument("--bench") || has_argument("--test")
}

/// Whether the benches are only to be listed.
pub(crate) fn is_list() -> bool {
    has_argument("--list")
}

fn has_argument(wanted: &str) -> bool {
    std::env::args().skip(1).any(|argument| argument == wanted)
}

/// Whether this is a full run, whose verdicts mean something.
pub(crate) fn is_full_run() -> bool {
    scale() >= 1.0
}

fn scale() -> f64 {
    match std::env::var(SCALE_VARIABLE) {
        Ok(value) => value.parse().unwrap_or_else(|_| panic!("{SCALE_VARIABLE} is {value:?}, which is not a number")),
        Err(_) if is_test() => TEST_SCALE,
        Err(_) => 1.0,
    }
}

/// A count, scaled.
pub(crate) fn scaled(full: u64) -> u64 {
    ((full as f64 * scale()) as u64).max(1)
}

/// A duration, scaled.
pub(crate) fn scaled_time(full: Duration) -> Duration {
    full.mul_f64(scale().min(1.0))
}

/// criterion with the arguments of the command line, and short measurements: the ratios that decide are measured apart.
pub(crate) fn criterion() -> Criterion {
    let time = scaled_time(Duration::from_secs(3)).max(Duration::from_millis(10));
    Criterion::default()
        .sample_size(10)
        .warm_up_time(time / 3)
        .measurement_time(time)
        .without_plots()
        .configure_from_args()
}

/// Prints what was measured beside its target.
pub(crate) fn verdict(what: &str, target: &str, measured: &str, reached: bool) {
    let verdict = match (is_full_run(), reached) {
        (false, _) => "scaled down, no verdict",
        (true, true) => "reached",
        (true, false) => "MISSED",
    };
    println!("{what}: target {target}, measured {measured}: {verdict}");
}

/// The key with this number. Neighbouring numbers have keys that are far apart.
#[inline]
pub(crate) fn key(number: u64) -> Key {
    let mut key = [0; KEY_BYTES];
    // An odd factor makes it a permutation, so that no two keys are equal.
    key[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// splitmix64: small, seeded, and good enough to choose keys with.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// In 0..1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// How often each key is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skew {
    /// Zipf's distribution with exponent 0.99, which is YCSB's.
    Zipf,
    /// All keys alike.
    Uniform,
}

impl Skew {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Zipf => "zipf",
            Self::Uniform => "uniform",
        }
    }

    /// A table of key numbers below `keys`, so that choosing one costs a sequential read.
    pub(crate) fn samples(self, keys: u64, count: usize, seed: u64) -> Vec<u32> {
        let mut random = Random(seed);
        match self {
            Self::Uniform => (0..count).map(|_| (random.next() % keys) as u32).collect(),
            Self::Zipf => {
                let zipf = Zipf::new(keys);
                (0..count).map(|_| zipf.sample(random.unit()) as u32).collect()
            }
        }
    }
}

/// The approximation of Gray et al., "Quickly Generating Billion-Record Synthetic Databases" (1994), as in YCSB.
struct Zipf {
    keys: f64,
    alpha: f64,
    zeta: f64,
    eta: f64,
}

const THETA: f64 = 0.99;

impl Zipf {
    fn new(keys: u64) -> Self {
        let zeta_of = |n: u64| (1..=n).map(|i| (i as f64).powf(-THETA)).sum::<f64>();
        let (n, zeta) = (keys as f64, zeta_of(keys));
        let eta = (1.0 - (2.0 / n).powf(1.0 - THETA)) / (1.0 - zeta_of(2.min(keys)) / zeta);
        Self { keys: n, alpha: 1.0 / (1.0 - THETA), zeta, eta }
    }

    fn sample(&self, unit: f64) -> u64 {
        let scaled = unit * self.zeta;
        let rank = if scaled < 1.0 {
            0.0
        } else if scaled < 1.0 + 0.5_f64.powf(THETA) {
            1.0
        } else {
            self.keys * (self.eta * unit - self.eta + 1.0).powf(self.alpha)
        };
        (rank as u64).min(self.keys as u64 - 1)
    }
}

/// The key choices of every thread of a scenario.
pub(crate) struct Load {
    samples: Vec<Vec<u32>>,
}

/// Choices for each thread, used round and round: enough that a round meets most keys.
const SAMPLES: usize = 1 << 22;

/// Operations between two looks at the clock.
const CHUNK: usize = 1 << 10;

impl Load {
    pub(crate) fn new(skew: Skew, keys: u64, threads: usize) -> Self {
        let count = (scaled(SAMPLES as u64) as usize).next_multiple_of(CHUNK);
        Self { samples: (0..threads).map(|thread| skew.samples(keys, count, thread as u64 + 1)).collect() }
    }

    /// Calls `act` with chosen keys on every thread for this long, and returns the operations per second.
    pub(crate) fn run_for(&self, time: Duration, act: &(impl Fn(&Key) + Sync)) -> f64 {
        self.run(&|_, elapsed| elapsed < time, act)
    }

    /// Calls `act` about `operations` times, and returns how long that took for each, in seconds.
    pub(crate) fn run_count(&self, operations: u64, act: &(impl Fn(&Key) + Sync)) -> f64 {
        let each = operations / self.samples.len() as u64;
        1.0 / self.run(&|done, _| done < each, act)
    }

    fn run(&self, go_on: &(impl Fn(u64, Duration) -> bool + Sync), act: &(impl Fn(&Key) + Sync)) -> f64 {
        let start = Barrier::new(self.samples.len());
        let work = |samples: &[u32]| {
            start.wait();
            let (started, mut done) = (Instant::now(), 0u64);
            for chunk in samples.chunks_exact(CHUNK).cycle() {
                for &number in chunk {
                    act(&key(u64::from(number)));
                }
                done += CHUNK as u64;
                let elapsed = started.elapsed();
                if !go_on(done, elapsed) {
                    return done as f64 / elapsed.as_secs_f64();
                }
            }
            unreachable!("a cycle has no end")
        };
        std::thread::scope(|scope| {
            let threads: Vec<_> = self.samples.iter().map(|samples| scope.spawn(|| work(samples))).collect();
            threads.into_iter().map(|thread| thread.join().expect("a load thread panicked")).sum()
        })
    }
}

/// Adds 1, as a service does that does not wait.
#[inline]
pub(crate) fn add_one(counters: &Counters, key: &Key) {
    black_box(counters.add(key, 1).expect("the store takes changes").value());
}

/// Creates the counters 0 to `count`, each with value 1.
pub(crate) fn fill(counters: &Counters, count: u64) {
    (0..count).for_each(|number| add_one(counters, &key(number)));
}

pub(crate) fn compact(store: &Store) {
    store.compact().expect("the store can compact");
}

/// Compacts again and again for this long, and once at least.
pub(crate) fn compact_for(store: &Store, time: Duration) {
    let started = Instant::now();
    loop {
        compact(store);
        if started.elapsed() >= time {
            return;
        }
    }
}

/// A directory on the disk that the build is on, removed at the end.
pub(crate) fn temp_dir() -> TempDir {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).expect("the target directory can be written");
    assert!(!is_in_memory(dir.path()), "{} is in memory; set CARGO_TARGET_DIR to a disk", dir.path().display());
    dir
}

/// Whether the file system of `path` is a tmpfs, where syncing costs nothing.
fn is_in_memory(path: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((PathBuf::from(fields.next()?), fields.next()?.to_owned()))
    });
    let of_path = mounts.filter(|(point, _)| path.starts_with(point)).max_by_key(|(point, _)| point.as_os_str().len());
    of_path.is_some_and(|(_, kind)| kind == "tmpfs" || kind == "ramfs")
}

/// Resident memory of this process in bytes; `None` where there is no /proc.
pub(crate) fn resident_bytes() -> Option<u64> {
    const PAGE_BYTES: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
    Some(pages * PAGE_BYTES)
}

/// The middle of some figures; of an even number, the upper one.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<f64> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Every home that snapshots can have in this build.
pub(crate) fn homes() -> Vec<plaudit::SnapshotHome> {
    vec![
        #[cfg(feature = "sled")]
        plaudit::SnapshotHome::Sled,
        plaudit::SnapshotHome::File,
    ]
}
