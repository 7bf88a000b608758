//! Any sequence of operations, with failing calls, a full disk and power cuts, against plain maps: every acknowledged
//! change is there exactly once, every batch is whole or absent, and what fails is said to have failed.

mod faults;
mod hot;
mod likes;
mod model;

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use arbitrary::{Arbitrary, Unstructured};
use plaudit::storage::sim::{Fault, Operation, SimClock, SimDisk, Survival};
use plaudit::{AtBound, Driver, Durability, Environment, Error, Options, SnapshotHome, Stepped, Store};

use likes::Event;
use model::{Contents, Counts, Found, KEYS, LIKES, Model, NAMESPACES, bounds, key, like_options, name};

const ROOT: &str = "/srv/store";
const MAX_STEPS: usize = 80;

/// Longer than any group window or pause.
const LONG: Duration = Duration::from_secs(60);

#[derive(Debug, Arbitrary)]
struct Script {
    mode: Mode,
    generations_kept: u8,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Mode {
    Group,
    Immediate,
    Manual,
}

#[derive(Debug, Arbitrary)]
enum Step {
    Change {
        namespace: u8,
        change: Change,
    },
    Batch(Vec<(u8, Change)>),
    Create(u8),
    DropNamespace(u8),
    Sync,
    Seal,
    Commit,
    Compact,
    Close {
        one_shard: bool,
    },
    Cut {
        #[arbitrary(with = faults::survival)]
        survival: Survival,
        seed: u16,
    },
    CutAhead {
        operations: u8,
        #[arbitrary(with = faults::survival)]
        survival: Survival,
        seed: u16,
    },
    Fail {
        #[arbitrary(with = faults::operation)]
        operation: Operation,
        skip: u8,
        times: u8,
        #[arbitrary(with = faults::kind)]
        kind: ErrorKind,
    },
    Fill {
        room: u16,
    },
    Heal,
    Like(Event),
    LikeInBatch {
        events: Vec<Event>,
        counted: u8,
    },
    RemoveItem(Event),
    ForgetViewer(Event),
    Hot {
        namespace: u8,
        key: u8,
        what: hot::Use,
    },
}

#[derive(Debug, Clone, Copy, Arbitrary)]
struct Change {
    key: u8,
    what: What,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum What {
    Add(i8),
    AddLarge(i64),
    Set(i64),
    CompareAndSet { expected: i8, new: i8 },
    Remove,
}

/// Does what the bytes say, and compares at every step.
pub(crate) fn operations(data: &[u8]) {
    let Ok(script) = Script::arbitrary_take_rest(Unstructured::new(data)) else { return };
    let mut run = Run::new(&script);
    for step in script.steps.iter().take(MAX_STEPS) {
        run.step(step);
        run.observe();
    }
    run.heal();
    if run.store.is_some() {
        run.sync();
    }
    run.cut(Survival::Nothing, 0);
    run.check_memory();
}

struct Run {
    disk: SimDisk,
    clock: SimClock,
    options: Options,
    /// `None` after it stopped.
    store: Option<Store>,
    /// None of a store that stopped.
    hots: Vec<hot::Handle>,
    model: Model,
    /// Whether calls may fail.
    is_troubled: bool,
    cut_ahead: Option<(Survival, u64)>,
}

impl Run {
    fn new(script: &Script) -> Self {
        let durability = match script.mode {
            Mode::Group => Durability::Group,
            Mode::Immediate => Durability::Immediate,
            Mode::Manual => Durability::Manual,
        };
        let options = Options {
            shards: 4,
            durability,
            segment_bytes: 4_096,
            compaction_threshold_bytes: 4_096,
            generations_kept: usize::from(script.generations_kept % 3) + 1,
            snapshot_home: SnapshotHome::File,
            ..Options::default()
        };
        let (disk, clock, model) = (SimDisk::new(), SimClock::new(), Model::new());
        let mut run =
            Self { disk, clock, options, store: None, hots: Vec::new(), model, is_troubled: false, cut_ahead: None };
        run.open();
        run
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Cut { survival, seed } => self.cut(*survival, (*seed).into()),
            Step::CutAhead { operations, survival, seed } => {
                let seed = u64::from(*seed);
                self.disk.cut_power_at(self.disk.operations() + u64::from(*operations), *survival, seed);
                self.cut_ahead = Some((*survival, seed));
                self.is_troubled = true;
            }
            Step::Fail { operation, skip, times, kind } => {
                let times = (*times > 0).then_some(u64::from(*times));
                let (operation, kind, skip) = (*operation, *kind, u64::from(*skip));
                self.disk.fail(Fault { operation, path_contains: None, skip, times, kind, done: false });
                self.is_troubled = true;
            }
            Step::Fill { room } => {
                self.disk.set_capacity(Some((*room).into()));
                self.is_troubled = true;
            }
            Step::Heal => self.heal(),
            Step::Close { one_shard } => self.close(*one_shard),
            _ if self.store.is_none() => self.open(),
            Step::Change { namespace, change } => self.change(namespace % NAMESPACES, *change),
            Step::Batch(changes) => self.batch(changes),
            Step::Create(namespace) => self.create(namespace % NAMESPACES),
            Step::DropNamespace(namespace) => self.drop_namespace(namespace % NAMESPACES),
            Step::Sync => self.sync(),
            Step::Seal => {
                self.commit();
                self.clock.advance(LONG);
                self.commit();
            }
            Step::Commit => self.commit(),
            Step::Compact => self.compact(),
            Step::Like(event) => self.like(*event),
            Step::LikeInBatch { events, counted } => self.like_in_batch(events, *counted),
            Step::RemoveItem(event) => self.remove_item(*event),
            Step::ForgetViewer(event) => self.forget_viewer(*event),
            Step::Hot { namespace, key, what } => self.hot(*namespace, *key, *what),
        }
    }

    /// What is true between any two steps.
    fn observe(&mut self) {
        if self.disk.is_powered_off() {
            let (survival, seed) = self.cut_ahead.unwrap_or((Survival::Nothing, 0));
            return self.cut(survival, seed);
        }
        if let Some(store) = &self.store {
            self.model.durable(store.durable_epoch());
        }
    }

    fn store(&self) -> Store {
        self.store.clone().unwrap_or_else(|| panic!("a step that needs a store has one"))
    }

    fn stopped(&mut self) {
        (self.store, self.hots) = (None, Vec::new());
    }

    fn open(&mut self) {
        let environment = || Environment {
            storage: Arc::new(self.disk.clone()),
            clock: Arc::new(self.clock.clone()),
            driver: Driver::Caller,
            seed: Some(1),
        };
        match Store::open_in(environment(), ROOT, self.options.clone()) {
            Ok(store) => {
                let mut found =
                    Found::of(&store).unwrap_or_else(|error| panic!("a store that was opened reads: {error:?}"));
                found.unlikes = self.remembered(&found);
                assert!(self.model.may_be_on_disk(&found), "found {found:?}, expected {:?}", self.model);
                self.model.restart(&found);
                self.store = Some(store);
            }
            Err(error) => assert!(self.is_troubled && !error.is_corrupt(), "{error:?}"),
        }
    }

    /// The power goes now, or went, and comes back.
    fn cut(&mut self, survival: Survival, seed: u64) {
        if !self.disk.is_powered_off() {
            self.disk.cut_power_at(self.disk.operations(), survival, seed);
        }
        // With the power off it can do no more than answer errors.
        self.stopped();
        self.disk = self.disk.power_cut(survival, seed);
        self.disk.set_capacity(None);
        (self.is_troubled, self.cut_ahead) = (false, None);
        self.open();
    }

    fn heal(&mut self) {
        self.disk.clear_faults();
        self.disk.set_capacity(None);
        self.is_troubled = self.cut_ahead.is_some();
        if self.store.is_none() {
            return self.open();
        }
        // A full disk is tried again after a pause.
        self.clock.advance(LONG);
        self.sync();
        self.check_memory();
    }

    fn check_memory(&self) {
        if let Some(Ok(found)) = self.store.as_ref().map(Found::of) {
            assert_eq!(found, self.model.in_memory().listed());
        }
    }

    fn close(&mut self, one_shard: bool) {
        self.options.shards = if one_shard { 1 } else { 4 };
        if let Some(store) = self.store.take() {
            match store.clone().close() {
                Ok(()) => {
                    self.model.all_durable();
                    self.refuse_closed();
                }
                Err(error) if error.is_storage_full() && self.is_troubled => self.store = Some(store),
                Err(error) => {
                    assert!(self.is_troubled, "{error:?}");
                    self.hots.clear();
                }
            }
        }
        if self.store.is_none() {
            self.open();
        }
    }

    /// Whether a call succeeded. One that fails has a reason, and may have stopped the store.
    fn succeeded<T>(&mut self, result: Result<T, Error>) -> Option<T> {
        match result {
            Ok(value) => return Some(value),
            Err(error) => assert!(self.is_troubled && !error.is_corrupt(), "{error:?}"),
        }
        if matches!(self.store().sync(), Err(Error::Poisoned { .. })) {
            self.stopped();
        }
        None
    }

    fn sync(&mut self) {
        let synced = self.store().sync();
        if self.succeeded(synced).is_some() {
            self.model.durable(self.store().durable_epoch());
            assert!(!self.model.waits(), "a sync makes everything durable");
            self.model.all_durable();
            self.check_memory();
        }
    }

    fn commit(&mut self) {
        if self.store.as_ref().is_some_and(|store| store.step() == Stepped::Stopped) {
            assert!(self.is_troubled, "nothing stops a store but a failure");
            self.stopped();
        }
    }

    fn compact(&mut self) {
        let compacted = self.store().compact();
        self.succeeded(compacted);
    }

    fn create(&mut self, namespace: u8) {
        let created = if namespace < LIKES {
            self.store().counters_with(&name(namespace), bounds(namespace)).map(drop)
        } else {
            self.store().likes_with(&name(namespace), like_options(namespace)).map(drop)
        };
        if self.model.names.contains_key(&namespace) {
            assert!(created.is_ok(), "{created:?}");
            return;
        }
        let names = self.model.with(namespace);
        self.rename(names, created);
    }

    fn drop_namespace(&mut self, namespace: u8) {
        let dropped = self.store().drop_namespace(&name(namespace));
        if !self.model.names.contains_key(&namespace) {
            assert!(matches!(dropped, Err(Error::NoSuchNamespace { .. })), "{dropped:?}");
            return;
        }
        let names = self.model.without(namespace);
        self.rename(names, dropped);
    }

    fn rename(&mut self, names: model::Names, result: Result<(), Error>) {
        match &result {
            Ok(()) => self.model.renamed(names),
            // Nothing is different then.
            Err(Error::StorageFull { .. }) => {}
            Err(_) => self.model.maybe_renamed(names),
        }
        self.succeeded(result);
    }

    fn change(&mut self, namespace: u8, Change { key: number, what }: Change) {
        let Some(&id) = self.model.names.get(&namespace) else { return };
        if namespace >= LIKES {
            return likes::check_kind(&self.store(), namespace);
        }
        let number = number % KEYS;
        let mut contents = self.model.contents.clone();
        let expected = apply(&mut contents.counts, id, namespace, number, what);
        let store = self.store();
        let counters = store.existing_counters(&name(namespace)).unwrap_or_else(|error| panic!("{error:?}"));
        let result = match what {
            What::Add(delta) => counters.add(key(number), delta.into()),
            What::AddLarge(delta) => counters.add(key(number), delta),
            What::Set(value) => counters.set(key(number), value),
            What::Remove => counters.remove(key(number)),
            What::CompareAndSet { expected, new } => {
                counters.compare_and_set(key(number), expected.into(), new.into()).map(|answer| match answer {
                    plaudit::CompareAndSet::Set(receipt) | plaudit::CompareAndSet::Mismatch(receipt) => receipt,
                })
            }
        };
        let result = result.map(|receipt| {
            assert_eq!(Some(receipt.value()), expected, "{what:?}");
            Some(receipt.epoch())
        });
        self.applied(result, expected.is_some(), contents);
    }

    fn batch(&mut self, changes: &[(u8, Change)]) {
        let store = self.store();
        let mut batch = store.batch();
        let (mut contents, mut is_accepted) = (self.model.contents.clone(), true);
        for &(namespace, Change { key: number, what }) in changes.iter().take(12) {
            let (namespace, number) = (namespace % LIKES, number % KEYS);
            let Some(&id) = self.model.names.get(&namespace) else { continue };
            let counters = store.existing_counters(&name(namespace)).unwrap_or_else(|error| panic!("{error:?}"));
            match what {
                What::Add(delta) => batch.add(&counters, key(number), delta.into()),
                What::AddLarge(delta) => batch.add(&counters, key(number), delta),
                What::Set(value) => batch.set(&counters, key(number), value),
                What::Remove => batch.remove(&counters, key(number)),
                What::CompareAndSet { .. } => continue,
            };
            is_accepted &= apply(&mut contents.counts, id, namespace, number, what).is_some();
        }
        let result = batch.commit().map(|receipt| Some(receipt.epoch()));
        self.applied(result, is_accepted, contents);
    }

    /// Takes note of a change: applied, refused by its bounds, or left open by a failure.
    fn applied(&mut self, result: Result<Option<u64>, Error>, is_accepted: bool, contents: Contents) {
        let is_immediate = self.options.durability == Durability::Immediate;
        match result {
            Ok(epoch) => {
                assert!(is_accepted, "a change that leaves the bounds is refused");
                if contents != self.model.contents {
                    self.model.changed(contents, epoch);
                    if is_immediate && epoch.is_none() {
                        // A handle to a hot counter tells no epoch; what it added is durable, and all before.
                        self.model.all_durable();
                    }
                }
                if is_immediate {
                    assert!(
                        epoch.is_none_or(|epoch| self.store().durable_epoch() >= epoch),
                        "an immediate change is durable"
                    );
                }
            }
            Err(Error::Overflow { .. } | Error::OutOfBounds { .. }) => {
                assert!(!is_accepted, "a change within the bounds is applied");
            }
            // Nobody has committed it yet.
            Err(Error::NotDriven { epoch }) => {
                assert!(is_immediate && is_accepted);
                if contents != self.model.contents {
                    self.model.changed(contents, Some(epoch));
                }
            }
            // It stays in memory, and it is open whether the disk has it.
            Err(error) => {
                assert!(is_immediate && is_accepted, "{error:?}");
                self.model.changed(contents, None);
                self.succeeded::<()>(Err(error));
            }
        }
    }
}

/// Applies a change to the model, and answers the value after it; `None` when the bounds refuse it.
fn apply(counts: &mut Counts, id: u32, namespace: u8, key: u8, what: What) -> Option<i64> {
    let bounds = bounds(namespace);
    let read = counts.get(&(id, key)).copied().unwrap_or(0);
    let wanted = match what {
        What::Add(delta) => i128::from(read) + i128::from(delta),
        What::AddLarge(delta) => i128::from(read) + i128::from(delta),
        What::Set(value) => value.into(),
        What::CompareAndSet { expected, new } if read == i64::from(expected) => new.into(),
        What::CompareAndSet { .. } => return Some(read),
        What::Remove => {
            counts.remove(&(id, key));
            return Some(0);
        }
    };
    let within = wanted.clamp(bounds.min.into(), bounds.max.into());
    if within != wanted && bounds.at_bound == AtBound::Reject {
        return None;
    }
    let value = within as i64;
    counts.insert((id, key), value);
    Some(value)
}
