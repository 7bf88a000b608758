//! Under any schedule of the store's threads and its callers', each epoch is there exactly once or not at all, what was
//! acknowledged is there, everyone who waits is answered, and subscribers are told what happened.
//!
//! shuttle runs the whole engine on the simulated disk and chooses at every lock, atomic and wait which thread goes on:
//! at random, and by the PCT algorithm, which needs few schedules for faults that need few preemptions. Schedules end
//! in different ways: the store is closed or dropped beside its callers, the power goes at any operation, a sync
//! fails, or the committer's thread dies; and the disk may be full for a while. It is compiled for shuttle only:
//!
//! `RUSTFLAGS="--cfg shuttle" cargo test --release --target-dir target/shuttle --test schedules -- --nocapture`
//!
//! `PLAUDIT_SCHEDULES` is how many each test runs (10,000), `PLAUDIT_SEED` draws others. A failure prints its schedule;
//! the same command with `PLAUDIT_SCHEDULE` set to that string replays it.

#![allow(missing_docs, clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![cfg(shuttle)]

mod support;

use std::collections::BTreeMap;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plaudit::storage::sim::{Fault, Operation, SimDisk, Survival};
use plaudit::{Clock, Counters, Delivery, Driver, Durability, Environment, Error, Options, Result, Store};
use shuttle::rand::RngCore;
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner, future, thread};
use support::{ROOT, Random, State, World, options, state};

/// Threads that change counters.
const WORKERS: u64 = 3;

/// How many priority changes PCT spreads over a schedule, less one: it finds faults that need so many orderings.
const PCT_DEPTH: usize = 4;

/// The counters of one namespace. An absent one reads 0, and is not listed.
type Counts = BTreeMap<String, i128>;

/// How a schedule's store ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Closed while the callers go on.
    Closed,
    /// By the last handle that is dropped.
    Dropped,
    PowerCut,
    /// By a sync of the log that fails, while the disk goes on.
    FailedSync,
    /// Its committer's thread panics.
    CommitterDied,
}

impl End {
    /// Whether the store ends in order, so that nothing that was taken may be missing.
    fn is_orderly(self) -> bool {
        matches!(self, Self::Closed | Self::Dropped)
    }
}

/// A clock on which each look takes a millisecond, so that group windows end; the schedule says when. At its last look
/// the committer's thread dies.
#[derive(Debug)]
struct TickingClock {
    now_ms: AtomicU64,
    dies_at_ms: AtomicU64,
}

impl TickingClock {
    fn look(&self) -> u64 {
        let now = self.now_ms.fetch_add(1, Ordering::Relaxed);
        if now >= self.dies_at_ms.load(Ordering::Relaxed) && thread::current().name() == Some("plaudit-committer") {
            // As a panic, but without a message for each of thousands of schedules.
            std::panic::resume_unwind(Box::new("the clock stopped"));
        }
        now
    }
}

impl Clock for TickingClock {
    fn wall_ms(&self) -> u64 {
        self.look()
    }

    fn monotonic(&self) -> Duration {
        Duration::from_millis(self.look())
    }
}

/// What one thread did.
#[derive(Debug, Default)]
struct Journal {
    /// Of each epoch in which something was changed, each counter's change.
    epochs: BTreeMap<u64, Counts>,
    /// Changes that were answered with an error after they may have been made. Each is whole or absent.
    unknown: Vec<Counts>,
    /// The last epoch that was acknowledged.
    acknowledged: u64,
    failures: Vec<Error>,
    /// Whether the namespace that comes and goes may exist, or may not.
    other: Vec<bool>,
}

impl Journal {
    fn merge(&mut self, other: Self) {
        for (epoch, counts) in other.epochs {
            add_counts(self.epochs.entry(epoch).or_default(), &counts);
        }
        self.unknown.extend(other.unknown);
        self.acknowledged = self.acknowledged.max(other.acknowledged);
        self.failures.extend(other.failures);
        self.other.extend(other.other);
    }

    fn note(&mut self, epoch: u64, key: &str, change: i128) {
        add_counts(self.epochs.entry(epoch).or_default(), &Counts::from([(key.to_owned(), change)]));
    }

    /// Keeps a failure. After that of a full disk the store goes on.
    fn goes_on(&mut self, done: Result<()>) -> bool {
        let Err(error) = done else { return true };
        self.failures.push(error);
        self.failures.last().is_some_and(Error::is_storage_full)
    }

    /// The counts at the end of an epoch, but for the unknown changes.
    fn through(&self, epoch: u64) -> Counts {
        let mut counts = Counts::new();
        self.epochs.range(..=epoch).for_each(|(_, changes)| add_counts(&mut counts, changes));
        counts
    }

    /// Whether the epochs up to this one, and some of the unknown changes, make these counts.
    fn explains(&self, epoch: u64, found: &Counts) -> bool {
        let through = self.through(epoch);
        (0..1_u32 << self.unknown.len()).any(|chosen| {
            let mut counts = through.clone();
            let unknown = self.unknown.iter().zip(0..).filter(|(_, at)| chosen & 1 << at != 0);
            unknown.for_each(|(changes, _)| add_counts(&mut counts, changes));
            counts == *found
        })
    }
}

/// Adds up; what becomes 0 is not listed any more.
fn add_counts(counts: &mut Counts, changes: &Counts) {
    for (key, change) in changes {
        *counts.entry(key.clone()).or_default() += change;
    }
    counts.retain(|_, count| *count != 0);
}

/// What is printed at the end.
#[derive(Debug, Default)]
struct Figures {
    schedules: AtomicU64,
    /// In how many a change was acknowledged.
    acknowledged: AtomicU64,
    epochs: AtomicU64,
    lost_epochs: AtomicU64,
    deliveries: AtomicU64,
    generations: AtomicU64,
    rotated: AtomicU64,
    full_disks: AtomicU64,
    ends: [AtomicU64; 5],
}

#[test]
fn all_promises_hold_under_random_schedules() {
    explore("random", |seed, schedules| RandomScheduler::new_from_seed(seed, schedules));
}

#[test]
fn all_promises_hold_under_schedules_with_few_preemptions() {
    explore("few_preemptions", |seed, schedules| PctScheduler::new_from_seed(!seed, PCT_DEPTH, schedules));
}

fn explore<S: Scheduler + 'static>(name: &'static str, scheduler: impl FnOnce(u64, usize) -> S) {
    let mut config = Config::new();
    // A store on a simulated disk needs more than the 60 KiB that a thread gets by default.
    config.stack_size = 1 << 20;
    // Far more than any needs: a store that spins has failed.
    config.max_steps = MaxSteps::FailAfter(100_000);
    let figures = Arc::new(Figures::default());
    let _command = Command { name, figures: Arc::clone(&figures) };
    if let Ok(schedule) = std::env::var("PLAUDIT_SCHEDULE") {
        let mut scheduler = ReplayScheduler::new_from_encoded(schedule.trim());
        // What failed unwinds beyond its schedule.
        scheduler.set_allow_incomplete();
        Runner::new(scheduler, config).run(|| run(&Figures::default()));
        return;
    }
    let (seed, schedules) = (setting("PLAUDIT_SEED", 1), setting("PLAUDIT_SCHEDULES", 10_000));
    let counted = Arc::clone(&figures);
    let started = std::time::Instant::now();
    let ran = Runner::new(scheduler(seed, schedules), config).run(move || run(&counted));
    println!("{name}: {ran} schedules from seed {seed} in {:.0?}: {figures:?}", started.elapsed());
    assert_eq!(ran, schedules);
}

fn setting<T: FromStr + Display>(name: &str, default: T) -> T {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Prints how to replay a failure.
struct Command {
    name: &'static str,
    figures: Arc<Figures>,
}

impl Drop for Command {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let number = self.figures.schedules.load(Ordering::Relaxed);
            let command = "cargo test --release --target-dir target/shuttle --test schedules";
            eprintln!("failed in schedule {number} of {}", self.name);
            eprintln!(
                "replay: PLAUDIT_SCHEDULE=<the schedule above> RUSTFLAGS=\"--cfg shuttle\" {command} {}",
                self.name
            );
        }
    }
}

/// One schedule. Everything that is drawn is drawn from the schedule's own generator, so that replaying it draws the
/// same.
fn run(figures: &Figures) {
    figures.schedules.fetch_add(1, Ordering::Relaxed);
    let seed = shuttle::rand::thread_rng().next_u64();
    let random = &mut Random(seed);
    let end = [End::Closed, End::Dropped, End::PowerCut, End::FailedSync, End::CommitterDied][random.below(5) as usize];
    let survival = [Survival::Nothing, Survival::Everything, Survival::Prefix, Survival::Random];
    let survival = survival[random.below(4) as usize];
    let durability = [Durability::Group, Durability::Manual, Durability::Immediate][random.below(3) as usize];
    let (disk, clock) = (SimDisk::new(), Arc::new(clock()));
    let environment = Environment {
        storage: Arc::new(disk.clone()),
        clock: Arc::clone(&clock) as _,
        driver: Driver::Threads,
        seed: Some(1),
    };
    let options = Options { durability, shards: 2, compaction_threshold_bytes: 4_096, ..options() };
    let store = Store::open_in(environment, ROOT, options).unwrap();
    store.counters("likes").unwrap();
    match end {
        End::PowerCut => disk.cut_power_at(disk.operations() + random.below(60), survival, seed),
        End::FailedSync => {
            let fault = support::fault(Operation::Sync, ".log", std::io::ErrorKind::Other);
            disk.fail(Fault { skip: random.below(8), times: Some(1), ..fault });
        }
        End::CommitterDied => {
            let dies_at = clock.now_ms.load(Ordering::Relaxed) + random.below(20);
            clock.dies_at_ms.store(dies_at, Ordering::Relaxed);
        }
        End::Closed | End::Dropped => {}
    }
    let full = random.below(4) == 0;
    if full {
        let used: usize = disk.files().iter().map(|path| disk.read_file(path).unwrap().len()).sum();
        disk.set_capacity(Some(used as u64 + random.below(10_000)));
    }
    let (journal, deliveries, closed) = live(store, &disk, durability, end, seed);
    for error in &journal.failures {
        let expected = match end {
            _ if error.is_storage_full() => full,
            End::Closed => matches!(error, Error::Closed),
            End::Dropped => false,
            End::PowerCut | End::FailedSync => matches!(error, Error::Poisoned { .. } | Error::Io { .. }),
            End::CommitterDied => matches!(error, Error::Poisoned { .. }),
        };
        assert!(expected, "{end:?}: {error:?}");
    }
    if let (true, Err(error)) = (end.is_orderly(), &closed) {
        // Without room to seal the log, nothing but the seal is missing.
        assert!(full && matches!(error, Error::Io { .. }), "{end:?}: {error:?}\n{journal:#?}");
    }
    let after = World::on(disk.power_cut(survival, seed));
    let sealed = end.is_orderly() && closed.is_ok();
    let epoch = check(&after, &journal, &deliveries, end, sealed);
    figures.count(&after, &journal, &deliveries, end, epoch);
}

fn clock() -> TickingClock {
    TickingClock { now_ms: AtomicU64::new(0), dies_at_ms: AtomicU64::new(u64::MAX) }
}

/// The store's life among its callers: what they did, what a subscriber was told, and whether the close, if there was
/// one, succeeded.
fn live(
    store: Store,
    disk: &SimDisk,
    durability: Durability,
    end: End,
    seed: u64,
) -> (Journal, Vec<Delivery>, Result<()>) {
    let subscription = store.subscribe(1_000);
    let subscriber = thread::spawn(move || subscription.collect::<Vec<_>>());
    let workers: Vec<_> = (0..WORKERS)
        .map(|worker| {
            let store = store.clone();
            let random = Random(seed.wrapping_add(worker + 1));
            thread::spawn(move || work(&store, worker, durability, random))
        })
        .collect();
    let caretaker = {
        let (store, disk, random) = (store.clone(), disk.clone(), Random(seed.wrapping_sub(1)));
        thread::spawn(move || take_care(&store, &disk, random))
    };
    let closed = match end {
        End::Closed => {
            // On a full disk it stays open.
            store.clone().close().or_else(|error| {
                disk.set_capacity(None);
                if error.is_storage_full() { store.close() } else { Err(error) }
            })
        }
        _ => {
            drop(store);
            Ok(())
        }
    };
    let mut journal = Journal::default();
    workers.into_iter().for_each(|worker| journal.merge(worker.join().unwrap()));
    journal.merge(caretaker.join().unwrap());
    (journal, subscriber.join().unwrap(), closed)
}

/// Changes counters until the store refuses, or for a few rounds.
fn work(store: &Store, worker: u64, durability: Durability, mut random: Random) -> Journal {
    let mut journal = Journal::default();
    // Some keys are so long that a few of them fill a segment.
    let own = if worker == 0 { format!("{worker:->700}") } else { format!("own-{worker}") };
    let rounds = 1 + random.below(3);
    let likes = match store.existing_counters("likes") {
        Ok(likes) => likes,
        Err(error) => return Journal { failures: vec![error], ..journal },
    };
    for _ in 0..rounds {
        let done = change(store, &likes, &own, durability, &mut random, &mut journal);
        if !journal.goes_on(done) {
            break;
        }
    }
    journal
}

fn change(
    store: &Store,
    likes: &Counters,
    own: &str,
    durability: Durability,
    random: &mut Random,
    journal: &mut Journal,
) -> Result<()> {
    let immediate = durability == Durability::Immediate;
    let choice = random.below(6);
    if choice < 2 {
        return batch(store, likes, own, immediate, random, journal);
    }
    let key = if random.below(2) == 0 { "shared" } else { own };
    let changed = match choice {
        2 if !immediate => likes.set(key, random.below(5) as i64),
        3 if !immediate => likes.remove(key),
        _ => likes.add(key, 1),
    };
    // What was refused was not done, but for a change whose wait is part of the call.
    let receipt = changed.inspect_err(|_| {
        if immediate {
            journal.unknown.push(Counts::from([(key.to_owned(), 1)]));
        }
    })?;
    let epoch = receipt.epoch();
    if receipt.changed() {
        journal.note(epoch, key, receipt.delta());
    }
    match random.below(5) {
        0 => receipt.wait()?,
        1 => receipt.detach().wait()?,
        2 => future::block_on(receipt)?,
        3 => {
            store.sync()?;
            journal.acknowledged = journal.epochs.keys().copied().max().unwrap_or(0);
        }
        _ if immediate => {}
        _ => return Ok(()),
    }
    journal.acknowledged = journal.acknowledged.max(epoch);
    Ok(())
}

/// A batch over both shards.
fn batch(
    store: &Store,
    likes: &Counters,
    own: &str,
    immediate: bool,
    random: &mut Random,
    journal: &mut Journal,
) -> Result<()> {
    let changes = [("shared", 1), (own, 2), ("sum", -3), ("total", 4)];
    let mut batch = store.batch();
    for (key, delta) in changes {
        batch.add(likes, key, delta);
    }
    let receipt = batch.commit().inspect_err(|_| {
        if immediate {
            journal.unknown.push(changes.iter().map(|(key, delta)| ((*key).to_owned(), i128::from(*delta))).collect());
        }
    })?;
    let epoch = receipt.epoch();
    changes.iter().for_each(|(key, delta)| journal.note(epoch, key, i128::from(*delta)));
    match random.below(3) {
        0 => receipt.wait()?,
        1 => future::block_on(receipt)?,
        _ if immediate => {}
        _ => return Ok(()),
    }
    journal.acknowledged = journal.acknowledged.max(epoch);
    Ok(())
}

/// Compacts, syncs, lets a namespace come and go, and in the end makes room on a full disk.
fn take_care(store: &Store, disk: &SimDisk, mut random: Random) -> Journal {
    let mut journal = Journal { other: vec![false], ..Journal::default() };
    for _ in 0..1 + random.below(3) {
        let done = match random.below(4) {
            0 | 1 => store.compact(),
            2 => store.sync(),
            _ => come_and_go(store, random.below(2) == 0, &mut journal),
        };
        if !journal.goes_on(done) {
            break;
        }
    }
    disk.set_capacity(None);
    journal
}

fn come_and_go(store: &Store, stays: bool, journal: &mut Journal) -> Result<()> {
    journal.other.push(true);
    let other = store.counters("other")?;
    journal.other = vec![true];
    other.add("a", 1)?;
    if !stays {
        journal.other.push(false);
        store.drop_namespace("other")?;
        journal.other = vec![false];
    }
    Ok(())
}

/// Opens what the store left, compares it with what was done, and goes on with it. Returns the epoch that it reached.
fn check(world: &World, journal: &Journal, deliveries: &[Delivery], end: End, sealed: bool) -> u64 {
    let store = world.open().unwrap_or_else(|error| panic!("{end:?}: {error:?}\n{journal:#?}"));
    let (epoch, found) = (store.recovery().last_epoch, state(&store));
    let likes = |found: &State| {
        let mut counts = Counts::new();
        let read = found["likes"].iter().map(|(key, value)| (key.clone(), i128::from(*value)));
        add_counts(&mut counts, &read.collect());
        counts
    };
    let context = || format!("{end:?}, epoch {epoch}, found {found:?}\n{journal:#?}");
    assert!(journal.explains(epoch, &likes(&found)), "a change is lost, or there twice: {}", context());
    // An epoch without a change is acknowledged too, and never written.
    let acknowledged = journal.epochs.range(..=journal.acknowledged).next_back();
    assert!(acknowledged.is_none_or(|(last, _)| *last <= epoch), "an acknowledged epoch is lost: {}", context());
    assert!(journal.other.contains(&found.contains_key("other")), "the other namespace: {}", context());
    if end.is_orderly() {
        assert!(journal.epochs.keys().all(|done| *done <= epoch), "a close forgot a change: {}", context());
    }
    assert!(store.recovery().closed_cleanly || epoch == 0 || !sealed, "the log has no seal: {}", context());
    if journal.unknown.is_empty() {
        check_deliveries(journal, deliveries, epoch, end);
    }
    let mut expected = found.clone();
    *expected.entry("likes".to_owned()).or_default().entry("after".to_owned()).or_default() += 1;
    store.counters("likes").unwrap().add("after", 1).unwrap();
    store.close().unwrap();
    assert_eq!(state(&world.open().unwrap()), expected);
    epoch
}

/// Each delivered epoch is durable, is delivered once, and has what was done in it.
fn check_deliveries(journal: &Journal, deliveries: &[Delivery], durable: u64, end: End) {
    let (mut counts, mut last) = (Counts::new(), 0);
    for delivery in deliveries {
        let Delivery::Epoch(sealed) = delivery else { panic!("the queue has room for all: {delivery:?}") };
        assert!(sealed.epoch > last && sealed.epoch <= durable, "{sealed:?} after {last}, of {durable}\n{journal:#?}");
        for change in sealed.changes.iter().filter(|change| &*change.namespace == "likes") {
            let key = change.key.escape_ascii().to_string();
            add_counts(&mut counts, &Counts::from([(key.clone(), change.delta)]));
            let value = counts.get(&key).copied().unwrap_or(0);
            assert_eq!(change.value.map_or(0, i128::from), value, "{key} in {sealed:?}\n{journal:#?}");
        }
        last = sealed.epoch;
        assert_eq!(counts, journal.through(last), "through epoch {last}\n{journal:#?}");
    }
    if end.is_orderly() {
        assert_eq!(counts, journal.through(u64::MAX), "{deliveries:#?}\n{journal:#?}");
    }
}

impl Figures {
    fn count(&self, after: &World, journal: &Journal, deliveries: &[Delivery], end: End, epoch: u64) {
        let add = |figure: &AtomicU64, count: usize| figure.fetch_add(count as u64, Ordering::Relaxed);
        add(&self.ends[end as usize], 1);
        add(&self.acknowledged, usize::from(journal.acknowledged > 0));
        add(&self.epochs, journal.epochs.len());
        add(&self.lost_epochs, journal.epochs.range(epoch + 1..).count());
        add(&self.deliveries, deliveries.len());
        add(&self.generations, after.snapshots().len());
        add(&self.full_disks, usize::from(journal.failures.iter().any(Error::is_storage_full)));
        add(&self.rotated, usize::from(after.segments().len() > 2));
    }
}
