//! From the moments of a workload to the disks that a power cut there can leave, and what each of them must hold.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};

use plaudit::storage::sim::{SimClock, SimDisk, Survival};
use plaudit::{Clock, Driver, Environment, Error, Options, Store};

use super::disk::{Moment, Process};
use super::likes::{self, Event, UNLIKES, When};
use super::model::{Expected, difference};
use super::mutations::Mutation;
use super::support::{ROOT, Random, State, state};
use super::workload::{Recording, for_a_look, open};

/// How each moment's disk is cut: the two ends once, the draws several times.
const CUTS: [Survival; 8] = [
    Survival::Nothing,
    Survival::Everything,
    Survival::Prefix,
    Survival::Prefix,
    Survival::Random,
    Survival::Random,
    Survival::Random,
    Survival::Random,
];

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Different disks that were recovered.
    pub images: u64,
    /// Those of them that a power cut inside a recovery left.
    pub inside_recovery: u64,
    /// Recoveries from an older generation, because the newest was damaged.
    pub fallbacks: u64,
    /// Images with an epoch that was left out, because it was incomplete.
    pub incomplete: u64,
    /// Recoveries in all.
    pub recoveries: u64,
}

impl Counts {
    pub fn add(&mut self, other: Self) {
        self.images += other.images;
        self.inside_recovery += other.inside_recovery;
        self.fallbacks += other.fallbacks;
        self.incomplete += other.incomplete;
        self.recoveries += other.recoveries;
    }
}

/// Recovers every image of a workload's moments, up to so many, and checks it.
///
/// # Errors
///
/// What was wrong first, and where.
pub fn examine(recording: &Recording, mutation: Option<&'static Mutation>, most: u64) -> (Counts, Result<(), String>) {
    let mut examiner = Examiner {
        random: Random(recording.seed),
        seed: recording.seed,
        options: &recording.options,
        mutation,
        known: HashMap::new(),
        counts: Counts::default(),
    };
    for (number, moment) in recording.moments.iter().enumerate() {
        for survival in CUTS {
            if examiner.counts.images >= most {
                return (examiner.counts, Ok(()));
            }
            if let Err(what) = examiner.cut(moment, survival) {
                let before = moment.call.map_or_else(|| "the end".to_owned(), |call| format!("{call:?}"));
                return (examiner.counts, Err(format!("moment {number}, before {before}, {survival:?}: {what}")));
            }
        }
    }
    (examiner.counts, Ok(()))
}

/// The newest snapshot that has its name, and its number.
pub fn newest_snapshot(disk: &SimDisk) -> Option<(PathBuf, u64)> {
    let path = disk.files().into_iter().rfind(|path| path.extension().is_some_and(|suffix| suffix == "snap"))?;
    let number = path.file_stem()?.to_str()?.parse().ok()?;
    Some((path, number))
}

struct Examiner<'a> {
    random: Random,
    seed: u64,
    options: &'a Options,
    mutation: Option<&'static Mutation>,
    /// What was found on images so far.
    known: HashMap<u64, Found>,
    counts: Counts,
}

/// What a recovery found.
#[derive(Debug, Clone)]
struct Found {
    state: State,
    sealed: bool,
    damaged: Vec<u64>,
}

impl Examiner<'_> {
    /// Cuts the power at a moment, and again inside the recovery from that.
    fn cut(&mut self, moment: &Moment, survival: Survival) -> Result<(), String> {
        let image = moment.disk.power_cut(survival, self.random.word());
        let digest = digest(&image);
        if let Some(found) = digest.and_then(|digest| self.known.get(&digest)) {
            return check(&moment.expected, found);
        }
        verify(&image, &moment.expected)?;
        let process = Process::recorded(&image, self.mutation);
        let found = self.recover(&process)?;
        check(&moment.expected, &found)?;
        self.note(digest, &found);
        let moments = process.take_moments();
        let after = self.cut_again(&moments, &found)?;
        self.go_on(&after, &found.state)?;
        if moment.expected.damaged.is_none() && self.options.generations_kept > 1 && self.random.below(4) == 0 {
            self.fall_back(&image, &found.state)?;
        }
        Ok(())
    }

    /// Recovers a disk, and ends the process then.
    fn recover(&mut self, process: &Process) -> Result<Found, String> {
        self.counts.recoveries += 1;
        let (clock, options) = (SimClock::new(), for_a_look(self.options));
        let store = open(process, &clock, self.seed, &options).map_err(|error| error.to_string())?;
        let report = store.recovery();
        self.counts.incomplete += u64::from(report.dropped_bytes > 0);
        let damaged = report.damaged_generations.iter().map(|(number, _)| *number).collect();
        process.kill();
        Ok(Found { state: likes::everything(&store, &clock)?, sealed: report.closed_cleanly, damaged })
    }

    fn note(&mut self, digest: Option<u64>, found: &Found) -> bool {
        let Some(digest) = digest else { return false };
        let new = self.known.insert(digest, found.clone()).is_none();
        self.counts.images += u64::from(new);
        new
    }

    /// Cuts the power at a moment of a recovery: the next one must find the same. Answers the disk after it.
    fn cut_again(&mut self, moments: &[Moment], found: &Found) -> Result<SimDisk, String> {
        let moment = &moments[self.random.below(moments.len() as u64) as usize];
        let survival = CUTS[self.random.below(CUTS.len() as u64) as usize];
        let image = moment.disk.power_cut(survival, self.random.word());
        let inside = |what: String| format!("and then inside recovery, before {:?}, {survival:?}: {what}", moment.call);
        let digest = digest(&image);
        let again = match digest.and_then(|digest| self.known.get(&digest)) {
            Some(known) => known.clone(),
            None => {
                let again = self.recover(&Process::new(&image.process_kill(), self.mutation)).map_err(inside)?;
                self.counts.inside_recovery += u64::from(self.note(digest, &again));
                again
            }
        };
        if again.state == found.state {
            return Ok(image);
        }
        Err(inside(format!("the state became another: {}", difference(&found.state, &again.state))))
    }

    /// Goes on with a store that was cut, in ways that build on what was recovered, and opens it twice again.
    fn go_on(&mut self, disk: &SimDisk, found: &State) -> Result<(), String> {
        let mut expected = likes::listed(found);
        for life in 0..3 {
            let process = Process::new(disk, None);
            // Another number of shards each time: nothing on the disk depends on it.
            let options = Options { shards: 1 << life, ..self.options.clone() };
            self.counts.recoveries += 1;
            let failed = |error: Error| format!("life {life} after it: {error}");
            disk.set_capacity(None);
            let store = open(&process, &SimClock::new(), self.seed, &options).map_err(failed)?;
            let found = state(&store);
            if found != expected {
                return Err(format!("life {life} after it: {}", difference(&expected, &found)));
            }
            match life {
                0 => go_on_with_changes(&store, &mut expected).map_err(failed)?,
                1 => store.compact().and_then(|()| store.close()).map_err(failed)?,
                _ => {}
            }
            process.kill();
        }
        Ok(())
    }

    /// Damages the newest generation: the one before it and the log must lead to the same counts, also when the power
    /// goes while they do.
    fn fall_back(&mut self, image: &SimDisk, expected: &State) -> Result<(), String> {
        let damaged = image.process_kill();
        let Some((path, number)) = newest_snapshot(&damaged) else { return Ok(()) };
        damaged.flip_bit(&path, self.random.below(24), 0).map_err(|error| error.to_string())?;
        let process = Process::recorded(&damaged, self.mutation);
        let failed = |what: String| format!("generation {number} is damaged: {what}");
        let found = self.recover(&process).map_err(failed)?;
        if found.damaged.is_empty() {
            // It is a leftover, which recovery removes and never reads.
            return Ok(());
        }
        self.counts.fallbacks += 1;
        if found.state != *expected {
            return Err(failed(difference(expected, &found.state)));
        }
        self.cut_again(&process.take_moments(), &found).map_err(failed).map(drop)
    }
}

fn go_on_with_changes(store: &Store, expected: &mut State) -> plaudit::Result<()> {
    let (first, second) = (store.counters("after")?, store.counters("ns-0")?);
    let mut batch = store.batch();
    batch.add(&first, "key", 7).add(&second, "key", -7);
    match batch.commit() {
        Err(Error::NotDriven { .. }) | Ok(_) => {}
        Err(error) => return Err(error),
    }
    for (name, delta) in [("after", 7), ("ns-0", -7)] {
        *expected.entry(name.to_owned()).or_default().entry("key".to_owned()).or_default() += delta;
    }
    go_on_with_likes(store, expected)?;
    store.sync()
}

/// A viewer likes two items, and another one is forgotten.
fn go_on_with_likes(store: &Store, expected: &mut State) -> plaudit::Result<()> {
    let name = "likes-0";
    let likes = store.likes_with(name, likes::options(name))?;
    let (viewer, when) = (likes::viewer(name, 9), When::At(SimClock::new().wall_ms()));
    let mut batch = store.batch();
    for item in ["item-1", "after"] {
        likes::apply(expected, name, item, Event { viewer, liked: true, when });
        batch.like_at(&likes, item, viewer, SimClock::new().wall_ms());
    }
    likes::forget_viewer(expected, name, likes::viewer(name, 1));
    expected.remove(UNLIKES);
    for done in [batch.commit().map(drop), likes.forget_viewer(likes::viewer(name, 1)).map(drop)] {
        match done {
            Err(Error::NotDriven { .. }) | Ok(()) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Checks what was found against what must be.
fn check(expected: &Expected, found: &Found) -> Result<(), String> {
    expected.check(&found.state)?;
    if expected.sealed && !found.sealed {
        return Err("the store was closed, and the log has no seal".to_owned());
    }
    match found.damaged.iter().find(|number| expected.damaged != Some(**number)) {
        Some(number) => Err(format!("generation {number} is damaged")),
        None => Ok(()),
    }
}

/// Reads everything on the disk: a power cut leaves no damage, not even where recovery does not look.
fn verify(image: &SimDisk, expected: &Expected) -> Result<(), String> {
    let disk = image.process_kill();
    let environment = Environment {
        storage: std::sync::Arc::new(disk),
        clock: std::sync::Arc::new(SimClock::new()),
        driver: Driver::Caller,
        seed: None,
    };
    let problems = match Store::verify_in(environment, ROOT) {
        Ok(report) => report.problems,
        Err(Error::NotAStore { .. }) => return Ok(()),
        Err(error) => return Err(format!("verify: {error}")),
    };
    let explained = |problem: &Error| match (problem, expected.damaged) {
        (Error::Corrupt { file, .. }, Some(number)) => file.to_string_lossy().contains(&format!("{number:020}.snap")),
        _ => false,
    };
    match problems.iter().find(|problem| !explained(problem)) {
        Some(problem) => Err(format!("verify: {problem}")),
        None => Ok(()),
    }
}

/// A number for the files of a disk that holds a store; `None` for any other, of which all workloads have the same.
fn digest(disk: &SimDisk) -> Option<u64> {
    let files = disk.files();
    if !files.iter().any(|path| path == &Path::new(ROOT).join("MANIFEST")) {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    for path in files {
        path.hash(&mut hasher);
        disk.read_file(&path).unwrap_or_default().hash(&mut hasher);
    }
    Some(hasher.finish())
}
