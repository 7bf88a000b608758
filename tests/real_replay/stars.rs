//! GitHub stars, as counts.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use plaudit::Store;

use crate::{Fold, POSITIONS, acknowledged, apply_with_compactions, child, kill_and_finish, plaudit, shared, spawn};

const EVENTS: usize = 4_704_973;
const KEYS: usize = 22_980;
const SUM: i64 = 164_737_226;

const FILE: &str = "github-stars.csv.zst";
const NAMESPACE: &str = "stars";
const SOURCE: &str = "stars\tgithub-stars.csv.zst";

/// The file in memory, each key as a number.
struct History {
    file: PathBuf,
    keys: Vec<Vec<u8>>,
    events: Vec<(u32, i64)>,
}

/// The file's events, if it is there.
fn history() -> Option<&'static History> {
    static HISTORY: OnceLock<Option<History>> = OnceLock::new();
    HISTORY.get_or_init(|| shared(FILE).map(read)).as_ref()
}

fn read(file: PathBuf) -> History {
    let mut reader = csv::Reader::from_reader(zstd::Decoder::new(File::open(&file).unwrap()).unwrap());
    let (mut numbers, mut history) = (HashMap::new(), History { file, keys: Vec::new(), events: Vec::new() });
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
struct Stars<'a> {
    history: &'a History,
    events: usize,
    sums: Vec<i64>,
    seen: Vec<bool>,
}

impl<'a> Stars<'a> {
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
}

impl Fold for Stars<'_> {
    fn events(&self) -> usize {
        EVENTS
    }

    fn replay(&self, store: &Path, acks: &Path) -> Command {
        let mut command = plaudit(&["replay", "--namespace", NAMESPACE], store);
        command.arg("--acks").arg(acks).arg(&self.history.file);
        command
    }

    fn replay_with_compactions(&self, store: &Path, acks: &Path) -> Command {
        child("stars::counting_process", &self.history.file, store, acks)
    }

    fn check(&mut self, store: &Store, context: &str) -> usize {
        let position = store.counters(POSITIONS).unwrap().get(format!("{SOURCE}\tposition")).unwrap();
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

/// Not a test of its own: the process of [`Stars::replay_with_compactions`].
#[test]
fn counting_process() {
    apply_with_compactions(SOURCE, |store| {
        let stars = store.counters(NAMESPACE).unwrap();
        move |batch, row| {
            batch.add(&stars, &row[1], std::str::from_utf8(&row[2]).unwrap().parse().unwrap());
        }
    });
}

#[test]
fn every_counter_equals_a_plain_fold_of_the_file() {
    let Some(history) = history() else { return };
    let dir = tempfile::tempdir().unwrap();
    let (path, acks) = (dir.path().join("store"), dir.path().join("acks"));
    let mut fold = Stars::new(history);
    assert!(spawn(fold.replay(&path, &acks)).wait().unwrap().success());
    assert_eq!(acknowledged(&acks), EVENTS);
    for _ in 0..2 {
        let store = Store::open(&path).unwrap();
        assert_eq!(fold.check(&store, "in one go"), EVENTS);
        let total: i64 = store.counters(NAMESPACE).unwrap().iter().map(|entry| entry.unwrap().1).sum();
        assert_eq!(total, SUM);
        store.close().unwrap();
    }
}

#[test]
fn processes_that_are_killed_count_every_event_once() {
    let Some(history) = history() else { return };
    kill_and_finish("stars::processes_that_are_killed", || Stars::new(history));
}
