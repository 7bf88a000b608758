//! Damage of every kind, everywhere: a store opens with exactly the right counts, or says which file is damaged and
//! changes nothing.
//!
//! Stores of 20 KB on a simulated disk, one closed and one that crashed after its last frame, are damaged in every
//! single way of each kind: every bit of every file flipped, every file cut at every length, every file deleted, copied
//! to free names that one of its kind may have, copied over each other of its kind, and swapped with it. So is the last
//! segment of two that crashed within a frame. Each damaged store either opens with the right counts, also after it was
//! closed and opened again, or is refused with an error that names the file, and then every byte of the disk is as it
//! was. To be told from a plain refusal:
//!
//! - Without its MANIFEST a directory is [`Error::NotAStore`], because nothing in it says that it was one. No flipped
//!   bit makes a newer version of a file: a version is believed only when the checksum over it is right.
//! - What is damaged and not needed (a segment that the newest snapshot covers, an older snapshot) changes no count. A
//!   damaged newest snapshot is reported, and the one before and the log serve as well.
//! - Where a store crashed, damage to the very last frame cannot be told from a write that the crash tore. That frame
//!   alone may be missing, and the recovery report says so. A store that was closed ends with a seal and drops nothing.
//!
//! Generations kept in sled are in `tests/corruption_sled.rs`.
//!
//! The table that `--nocapture` shows stands beside the one of other stores with one random bit flipped in their log:
//! SQLite, sled, redb and fjall opened 26 to 100 times of 100 with a wrong total and said nothing. Here every bit is
//! flipped, and nothing is ever wrong.
//!
//! A failure prints the command that repeats it alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "support/judge.rs"]
mod judge;
mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use judge::{Contents, Expected, Outcome, Table, change, contents, fill, fill_but_last, judge_found, names, sweep};
use plaudit::storage::Storage;
use plaudit::storage::sim::{Operation, SimDisk, Survival};
use plaudit::{Error, Options, Store};
use support::{World, fault, options, path};

/// A store at rest, and what must be found in it.
struct Subject {
    name: &'static str,
    disk: SimDisk,
    files: BTreeMap<PathBuf, Vec<u8>>,
    /// Made once, because the defaults ask the system for its cores.
    options: Options,
    expected: Expected,
}

impl Subject {
    fn new(name: &'static str, disk: &SimDisk, expected: Expected) -> Self {
        let world = World::on(copy(disk));
        let files = world.files();
        let bytes: usize = files.values().map(Vec::len).sum();
        assert!((19_000..22_000).contains(&bytes), "{name} has {bytes} bytes");
        assert!(world.segments().len() >= 3 && world.snapshots().len() == 2, "{name}: {:?}", files.keys());
        Self { name, disk: world.disk, files, options: options(), expected }
    }

    /// Judges every damage of which a file passes, and answers how many had which outcome.
    fn sweep(&self, concerns: impl Fn(&Path) -> bool) -> Option<Table> {
        let mut damages = self.damages();
        damages.retain(|damage| damage.files().iter().any(|file| concerns(file)));
        sweep(self.name, &damages, Damage::kind, |damage| self.judge(damage))
    }

    fn damages(&self) -> Vec<Damage> {
        let mut damages = Vec::new();
        for (file, bytes) in &self.files {
            let len = bytes.len() as u64;
            damages.extend((0..len * 8).map(|bit| Damage::Flip { file: file.clone(), bit }));
            damages.extend((0..len).map(|len| Damage::Cut { file: file.clone(), len }));
            damages.push(Damage::Delete { file: file.clone() });
            damages.extend(free_names(file, &self.files).into_iter().map(|to| Damage::Copy { file: file.clone(), to }));
            for other in self.files.keys().filter(|other| *other != file && kind(other) == kind(file)) {
                damages.push(Damage::Over { file: file.clone(), with: other.clone() });
                if file < other {
                    damages.push(Damage::Swap { file: file.clone(), with: other.clone() });
                }
            }
        }
        damages
    }

    /// Opens the damaged store, judges what is found, closes it, and looks again.
    fn judge(&self, damage: &Damage) -> Result<Outcome, String> {
        let world = World::on(copy(&self.disk));
        damage.apply(&world.disk).map_err(|error| error.to_string())?;
        let open = || world.open_with(self.options.clone());
        match open() {
            Ok(store) => judge_found(store, &self.expected, &damage.files(), open),
            Err(error) => self.judge_refusal(damage, &world, &error),
        }
    }

    fn judge_refusal(&self, damage: &Damage, world: &World, error: &Error) -> Result<Outcome, String> {
        let damaged = World::on(copy(&self.disk));
        damage.apply(&damaged.disk).map_err(|error| error.to_string())?;
        if world.files() != damaged.files() {
            return Err(format!("refused, but the disk was changed: {error:?}"));
        }
        match error {
            Error::NotAStore { .. } if matches!(damage, Damage::Delete { file } if *file == path("MANIFEST")) => {
                Ok(Outcome::NotAStore)
            }
            error if damage.files().iter().any(|file| names(error, file)) => Ok(Outcome::Corrupt),
            _ => Err(format!("refused for another reason: {error:?}")),
        }
    }
}

/// A copy of a disk on which nothing is unsynced, or whatever is counts as written.
fn copy(disk: &SimDisk) -> SimDisk {
    disk.power_cut(Survival::Everything, 0)
}

/// One change of a disk that nobody asked for.
#[derive(Debug, Clone)]
enum Damage {
    Flip { file: PathBuf, bit: u64 },
    Cut { file: PathBuf, len: u64 },
    Delete { file: PathBuf },
    Copy { file: PathBuf, to: PathBuf },
    Over { file: PathBuf, with: PathBuf },
    Swap { file: PathBuf, with: PathBuf },
}

impl Damage {
    fn kind(&self) -> &'static str {
        match self {
            Self::Flip { .. } => "bit flipped",
            Self::Cut { .. } => "file cut",
            Self::Delete { .. } => "file deleted",
            Self::Copy { .. } => "file copied to a free name",
            Self::Over { .. } => "file replaced by another",
            Self::Swap { .. } => "files swapped",
        }
    }

    /// The files that an error may name.
    fn files(&self) -> [&Path; 2] {
        match self {
            Self::Flip { file, .. } | Self::Cut { file, .. } | Self::Delete { file } => [file, file],
            Self::Copy { file, to } => [file, to],
            Self::Over { file, with } | Self::Swap { file, with } => [file, with],
        }
    }

    fn apply(&self, disk: &SimDisk) -> std::io::Result<()> {
        match self {
            Self::Flip { file, bit } => disk.flip_bit(file, bit / 8, (bit % 8) as u8),
            Self::Cut { file, len } => disk.truncate_file(file, *len),
            Self::Delete { file } => disk.remove(file),
            Self::Copy { file, to } => disk.copy_file(file, to),
            Self::Over { file, with } => disk.copy_file(with, file),
            Self::Swap { file, with } => {
                let aside = path("aside");
                disk.copy_file(file, &aside)?;
                disk.copy_file(with, file)?;
                disk.copy_file(&aside, with)?;
                disk.remove(&aside)
            }
        }
    }
}

/// The directory and the suffix of a file, which are the same for files of one kind.
fn kind(file: &Path) -> (&Path, &str) {
    (file.parent().unwrap(), file.extension().map_or("", |extension| extension.to_str().unwrap()))
}

/// The names that a file of this kind may have, and none has: the numbers before and after those that there are, and
/// that of a file that is not finished.
fn free_names(file: &Path, files: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<PathBuf> {
    let (dir, suffix) = kind(file);
    let numbers = || files.keys().filter(|other| kind(other) == (dir, suffix)).filter_map(|other| number(other));
    let (Some(first), Some(last)) = (numbers().min(), numbers().max()) else {
        return vec![file.with_extension("tmp")];
    };
    let near = [first - 1, last + 1, last + 2, u64::MAX].map(|number| dir.join(format!("{number:020}.{suffix}")));
    let unfinished = if suffix == "log" { "log.tmp" } else { "tmp" };
    near.into_iter().chain([dir.join(format!("{:020}.{unfinished}", last + 1))]).collect()
}

fn number(file: &Path) -> Option<u64> {
    file.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok())
}

#[test]
fn a_closed_store_opens_with_the_right_counts_or_names_the_damaged_file() {
    let world = World::new();
    let store = world.open().unwrap();
    fill(&store);
    change(&store);
    let right = contents(&store);
    store.close().unwrap();
    let subject = Subject::new("closed", &world.disk, Expected { right, ..Expected::default() });
    let Some(table) = subject.sweep(|_| true) else { return };
    let all = |outcome| table.values().filter_map(|row| row.get(&outcome)).sum::<usize>();
    assert_eq!((all(Outcome::LastFrame), all(Outcome::NotAStore)), (0, 1));
    assert!(all(Outcome::Right) > 10_000 && all(Outcome::OlderSnapshot) > 10_000 && all(Outcome::Corrupt) > 10_000);
}

/// A store that crashed after a further frame was written as `how` says; with the counts before and with it.
fn crashed(how: impl Fn(&World, &Store)) -> (World, [Contents; 2]) {
    let world = World::new();
    let store = world.open().unwrap();
    fill(&store);
    let before = contents(&store);
    change(&store);
    let after = contents(&store);
    how(&world, &store);
    std::mem::forget(store);
    (World::on(copy(&world.disk)), [before, after])
}

#[test]
fn a_store_that_crashed_loses_the_last_frame_at_most_and_says_so() {
    let (world, [before_last, right]) = crashed(|_, store| store.sync().unwrap());
    let expected = Expected { right, before_last: Some(before_last), torn: false };
    let Some(table) = Subject::new("crashed", &world.disk, expected).sweep(|_| true) else { return };
    let lost = table.values().filter_map(|row| row.get(&Outcome::LastFrame)).sum::<usize>();
    // Each bit of its header and its body, which has nine keys of 140 bytes.
    let (at_least, at_most) = (8 * (48 + 9 * 140), 8 * (48 + 9 * 140 + 300));
    assert!((at_least..at_most).contains(&lost), "{lost}");
}

/// The last segment, and where its last frame begins.
fn last_frame(world: &World) -> (PathBuf, usize) {
    let (path, bytes) = world.files().into_iter().rfind(|(path, _)| path.to_string_lossy().ends_with(".log")).unwrap();
    (path, bytes.windows(4).rposition(|window| window == b"\xf7EPO").unwrap())
}

#[test]
fn a_torn_frame_is_left_out_and_hides_no_damage_before_it() {
    // A write that fails leaves the first half of its bytes, so the header is whole and the body is not.
    let (world, [right, _]) = crashed(|world, store| {
        world.disk.fail(fault(Operation::Write, "/log/", std::io::ErrorKind::Other));
        store.sync().unwrap_err();
    });
    let last = last_frame(&world).0;
    let Some(table) =
        Subject::new("torn", &world.disk, Expected { right, before_last: None, torn: true }).sweep(|file| file == last)
    else {
        return;
    };
    assert!(table.values().all(|row| !row.contains_key(&Outcome::LastFrame)));
}

#[test]
fn a_torn_frame_without_its_header_hides_damage_of_one_header_at_most() {
    let (world, [right, _]) = crashed(|_, store| store.sync().unwrap());
    let (last, offset) = last_frame(&world);
    let sector = 512 - offset % 512;
    world.disk.open(&last).unwrap().write_all_at(&vec![0; sector], offset as u64).unwrap();
    let before = World::new();
    let store = before.open().unwrap();
    fill_but_last(&store);
    let expected = Expected { right, before_last: Some(contents(&store)), torn: true };
    let Some(table) = Subject::new("headless", &world.disk, expected).sweep(|file| file == last) else { return };
    let lost = table.values().filter_map(|row| row.get(&Outcome::LastFrame)).sum::<usize>();
    // Where a frame's header is damaged, nothing tells how long the frame is, and that another one followed.
    assert_eq!(lost, 48 * 8);
}
