//! Under any schedule of the store's threads and its callers', each epoch is there exactly once or not at all, what was
//! acknowledged is there, everyone who waits is answered, subscribers are told what happened, and every count of likes
//! is that of the likes.
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

mod check;
mod journal;
mod likes;
#[path = "../support/mod.rs"]
mod support;
mod work;

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plaudit::storage::sim::{Fault, Operation, SimDisk, Survival};
use plaudit::{Clock, Delivery, Driver, Durability, Environment, Error, Options, Result, Store};
use shuttle::rand::RngCore;
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config, MaxSteps, Runner, thread};

use check::check;
use journal::Journal;
use support::{ROOT, Random, World, options};
use work::{take_care, work};

/// Threads that change counters and likes.
const WORKERS: u64 = 3;

/// How many priority changes PCT spreads over a schedule, less one: it finds faults that need so many orderings.
const PCT_DEPTH: usize = 4;

/// How a schedule's store ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
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
    /// Likes in the stores that were found.
    likes: AtomicU64,
    /// Likes that ended with their viewer or their item.
    taken_back: AtomicU64,
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
    store.counters("totals").unwrap();
    store.counters("live").unwrap();
    store.likes("videos").unwrap();
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
        let count_of = |(name, count): (&String, &i128)| name.starts_with("count of ").then_some(*count as usize);
        add(&self.likes, journal.through(epoch).iter().filter_map(count_of).sum());
        add(&self.taken_back, journal.taken_back as usize);
        add(&self.rotated, usize::from(after.segments().len() > 2));
    }
}
