//! A real history, the GitHub stars of 22,980 repositories in 4,704,973 events, is counted exactly: in one go, and by
//! processes that are killed while they create, open, recover, count and compact, with snapshots in sled.
//!
//! After each kill a copy of the store must open to the counts of exactly the first events, as many as the position in
//! it says, and that is no less than what the killed process had acknowledged. The store itself goes to the next
//! process as the kill left it, and after a dozen kills it is counted to the end.
//!
//! `PLAUDIT_KILLS=300 cargo test --release --test real_replay -- --nocapture` is the same with 300 kills, a dozen for
//! each store. `PLAUDIT_TEST_SEED=n` draws other moments.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, SystemTime};

use plaudit::{Options, Store};
use support::Random;

const EVENTS: usize = 4_704_973;
const KEYS: usize = 22_980;
const SUM: i64 = 164_737_226;

const SOURCE: &str = "github-stars.csv.zst";
const NAMESPACE: &str = "stars";
const POSITIONS: &str = "plaudit.replay";
const POSITION: &str = "stars\tgithub-stars.csv.zst\tposition";
const FINGERPRINT: &str = "stars\tgithub-stars.csv.zst\tfingerprint";

/// How many kills a store gets before it is counted to the end.
const KILLS_OF_A_STORE: usize = 12;

/// Names a store to the process of this test that counts with compactions.
const CHILD_STORE: &str = "PLAUDIT_TEST_REPLAY_STORE";
const CHILD_ACKS: &str = "PLAUDIT_TEST_REPLAY_ACKS";

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
    fn check(&mut self, store: &Store, context: &str) -> usize {
        let position = store.counters(POSITIONS).unwrap().get(POSITION).unwrap();
        self.advance(usize::try_from(position).unwrap());
        let counters = store.counters(NAMESPACE).unwrap();
        let values = counters.get_many(&self.history.keys).unwrap();
        for ((key, value), sum) in self.history.keys.iter().zip(values).zip(&self.sums) {
            assert_eq!(value, *sum, "{context}: {} after {position} events", key.escape_ascii());
        }
        assert_eq!(counters.len().unwrap(), self.seen.iter().filter(|seen| **seen).count(), "{context}");
        self.events
    }
}

/// The command as its users run it.
fn plaudit(arguments: &[&str], store: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plaudit"));
    command.args(arguments).arg("--store").arg(store);
    command
}

fn replay(store: &Path, acks: &Path) -> Command {
    let mut command = plaudit(&["replay", "--namespace", NAMESPACE], store);
    command.arg("--acks").arg(acks).arg(file());
    command
}

/// Counts as the command does, in a store that compacts all the time.
fn replay_with_compactions(store: &Path, acks: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "counting_process"]).env(CHILD_STORE, store).env(CHILD_ACKS, acks);
    command
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// Not a test of its own: the process of [`replay_with_compactions`].
#[test]
fn counting_process() {
    let (Some(store), Some(acks)) = (std::env::var_os(CHILD_STORE), std::env::var_os(CHILD_ACKS)) else { return };
    let mut acks = File::options().append(true).create(true).open(acks).unwrap();
    let window = Duration::from_millis(1);
    let options = Options {
        segment_bytes: 256 << 10,
        compaction_threshold_bytes: 4_096,
        group_window: window,
        ..Options::default()
    };
    let store = Store::open_with(store, options).unwrap();
    let (stars, positions) = (store.counters(NAMESPACE).unwrap(), store.counters(POSITIONS).unwrap());
    let [mut position, mut fingerprint] = [POSITION, FINGERPRINT].map(|key| positions.get(key).unwrap());
    let mut reader = csv::Reader::from_reader(zstd::Decoder::new(File::open(file()).unwrap()).unwrap());
    let mut rows = reader.byte_records().skip(position as usize).peekable();
    let mut batch = store.batch();
    while rows.peek().is_some() {
        for row in rows.by_ref().take(1_000) {
            let row = row.unwrap();
            fingerprint = fingerprint_after(fingerprint, &row);
            batch.add(&stars, &row[1], std::str::from_utf8(&row[2]).unwrap().parse().unwrap());
            position += 1;
        }
        batch.set(&positions, POSITION, position).set(&positions, FINGERPRINT, fingerprint);
        let receipt = batch.commit().unwrap();
        if receipt.epoch().is_multiple_of(4) {
            receipt.wait().unwrap();
            acks.write_all(format!("{position}\n").as_bytes()).unwrap();
        }
    }
    store.close().unwrap();
}

/// The fingerprint that the command has after one more row: a chain of CRC-32C over the columns and their lengths.
fn fingerprint_after(fingerprint: i64, row: &csv::ByteRecord) -> i64 {
    let lengths = row.iter().flat_map(|column| (column.len() as u64).to_le_bytes());
    let row: Vec<u8> = row.iter().flatten().copied().chain(lengths).collect();
    crc32c::crc32c_append(fingerprint as u32, &row).into()
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
    assert!(spawn(replay(&path, &acks)).wait().unwrap().success());
    assert_eq!(acknowledged(&acks), EVENTS);

    let mut fold = Fold::new(history);
    for _ in 0..2 {
        let store = Store::open(&path).unwrap();
        assert_eq!(fold.check(&store, "in one go"), EVENTS);
        let total: i64 = store.counters(NAMESPACE).unwrap().iter().map(|entry| entry.unwrap().1).sum();
        assert_eq!(total, SUM);
        store.close().unwrap();
    }
}

/// What the killed process was doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victim {
    /// `plaudit replay`, a moment after its start: it creates the store, or opens what the kill before left.
    Opening,
    /// `plaudit replay`, under way.
    Counting,
    /// A store that counts and has a compaction under way.
    Compacting,
    /// `plaudit compact`.
    Snapshot,
}

const VICTIMS: [Victim; 4] = [Victim::Opening, Victim::Counting, Victim::Compacting, Victim::Snapshot];

/// What the kills met.
#[derive(Debug, Default)]
struct Figures {
    kills: usize,
    /// Left a generation that was begun and not finished.
    in_compactions: usize,
    /// The process had ended by itself before its kill.
    too_late: usize,
    generations: u64,
}

#[test]
fn processes_that_are_killed_count_every_event_once() {
    let Some(history) = history() else { return };
    let kills = std::env::var("PLAUDIT_KILLS").map_or(KILLS_OF_A_STORE, |kills| kills.parse().unwrap());
    let seed = std::env::var("PLAUDIT_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut figures = Figures::default();
    for round in 0..kills.div_ceil(KILLS_OF_A_STORE) {
        let kills = KILLS_OF_A_STORE.min(kills - round * KILLS_OF_A_STORE);
        kill_and_count(history, kills, seed + round as u64, &mut figures);
    }
    println!("{figures:?}, nothing lost or counted twice");
    assert_eq!(figures.kills + figures.too_late, kills);
    // A few kills may all miss what takes milliseconds.
    assert!(kills < 100 || figures.in_compactions > 0, "no kill met a compaction: {figures:?}");
}

/// Kills processes over one store, and counts it to the end.
fn kill_and_count(history: &History, kills: usize, seed: u64, figures: &mut Figures) {
    let dir = tempfile::tempdir().unwrap();
    let [path, acks, copy] = ["store", "acks", "copy"].map(|name| dir.path().join(name));
    let again = format!("PLAUDIT_TEST_SEED={seed} cargo test --test real_replay processes");
    let mut random = Random(seed);
    let mut targets: Vec<usize> = (0..kills).map(|_| random.below(EVENTS as u64 * 9 / 10) as usize).collect();
    targets.sort_unstable();

    let mut fold = Fold::new(history);
    for (target, kill) in targets.into_iter().zip(0..) {
        let victim = VICTIMS[kill % VICTIMS.len()];
        let context = format!("{again}, kill {kill}, {victim:?}");
        let before = unfinished(&path);
        let alive = kill_one(victim, &path, &acks, target, &mut random);
        figures.kills += usize::from(alive);
        figures.too_late += usize::from(!alive);
        figures.in_compactions += usize::from(!unfinished(&path).is_subset(&before));

        copy_dir(&path, &copy);
        let store = Store::open(&copy).unwrap_or_else(|error| panic!("{context}: {error:?}"));
        let (acknowledged, position) = (acknowledged(&acks), fold.check(&store, &context));
        assert!(acknowledged <= position, "{context}: {acknowledged} acknowledged and {position} recovered");
        store.close().unwrap();
        fs::remove_dir_all(&copy).unwrap();
    }

    let context = format!("{again}, at the end");
    assert!(spawn(replay(&path, &acks)).wait().unwrap().success(), "{context}");
    assert_eq!(acknowledged(&acks), EVENTS, "{context}");
    let problems = Store::verify(&path).unwrap().problems;
    assert!(problems.is_empty(), "{context}: {problems:?}");
    let store = Store::open(&path).unwrap();
    assert_eq!(fold.check(&store, &context), EVENTS);
    assert_eq!(fold.sums.iter().sum::<i64>(), SUM);
    figures.generations += store.stats().generations.last().copied().unwrap_or(0);
}

/// Starts a process and kills it; whether it was alive until then.
fn kill_one(victim: Victim, store: &Path, acks: &Path, target: usize, random: &mut Random) -> bool {
    let command = match victim {
        Victim::Opening | Victim::Counting => replay(store, acks),
        Victim::Compacting => replay_with_compactions(store, acks),
        Victim::Snapshot => plaudit(&["compact"], store),
    };
    let before = unfinished(store);
    let mut child = spawn(command);
    let mut wait_until = |reached: &dyn Fn() -> bool| {
        while !reached() && child.try_wait().unwrap().is_none() {
            thread::sleep(Duration::from_millis(1));
        }
    };
    if matches!(victim, Victim::Counting | Victim::Compacting) {
        wait_until(&|| acknowledged(acks) >= target);
    }
    if matches!(victim, Victim::Compacting | Victim::Snapshot) {
        wait_until(&|| !unfinished(store).is_subset(&before));
    }
    // At once, or soon, or when what was begun may have been published.
    let longest_us = [1, 30_000, 300_000][random.below(3) as usize];
    thread::sleep(Duration::from_micros(random.below(longest_us)));
    let alive = child.try_wait().unwrap().is_none();
    child.kill().unwrap();
    child.wait().unwrap();
    alive
}

/// The generations that were begun and not finished. A later one of the same name is told by its time.
fn unfinished(store: &Path) -> BTreeSet<(String, SystemTime)> {
    let dir = store.join("snapshot");
    let begun = names(&dir).into_iter().filter(|name| name.ends_with(".tmp"));
    // One that is finished in this moment has another name by now.
    let with_time = |name: String| {
        let time = dir.join(&name).metadata().ok()?.modified().unwrap();
        Some((name, time))
    };
    begun.filter_map(with_time).collect()
}

/// The names in a directory; none where there is no directory.
fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for name in names(from) {
        let (from, to) = (from.join(&name), to.join(&name));
        let len = from.metadata().unwrap().len();
        if from.is_dir() { copy_dir(&from, &to) } else { assert_eq!(fs::copy(&from, &to).unwrap(), len) }
    }
}
