//! Damage of snapshots in sled, on the real file system: the older generation and the log serve as well, or the store
//! is refused with the damaged one's name, and no file is changed.
//!
//! A seeded sample: a bit flipped in any file that sled or plaudit keeps of a generation, the file cut, deleted,
//! replaced by another one, or one bit flipped in each of both generations. `tests/corruption.rs` says how each is
//! judged.
//!
//! `PLAUDIT_SLED_SAMPLES=20000 cargo test --test corruption_sled` takes a larger sample, and a failure prints the
//! command that repeats it alone.

#![cfg(feature = "sled")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/judge.rs"]
mod judge;
mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use judge::{Expected, Outcome, change, contents, fill, judge_found, names, sweep};
use plaudit::{Driver, Environment, Error, Options, Result, SnapshotHome, Store};
use support::{Random, options};

const SAMPLES: u64 = 240;

/// The directories of the two generations, in the store's.
const GENERATIONS: [&str; 2] = ["snapshot/00000000000000000001", "snapshot/00000000000000000002"];

#[derive(Debug)]
enum Damage {
    Flip(PathBuf, u64),
    Cut(PathBuf, u64),
    Delete(PathBuf),
    Replace(PathBuf, PathBuf),
    /// A bit in both generations.
    Both([(PathBuf, u64); 2]),
}

impl Damage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Flip(..) => "bit flipped",
            Self::Cut(..) => "file cut",
            Self::Delete(_) => "file deleted",
            Self::Replace(..) => "file replaced by another",
            Self::Both(_) => "bit flipped in both snapshots",
        }
    }

    fn apply(&self, dir: &Path) {
        match self {
            Self::Flip(file, bit) => flip(&dir.join(file), *bit),
            Self::Cut(file, len) => {
                fs::OpenOptions::new().write(true).open(dir.join(file)).unwrap().set_len(*len).unwrap()
            }
            Self::Delete(file) => fs::remove_file(dir.join(file)).unwrap(),
            Self::Replace(file, with) => drop(fs::copy(dir.join(with), dir.join(file)).unwrap()),
            Self::Both(flips) => flips.iter().for_each(|(file, bit)| flip(&dir.join(file), *bit)),
        }
    }

    /// What the damage must lead to.
    fn expected(&self) -> Outcome {
        match self {
            Self::Both(_) => Outcome::Corrupt,
            Self::Flip(file, _) | Self::Cut(file, _) | Self::Delete(file) | Self::Replace(file, _) => {
                // The older generation is not needed, and every byte of the newest is compared with its checksum.
                if file.starts_with(GENERATIONS[0]) { Outcome::Right } else { Outcome::OlderSnapshot }
            }
        }
    }
}

fn flip(file: &Path, bit: u64) {
    let mut bytes = fs::read(file).unwrap();
    bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
    fs::write(file, bytes).unwrap();
}

/// A store that the test drives, so that no thread replaces a damaged snapshot meanwhile.
fn open(dir: &Path) -> Result<Store> {
    let environment = Environment { driver: Driver::Caller, ..Environment::default() };
    Store::open_in(environment, dir, Options { snapshot_home: SnapshotHome::Sled, ..options() })
}

/// Every file below a directory, by its path from there.
fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut ahead = vec![dir.to_owned()];
    while let Some(next) = ahead.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                ahead.push(path);
            } else {
                found.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    found
}

fn draw(files: &BTreeMap<PathBuf, Vec<u8>>, random: &mut Random) -> Damage {
    let mut one_of = |generation: usize| {
        let all: Vec<_> = files.iter().filter(|(file, _)| file.starts_with(GENERATIONS[generation])).collect();
        // sled keeps some files empty, which have no bit to flip.
        let all: Vec<_> = all.into_iter().filter(|(_, bytes)| !bytes.is_empty()).collect();
        let (file, bytes) = all[random.below(all.len() as u64) as usize];
        (file.clone(), random.below(bytes.len() as u64 * 8))
    };
    let pair = [one_of(0), one_of(1)];
    let (file, bit) = pair[random.below(2) as usize].clone();
    match random.below(8) {
        0 => Damage::Both(pair),
        1 => Damage::Cut(file, bit / 8),
        2 => Damage::Delete(file),
        3 => {
            let others: Vec<_> = files.iter().filter(|(_, bytes)| **bytes != files[&file]).collect();
            let other = others[random.below(others.len() as u64) as usize].0.clone();
            Damage::Replace(file, other)
        }
        _ => Damage::Flip(file, bit),
    }
}

fn judge(sound: &BTreeMap<PathBuf, Vec<u8>>, expected: &Expected, damage: &Damage) -> Result<Outcome, String> {
    let temporary = tempfile::tempdir().unwrap();
    let dir = temporary.path();
    for (file, bytes) in sound {
        fs::create_dir_all(dir.join(file).parent().unwrap()).unwrap();
        fs::write(dir.join(file), bytes).unwrap();
    }
    damage.apply(dir);
    let before = files(dir);
    let generations = GENERATIONS.map(|generation| dir.join(generation));
    let outcome = match open(dir) {
        Ok(store) => judge_found(store, expected, &generations.each_ref().map(PathBuf::as_path), || open(dir))?,
        Err(error) if files(dir) != before => return Err(format!("refused, but a file was changed: {error:?}")),
        Err(error @ Error::Corrupt { .. }) if names(&error, &generations[1]) => Outcome::Corrupt,
        Err(error) => return Err(format!("refused for another reason: {error:?}")),
    };
    if outcome == damage.expected() { Ok(outcome) } else { Err(format!("{outcome:?}")) }
}

#[test]
fn a_damaged_snapshot_in_sled_costs_nothing_and_two_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).unwrap();
    fill(&store);
    change(&store);
    let expected = Expected { right: contents(&store), ..Expected::default() };
    store.close().unwrap();
    let sound = files(dir.path());
    let samples = std::env::var("PLAUDIT_SLED_SAMPLES").map_or(SAMPLES, |samples| samples.parse().unwrap());
    let mut random = Random(1);
    let damages: Vec<_> = (0..samples).map(|_| draw(&sound, &mut random)).collect();
    let Some(table) = sweep("sled", &damages, Damage::kind, |damage| judge(&sound, &expected, damage)) else { return };
    assert!(table.len() == 5 || samples < SAMPLES, "{table:?}");
}
