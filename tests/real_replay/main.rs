//! Real histories are applied exactly, in one go and by processes that are killed while they create, open, recover,
//! apply and compact, with snapshots in sled: the GitHub stars of 22,980 repositories as counts, in 4,704,973 events,
//! and the votes of 7,673 people on 2,772 questions as likes, in 269,103 events, also shuffled with each sent twice.
//!
//! After each kill a copy of the store must open to what exactly the first events come to, as many as the position in
//! it says, and that is no less than what the killed process had acknowledged. The store itself goes to the next
//! process as the kill left it, and after a dozen kills the history is applied to its end.
//!
//! `PLAUDIT_KILLS=300 cargo test --release --test real_replay -- --nocapture` is the same with 300 kills of each
//! history, a dozen for each store. `PLAUDIT_TEST_SEED=n` draws other moments.

#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod stars;
#[path = "../support/mod.rs"]
mod support;
mod votes;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use plaudit::{Batch, Options, Store};
use support::Random;

/// The namespace that the command keeps its positions in.
const POSITIONS: &str = "plaudit.replay";

/// How many kills a store gets before its history is applied to the end.
const KILLS_OF_A_STORE: usize = 12;

/// Names a store to the process of this test that applies a history with compactions.
const CHILD_STORE: &str = "PLAUDIT_TEST_REPLAY_STORE";
const CHILD_ACKS: &str = "PLAUDIT_TEST_REPLAY_ACKS";
const CHILD_FILE: &str = "PLAUDIT_TEST_REPLAY_FILE";

/// A history, and what its first events come to.
trait Fold {
    /// How many events there are.
    fn events(&self) -> usize;

    /// The command as its users run it.
    fn replay(&self, store: &Path, acks: &Path) -> Command;

    /// Does as the command does, in a store that compacts all the time.
    fn replay_with_compactions(&self, store: &Path, acks: &Path) -> Command;

    /// Goes on to the position that the store has, compares all that is in it, and answers the position.
    fn check(&mut self, store: &Store, context: &str) -> usize;
}

/// A file of the shared data; none, and a line that says so, where it is not.
fn shared(name: &str) -> Option<PathBuf> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if file.exists() {
        return Some(file);
    }
    eprintln!("SKIPPED: {} is not there, so this real history was not replayed", file.display());
    None
}

/// The command as its users run it.
fn plaudit(arguments: &[&str], store: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plaudit"));
    command.args(arguments).arg("--store").arg(store);
    command
}

/// A process of this test that [`apply_with_compactions`].
fn child(test: &str, file: &Path, store: &Path, acks: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test]).env(CHILD_FILE, file).env(CHILD_STORE, store).env(CHILD_ACKS, acks);
    command
}

fn spawn(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// In a process of [`child`], applies the rows as the command does, in a store that compacts all the time. `open` makes
/// of the store what gathers a row in a batch. Elsewhere it does nothing.
fn apply_with_compactions<G: Fn(&mut Batch, &csv::ByteRecord)>(source: &str, open: impl Fn(&Store) -> G) {
    let variables = [CHILD_FILE, CHILD_STORE, CHILD_ACKS].map(std::env::var_os);
    let [Some(file), Some(store), Some(acks)] = variables else { return };
    let mut acks = File::options().append(true).create(true).open(acks).unwrap();
    let options = Options {
        segment_bytes: 256 << 10,
        compaction_threshold_bytes: 4_096,
        group_window: Duration::from_millis(1),
        ..Options::default()
    };
    let store = Store::open_with(store, options).unwrap();
    let (gather, positions) = (open(&store), store.counters(POSITIONS).unwrap());
    let keys = ["position", "fingerprint"].map(|what| format!("{source}\t{what}"));
    let [mut position, mut fingerprint] = [0, 1].map(|key: usize| positions.get(&keys[key]).unwrap());
    let file = File::open(&file).unwrap();
    let mut reader = csv::Reader::from_reader(zstd::Decoder::new(file).unwrap());
    let mut rows = reader.byte_records().skip(position as usize).peekable();
    let mut batch = store.batch();
    while rows.peek().is_some() {
        for row in rows.by_ref().take(1_000) {
            let row = row.unwrap();
            fingerprint = fingerprint_after(fingerprint, &row);
            gather(&mut batch, &row);
            position += 1;
        }
        batch.set(&positions, &keys[0], position).set(&positions, &keys[1], fingerprint);
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

/// Kills processes over stores of the history, as many as asked for, and applies it to its end in each.
fn kill_and_finish<F: Fold>(test: &str, fold: impl Fn() -> F) {
    let kills = std::env::var("PLAUDIT_KILLS").map_or(KILLS_OF_A_STORE, |kills| kills.parse().unwrap());
    let seed = std::env::var("PLAUDIT_TEST_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut figures = Figures::default();
    for round in 0..kills.div_ceil(KILLS_OF_A_STORE) {
        let kills = KILLS_OF_A_STORE.min(kills - round * KILLS_OF_A_STORE);
        let seed = seed + round as u64;
        let again = format!("PLAUDIT_TEST_SEED={seed} cargo test --test real_replay {test}");
        kill_one_store(fold(), kills, seed, &again, &mut figures);
    }
    println!("{test}: {figures:?}, nothing lost or counted twice");
    assert_eq!(figures.kills + figures.too_late, kills);
    // A few kills may all miss what takes milliseconds.
    assert!(kills < 100 || figures.in_compactions > 0, "no kill met a compaction: {figures:?}");
}

/// Kills processes over one store, and applies the history to its end.
fn kill_one_store(mut fold: impl Fold, kills: usize, seed: u64, again: &str, figures: &mut Figures) {
    let dir = tempfile::tempdir().unwrap();
    let [path, acks, copy] = ["store", "acks", "copy"].map(|name| dir.path().join(name));
    let mut random = Random(seed);
    let mut targets: Vec<usize> = (0..kills).map(|_| random.below(fold.events() as u64 * 9 / 10) as usize).collect();
    targets.sort_unstable();

    for (target, kill) in targets.into_iter().zip(0..) {
        let victim = VICTIMS[kill % VICTIMS.len()];
        let context = format!("{again}, kill {kill}, {victim:?}");
        let before = unfinished(&path);
        let alive = kill_one(&fold, victim, &path, &acks, target, &mut random);
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
    assert!(spawn(fold.replay(&path, &acks)).wait().unwrap().success(), "{context}");
    assert_eq!(acknowledged(&acks), fold.events(), "{context}");
    let problems = Store::verify(&path).unwrap().problems;
    assert!(problems.is_empty(), "{context}: {problems:?}");
    let store = Store::open(&path).unwrap();
    assert_eq!(fold.check(&store, &context), fold.events());
    figures.generations += store.stats().generations.last().copied().unwrap_or(0);
}

/// Starts a process and kills it; whether it was alive until then.
fn kill_one(fold: &impl Fold, victim: Victim, store: &Path, acks: &Path, target: usize, random: &mut Random) -> bool {
    let command = match victim {
        Victim::Opening | Victim::Counting => fold.replay(store, acks),
        Victim::Compacting => fold.replay_with_compactions(store, acks),
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
