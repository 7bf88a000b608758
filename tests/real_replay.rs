//! A real history, the GitHub stars of 22,980 repositories in 4,704,973 events, is counted exactly: in one go, and
//! by processes that are killed.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use plaudit::Store;

const EVENTS: usize = 4_704_973;
const KEYS: usize = 22_980;
const SUM: i64 = 164_737_226;

const SOURCE: &str = "github-stars.csv.zst";
const NAMESPACE: &str = "stars";
const KILLS: usize = 10;

/// The file in memory, each key as a number.
struct History {
    keys: Vec<Vec<u8>>,
    events: Vec<(u32, i64)>,
}

fn file() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(SOURCE)
}

/// The file's events; none, and a line that says so, where the file is not.
fn history() -> Option<&'static History> {
    static HISTORY: OnceLock<Option<History>> = OnceLock::new();
    let history = HISTORY.get_or_init(|| file().exists().then(|| read(&file())));
    if history.is_none() {
        eprintln!("SKIPPED: {} is not there, so the real history was not replayed", file().display());
    }
    history.as_ref()
}

fn read(path: &Path) -> History {
    let mut reader = csv::Reader::from_reader(zstd::Decoder::new(File::open(path).unwrap()).unwrap());
    let (mut numbers, mut history) = (HashMap::new(), History { keys: Vec::new(), events: Vec::new() });
    let mut row = csv::ByteRecord::new();
    while reader.read_byte_record(&mut row).unwrap() {
        let number = *numbers.entry(row[1].to_vec()).or_insert_with_key(|key| {
            history.keys.push(key.clone());
            history.keys.len() as u32 - 1
        });
        history.events.push((number, std::str::from_utf8(&row[2]).unwrap().parse().unwrap()));
    }
    assert_eq!((history.events.len(), history.keys.len()), (EVENTS, KEYS), "this is not the file that was measured");
    history
}

/// The plain fold of the first events.
struct Fold<'a> {
    history: &'a History,
    events: usize,
    sums: Vec<i64>,
    seen: Vec<bool>,
}

impl<'a> Fold<'a> {
    fn new(history: &'a History) -> Self {
        Self { history, events: 0, sums: vec![0; history.keys.len()], seen: vec![false; history.keys.len()] }
    }

    fn advance(&mut self, events: usize) {
        assert!(events >= self.events, "the position went back from {} to {events}", self.events);
        for (key, delta) in &self.history.events[self.events..events] {
            self.sums[*key as usize] += delta;
            self.seen[*key as usize] = true;
        }
        self.events = events;
    }

    /// Compares every counter, after going on to the position that the store has.
    fn check(&mut self, store: &Store) -> usize {
        let position = store.counters("plaudit.replay").unwrap().get(SOURCE).unwrap();
        self.advance(usize::try_from(position).unwrap());
        let counters = store.counters(NAMESPACE).unwrap();
        let values = counters.get_many(&self.history.keys).unwrap();
        for ((key, value), sum) in self.history.keys.iter().zip(values).zip(&self.sums) {
            assert_eq!(value, *sum, "{} after {position} events", key.escape_ascii());
        }
        assert_eq!(counters.len().unwrap(), self.seen.iter().filter(|seen| **seen).count());
        self.events
    }
}

fn spawn(store: &Path, acks: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_plaudit"))
        .arg("replay")
        .arg(file())
        .args(["--namespace", NAMESPACE, "--store"])
        .arg(store)
        .arg("--acks")
        .arg(acks)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// The last whole line of the acks file.
fn acknowledged(acks: &Path) -> usize {
    let text = fs::read_to_string(acks).unwrap_or_default();
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    whole.lines().last().map_or(0, |line| line.parse().unwrap())
}

#[test]
fn every_counter_equals_a_plain_fold_of_the_file() {
    let Some(history) = history() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (path, acks) = (dir.path().join("store"), dir.path().join("acks"));
    assert!(spawn(&path, &acks).wait().unwrap().success());
    assert_eq!(acknowledged(&acks), EVENTS);

    let mut fold = Fold::new(history);
    for _ in 0..2 {
        let store = Store::open(&path).unwrap();
        assert_eq!(fold.check(&store), EVENTS);
        let total: i64 = store.counters(NAMESPACE).unwrap().iter().map(|entry| entry.unwrap().1).sum();
        assert_eq!(total, SUM);
        store.close().unwrap();
    }
}

#[test]
fn a_replay_killed_ten_times_counts_every_event_once() {
    let Some(history) = history() else { return };
    let mut random = Random::from_the_clock();
    let dir = tempfile::tempdir().unwrap();
    let (path, acks) = (dir.path().join("store"), dir.path().join("acks"));
    let mut targets: Vec<usize> = (0..KILLS).map(|_| random.below(EVENTS as u64 * 9 / 10) as usize).collect();
    targets.sort_unstable();

    let mut fold = Fold::new(history);
    for (kill, target) in targets.into_iter().enumerate() {
        let mut child = spawn(&path, &acks);
        // Most kills hit a replay that is under way, some one that is still opening the store.
        if kill % 4 != 1 {
            while acknowledged(&acks) < target && child.try_wait().unwrap().is_none() {
                thread::sleep(Duration::from_millis(1));
            }
        }
        thread::sleep(Duration::from_micros(random.below(30_000)));
        child.kill().unwrap();
        child.wait().unwrap();

        let acknowledged = acknowledged(&acks);
        let store = Store::open(&path).unwrap();
        let position = fold.check(&store);
        assert!(acknowledged <= position, "{acknowledged} acknowledged and {position} recovered");
        store.close().unwrap();
    }

    assert!(spawn(&path, &acks).wait().unwrap().success());
    assert_eq!(acknowledged(&acks), EVENTS);
    assert_eq!(fold.check(&Store::open(&path).unwrap()), EVENTS);
    assert_eq!(fold.sums.iter().sum::<i64>(), SUM);
}

/// xorshift64*. `PLAUDIT_TEST_SEED` repeats a run's choices.
struct Random(u64);

impl Random {
    fn from_the_clock() -> Self {
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed = std::env::var("PLAUDIT_TEST_SEED").map_or(clock, |seed| seed.parse().unwrap());
        eprintln!("seed: PLAUDIT_TEST_SEED={seed}");
        Self(seed | 1)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % bound
    }
}
