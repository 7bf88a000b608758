//! Seeded workloads: several lives of one store, each with changes, batches, namespaces that come and go, compactions,
//! a disk that fills up, and an end of its own.

#[path = "workload/hot.rs"]
mod hot;
#[path = "workload/likes.rs"]
mod liking;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use plaudit::storage::sim::{Fault, Operation, SimClock, SimDisk, Survival};
use plaudit::{Driver, Durability, Environment, Error, Options, RecoveryReport, Result, SnapshotHome, Stepped, Store};

use super::disk::{Moment, Process};
use super::likes;
use super::model::{CREDIT, DEBIT, IDS, Model, amount};
use super::mutations::Mutation;
use super::support::{LONG, ROOT, Random, State, state};

/// What a workload left behind: every moment at which the power could go.
#[derive(Debug)]
pub struct Recording {
    pub seed: u64,
    pub moments: Vec<Moment>,
    pub options: Options,
    /// What happened in it, and how often.
    pub met: BTreeMap<String, u64>,
}

/// Runs the workload of a seed to its end. Everything depends on the seed alone.
///
/// # Errors
///
/// When the store answers what it must not, or a life does not find what the one before it left.
pub fn record(seed: u64, mutation: Option<&'static Mutation>) -> Result<Recording, String> {
    let mut workload = Workload::new(seed, mutation);
    let lives = 3 + workload.random.below(3);
    for life in 0..lives {
        workload.live().map_err(|what| format!("life {life}: {what}"))?;
    }
    let Workload { moments, options, met, .. } = workload;
    Ok(Recording { seed, moments, options, met })
}

/// A store on a disk, driven by the test.
pub fn open(process: &Process, clock: &SimClock, seed: u64, options: &Options) -> Result<Store> {
    let (storage, clock) = (Arc::new(process.clone()), Arc::new(clock.clone()));
    let environment = Environment { storage, clock, driver: Driver::Caller, seed: Some(seed) };
    Store::open_in(environment, ROOT, options.clone())
}

/// The options with which a look into a store changes nothing on its disk.
pub fn for_a_look(options: &Options) -> Options {
    Options { durability: Durability::Manual, ..options.clone() }
}

/// How a life ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Close,
    /// Dropping closes too, and says nothing.
    Drop,
    Kill,
    /// A sync fails, and the store stops.
    FailedSync,
    /// The power goes, as it did for the images, and the workload goes on with what is left.
    PowerCut,
    /// The store is dropped, and its newest snapshot damaged.
    Rot,
}

/// As often as they are worth it: most of what a recovery must make up for is left by kills.
const ENDS: [End; 9] =
    [End::Close, End::Close, End::Drop, End::Kill, End::Kill, End::Kill, End::FailedSync, End::PowerCut, End::Rot];

struct Workload {
    seed: u64,
    random: Random,
    mutation: Option<&'static Mutation>,
    options: Options,
    disk: SimDisk,
    clock: SimClock,
    process: Process,
    model: Model,
    moments: Vec<Moment>,
    full: bool,
    /// Newer than any like so far.
    newest_ms: u64,
    met: BTreeMap<String, u64>,
}

impl Workload {
    fn new(seed: u64, mutation: Option<&'static Mutation>) -> Self {
        let mut random = Random(seed);
        let options = Options {
            shards: 1 << random.below(3),
            durability: [Durability::Group, Durability::Group, Durability::Manual, Durability::Immediate]
                [random.below(4) as usize],
            segment_bytes: 4_096,
            generations_kept: [2, 2, 3, 1][random.below(4) as usize],
            snapshot_home: SnapshotHome::File,
            ..Options::default()
        };
        let (disk, clock) = (SimDisk::new(), SimClock::new());
        let process = Process::new(&disk, mutation);
        let (model, moments, full, met) = (Model::new(), Vec::new(), false, BTreeMap::new());
        let newest_ms = plaudit::Clock::wall_ms(&clock);
        Self { seed, random, mutation, options, disk, clock, process, model, moments, full, newest_ms, met }
    }

    /// One life: from an open to its end.
    fn live(&mut self) -> Result<(), String> {
        // So that every unlike so far is older than the short horizon.
        self.clock.advance(LONG);
        self.process = Process::recorded(&self.disk, self.mutation);
        let end = ENDS[self.random.below(ENDS.len() as u64) as usize];
        if matches!(end, End::Kill | End::PowerCut) {
            self.process.kill_at(self.random.below(60));
        }
        self.model.opened();
        self.publish();
        match self.open_and_work(end) {
            Ok(()) => {}
            Err(Stop::Wrong(what)) => return Err(what),
            Err(Stop::Error(_)) if self.process.is_killed() || end == End::FailedSync => {}
            Err(Stop::Error(error)) => return Err(format!("an error that nothing explains: {error}")),
        }
        self.meet_end(end);
        self.moments.extend(self.process.take_moments());
        match end {
            _ if !self.process.is_killed() => self.process.finish(),
            End::PowerCut => self.disk = self.disk.power_cut(Survival::Random, self.random.word()),
            _ => {}
        }
        self.disk.clear_faults();
        if end == End::Rot {
            self.rot();
        }
        Ok(())
    }

    fn open_and_work(&mut self, end: End) -> Result<(), Stop> {
        let store = open(&self.process, &self.clock, self.seed, &self.options)?;
        let found = self.look_into(&state(&store)).map_err(Stop::Wrong)?;
        self.model.expected().check(&found).map_err(Stop::Wrong)?;
        if store.recovery().damaged_generations.is_empty() {
            self.model.damaged(None);
        }
        self.meet_recovery(store.recovery());
        self.model.restored(found);
        self.publish();
        let worked = self.work(&store, end);
        if worked.is_err() || matches!(end, End::Kill | End::PowerCut) {
            if end != End::FailedSync {
                self.process.kill();
            }
            return worked;
        }
        self.model.sealed();
        self.publish();
        if end == End::Close && self.succeeds("close", store.clone().close())? {
            // A log without a segment has no place for a seal.
            self.model.closed(!self.segments().is_empty());
            self.publish();
        }
        Ok(())
    }

    fn work(&mut self, store: &Store, end: End) -> Result<(), Stop> {
        for name in [IDS, CREDIT, DEBIT] {
            self.create(store, name)?;
        }
        if self.random.below(2) == 0 {
            self.create_likes(store, 2 - self.seed % 3)?;
        }
        let steps = 8 + self.random.below(18);
        for step in 0..steps {
            if end == End::FailedSync && step == steps / 2 {
                self.let_a_sync_fail();
            }
            self.step(store)?;
        }
        Ok(())
    }

    fn step(&mut self, store: &Store) -> Result<(), Stop> {
        match self.random.below(26) {
            17 => self.create_likes(store, self.seed % 2),
            // In few workloads, because there is more to compare then.
            18 | 19 if self.seed.is_multiple_of(8) => self.like_many(store),
            18..=23 => self.like(store),
            24 => self.remove_item(store),
            25 => self.forget_viewer(store),
            0 | 1 => {
                let name = format!("ns-{}", self.random.below(3));
                self.create(store, &name)
            }
            2 => self.drop_one(store),
            3 => self.compact(store),
            4..=6 => self.operate(store),
            7 | 8 => self.sync(store),
            9 => self.seal(store),
            10 => self.fill_or_free(),
            11 => self.close_in_vain(store),
            16 => self.add_hot(store),
            _ => self.change(store),
        }
    }

    fn create(&mut self, store: &Store, name: &str) -> Result<(), Stop> {
        if self.model.now.contains_key(name) {
            return Ok(());
        }
        let insert = |state: &mut State| drop(state.insert(name.to_owned(), Default::default()));
        self.at_once("creation of a namespace", &insert, || store.counters(name).map(drop))
    }

    fn drop_one(&mut self, store: &Store) -> Result<(), Stop> {
        let Some(name) = self.pick_any() else { return Ok(()) };
        let remove = |state: &mut State| likes::remove_namespace(state, &name);
        self.at_once("drop of a namespace", &remove, || store.drop_namespace(&name))
    }

    fn at_once(
        &mut self,
        what: &str,
        change: &dyn Fn(&mut State),
        call: impl FnOnce() -> Result<()>,
    ) -> Result<(), Stop> {
        self.model.begin_at_once(change);
        self.publish();
        if self.succeeds(what, call())? {
            self.model.end_at_once(change);
        } else {
            self.model.refuse_at_once();
        }
        self.publish();
        Ok(())
    }

    /// A namespace of counters that is not the ledger's.
    fn pick(&mut self) -> Option<String> {
        self.pick_of(&["ns-"])
    }

    /// A namespace that is not the ledger's.
    fn pick_any(&mut self) -> Option<String> {
        self.pick_of(&["ns-", "likes-"])
    }

    fn pick_of(&mut self, prefixes: &[&str]) -> Option<String> {
        let is_one = |name: &&String| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let names: Vec<_> = self.model.now.keys().filter(is_one).collect();
        let at = self.random.below(names.len().max(1) as u64) as usize;
        names.get(at).map(|name| (*name).clone())
    }

    fn key(&mut self) -> String {
        let key = self.random.below(12);
        // Some are so long that a few of them fill a segment.
        if key < 4 { format!("{key:->900}") } else { format!("key-{key}") }
    }

    fn change(&mut self, store: &Store) -> Result<(), Stop> {
        let Some(name) = self.pick() else { return Ok(()) };
        let counters = store.existing_counters(&name)?;
        let (key, delta) = (self.key(), amount(self.random.word()));
        let choice = self.random.below(6);
        let of = self.model.now.get_mut(&name).expect("a namespace that was picked exists");
        match choice {
            0 => drop(of.remove(&key)),
            1 => drop(of.insert(key.clone(), delta)),
            _ => *of.entry(key.clone()).or_default() += delta,
        }
        let expected = of.get(&key).copied().unwrap_or(0);
        self.begin_change();
        let changed = match choice {
            0 => counters.remove(&key),
            1 => counters.set(&key, delta),
            _ => counters.add(&key, delta),
        };
        match &changed {
            Ok(receipt) if receipt.value() != expected => {
                Err(Stop::Wrong(format!("{name}/{key} is {} and not {expected}", receipt.value())))
            }
            _ => self.end_change(changed.map(|receipt| receipt.changed())),
        }
    }

    /// Under `Durability::Immediate` a change commits itself.
    fn begin_change(&mut self) {
        if self.options.durability == Durability::Immediate {
            self.publish_sealed();
        }
    }

    /// A change that makes no difference waits only for what it saw, which may be of an earlier epoch than others.
    fn end_change(&mut self, changed: Result<bool>) -> Result<(), Stop> {
        match changed {
            Ok(true) if self.options.durability == Durability::Immediate => {
                self.model.acknowledged();
                self.publish();
                Ok(())
            }
            // It is applied all the same.
            Err(Error::StorageFull { .. }) => Ok(()),
            changed => {
                changed?;
                Ok(())
            }
        }
    }

    /// The next operation of the ledger: one batch over three namespaces, and some keys of others.
    fn operate(&mut self, store: &Store) -> Result<(), Stop> {
        let mut batch = store.batch();
        if [IDS, CREDIT, DEBIT].iter().all(|name| self.model.now.contains_key(*name)) {
            let id = self.model.begin_operation();
            let key = format!("account-{}", self.random.below(3));
            for (name, key, delta) in
                [(DEBIT, &key, -amount(id)), (IDS, &id.to_string(), 1), (CREDIT, &key, amount(id))]
            {
                self.add(store, &mut batch, name, key, delta)?;
            }
        }
        for _ in 0..self.random.below(6) {
            let Some(name) = self.pick() else { break };
            let (key, delta) = (self.key(), amount(self.random.word()));
            self.add(store, &mut batch, &name, &key, delta)?;
        }
        for _ in 0..self.random.below(3) {
            self.like_in(store, &mut batch)?;
        }
        self.begin_change();
        let changed = batch.commit().map(|receipt| receipt.changes().any(|change| change.changed));
        self.end_change(changed)
    }

    fn add(&mut self, store: &Store, batch: &mut plaudit::Batch, name: &str, key: &str, delta: i64) -> Result<()> {
        batch.add(&store.existing_counters(name)?, key, delta);
        *self.model.now.entry(name.to_owned()).or_default().entry(key.to_owned()).or_default() += delta;
        Ok(())
    }

    /// Lets the group window pass, and the committer come some of the way: the epoch sealed, or written, or published.
    fn seal(&mut self, store: &Store) -> Result<(), Stop> {
        self.publish_sealed();
        store.step();
        self.clock.advance(LONG);
        let steps = 1 + self.random.below(3);
        let last = (0..steps).fold(Stepped::Worked, |_, _| store.step());
        if last == Stepped::Idle && self.options.durability != Durability::Manual {
            self.model.acknowledged();
            self.publish();
        }
        Ok(())
    }

    fn sync(&mut self, store: &Store) -> Result<(), Stop> {
        self.acknowledge("sync", || store.sync())?;
        if self.full { Ok(()) } else { self.look_at(store) }
    }

    fn compact(&mut self, store: &Store) -> Result<(), Stop> {
        self.acknowledge("compaction", || store.compact())?;
        let replaced = |number| !store.stats().generations.contains(&number);
        if self.model.expected().damaged.is_some_and(replaced) {
            self.model.damaged(None);
        }
        Ok(())
    }

    /// Closes the store, and lets the seal be answered as on a full disk, although all of it is written: the store
    /// stays open, and must take the seal back before the log goes on in another segment.
    fn close_in_vain(&mut self, store: &Store) -> Result<(), Stop> {
        self.operate(store)?;
        self.sync(store)?;
        if self.full || store.stats().log_bytes_written == 0 {
            // There is more to write than a seal, or no segment of this run's to seal.
            return Ok(());
        }
        let path_contains = Some("/log/".to_owned());
        let (operation, kind) = (Operation::Write, std::io::ErrorKind::StorageFull);
        self.disk.fail(Fault { operation, path_contains, skip: 0, times: Some(1), kind, done: true });
        if self.succeeds("close without its seal", store.clone().close())? {
            return Err(Stop::Wrong("the store was closed without a seal".to_owned()));
        }
        if self.random.below(2) == 0 { self.compact(store) } else { Ok(()) }
    }

    fn acknowledge(&mut self, what: &str, call: impl FnOnce() -> Result<()>) -> Result<(), Stop> {
        self.publish_sealed();
        if self.succeeds(what, call())? {
            self.model.acknowledged();
            self.publish();
        }
        Ok(())
    }

    /// Leaves the disk little room, or as much as there was.
    fn fill_or_free(&mut self) -> Result<(), Stop> {
        self.full = !self.full;
        let len = |path: &PathBuf| self.disk.read_file(path).map_or(0, |bytes| bytes.len() as u64);
        let used: u64 = self.disk.files().iter().map(len).sum();
        self.disk.set_capacity(self.full.then(|| used + self.random.below(9_000)));
        // Longer than a full disk is left alone before the next try.
        self.clock.advance(LONG);
        Ok(())
    }

    fn let_a_sync_fail(&mut self) {
        let path = ["/log/", "/log/", "MANIFEST", "/snapshot/"][self.random.below(4) as usize];
        let (path_contains, skip) = (Some(path.to_owned()), self.random.below(3));
        let (operation, kind) = (Operation::Sync, std::io::ErrorKind::Other);
        self.disk.fail(Fault { operation, path_contains, skip, times: Some(1), kind, done: false });
    }

    /// Damages the newest snapshot where there is another way to the same counts.
    fn rot(&mut self) {
        let newest = super::images::newest_snapshot(&self.disk);
        if let Some((path, number)) = newest.filter(|_| self.options.generations_kept > 1)
            && self.model.expected().damaged.is_none()
            && self.disk.flip_bit(&path, self.random.below(40), 3).is_ok()
        {
            self.model.damaged(Some(number));
        }
    }

    /// Whether a call succeeded; `false` when the disk was full.
    fn succeeds(&mut self, what: &str, result: Result<()>) -> Result<bool> {
        match result {
            Err(error) if error.is_storage_full() => {
                self.meet(format!("{what} on a full disk"));
                Ok(false)
            }
            result => {
                self.meet(if result.is_ok() { what.to_owned() } else { format!("{what} that failed") });
                result.map(|()| true)
            }
        }
    }

    /// The numbers of the log's segments.
    fn segments(&self) -> Vec<u64> {
        let number = |path: &PathBuf| path.file_name()?.to_str()?.strip_suffix(".log")?.parse().ok();
        self.disk.files().iter().filter_map(number).collect()
    }

    fn meet_recovery(&mut self, report: &RecoveryReport) {
        let Options { durability, shards, .. } = self.options;
        self.meet(format!("{durability:?} durability"));
        self.meet(format!("{shards} shards"));
        let found = [
            ("open of a log with a seal", report.closed_cleanly),
            ("open from a snapshot", report.generation.is_some()),
            ("open from an older snapshot", report.generation.is_some() && !report.damaged_generations.is_empty()),
            ("open with an incomplete epoch", report.dropped_bytes > 0),
        ];
        found.into_iter().filter(|(_, met)| *met).for_each(|(what, _)| self.meet(what));
    }

    fn meet_end(&mut self, end: End) {
        self.meet(format!("end by {end:?}"));
        let segments = self.segments();
        if segments.len() > 1 {
            self.meet("several segments");
        }
        if segments.first().is_some_and(|first| *first > 1) {
            self.meet("segments removed");
        }
    }

    fn meet(&mut self, what: impl Into<String>) {
        *self.met.entry(what.into()).or_default() += 1;
    }

    fn publish_sealed(&mut self) {
        self.model.sealed();
        self.publish();
    }

    fn publish(&self) {
        self.process.expect(self.model.expected());
    }
}

/// Why a life ends early.
#[derive(Debug)]
enum Stop {
    Error(Error),
    /// The store answered what it must not.
    Wrong(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}
