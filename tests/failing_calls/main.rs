//! Every call on the disk fails in its turn, once or from then on, with each kind of error, not done or done all the
//! same: whoever waits gets an answer, `Ok` only for what is durable; the store goes on or says why not; and on a
//! healthy disk every acknowledged change is there exactly once, the others at most once, and batches whole.
//!
//! The same life (open, changes, commits, new segments, compactions, namespaces made and dropped, close) runs on a new
//! disk, on a closed store, on a crashed one with a torn frame, and on one whose newest snapshot is damaged, so that
//! calls of creation, of recovery and of the fallback fail too. Reading calls are among them. A failed write leaves the
//! first half of its bytes, which makes [`ErrorKind::WriteZero`] the short write; a failed sync drops what it was to
//! write. A call that fails although it was done (a rename that is answered with EIO and happened) changes all that it
//! was to. Threads of the store's own get a sample of the same, with threads that wait and a limit to how long.
//!
//! `tests/failed_sync.rs` and `tests/full_disk.rs` say what each failure must lead to; here is that none is left out.
//! A failure of the test prints the command that repeats it alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

mod likes;
mod threads;

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::ops::RangeBounds;

use plaudit::storage::sim::{Operation, SimDisk, Survival};
use plaudit::{Error, Receipt, Result, Store};
use support::{LONG, Random, State, World, fault, state};

/// How a call fails.
#[derive(Clone, Copy)]
struct Failure {
    kind: ErrorKind,
    /// Whether it is done all the same.
    done: bool,
}

/// EIO, ENOSPC, a short write, EINTR; and EIO and ENOSPC of calls that were done.
const FAILURES: [Failure; 6] = [
    Failure { kind: ErrorKind::Other, done: false },
    Failure { kind: ErrorKind::StorageFull, done: false },
    Failure { kind: ErrorKind::WriteZero, done: false },
    Failure { kind: ErrorKind::Interrupted, done: false },
    Failure { kind: ErrorKind::Other, done: true },
    Failure { kind: ErrorKind::StorageFull, done: true },
];

impl Failure {
    fn strike(self, disk: &SimDisk, calls: impl RangeBounds<u64>) {
        if self.done { disk.fail_done_calls(calls, self.kind) } else { disk.fail_calls(calls, self.kind) }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}{}", self.kind, if self.done { "-done" } else { "" })
    }
}

/// What the disk may hold, and who waits.
#[derive(Default)]
struct Oracle {
    now: State,
    /// How many changes there were.
    changes: u64,
    /// States that may be on the disk, each with the number of changes in it.
    possible: Vec<(u64, State)>,
    /// Receipts that were not durable when last asked, each with the number of its change.
    pending: Vec<(u64, Receipt<'static>)>,
    waits: u64,
    /// Newer than any like or unlike so far.
    newest_ms: u64,
}

impl Oracle {
    fn of(found: State) -> Self {
        Self { newest_ms: likes::after(&found), possible: vec![(0, found.clone())], now: found, ..Self::default() }
    }

    fn namespace(&mut self, name: &str) -> &mut BTreeMap<String, i64> {
        self.now.entry(name.to_owned()).or_default()
    }

    fn changed(&mut self, receipt: Receipt<'_>) {
        self.changes += 1;
        self.pending.push((self.changes, receipt.detach()));
    }

    /// The state may be on the disk from here on.
    fn sealed(&mut self) {
        self.possible.push((self.changes, self.now.clone()));
    }

    /// This change, and so all before it, were acknowledged.
    fn acknowledged(&mut self, change: u64) {
        self.possible.retain(|(changes, _)| *changes >= change);
        assert!(!self.possible.is_empty(), "change {change} was acknowledged before it was sealed");
    }

    /// Asks every receipt. Each must have an answer, and the right one.
    fn ask(&mut self) {
        let mut durable = 0;
        let asked = self.pending.len() as u64;
        self.pending.retain(|(change, receipt)| match (receipt.is_durable(), receipt.wait()) {
            (true, Ok(())) => {
                durable = durable.max(*change);
                false
            }
            (false, Err(Error::NotDriven { .. } | Error::StorageFull { .. } | Error::Poisoned { .. })) => true,
            (false, Err(Error::Closed)) => true,
            (is_durable, answer) => panic!("durable: {is_durable}, and waiting for it answers {answer:?}"),
        });
        self.waits += asked;
        self.acknowledged(durable);
    }

    /// A call that takes its place on the disk at once, beside the epochs.
    fn at_once(&mut self, change: impl Fn(&mut State), call: impl FnOnce() -> Result<()>) -> Result<()> {
        let mut after = self.possible.clone();
        after.iter_mut().for_each(|(_, state)| change(state));
        let done = call();
        match &done {
            Ok(()) => {
                self.possible = after;
                change(&mut self.now);
            }
            // Nothing is different.
            Err(Error::StorageFull { .. }) => {}
            Err(_) => {
                after.retain(|state| !self.possible.contains(state));
                self.possible.extend(after);
            }
        }
        done
    }

    fn allows(&self, found: &State) -> bool {
        self.possible.iter().any(|(_, state)| state == found)
    }
}

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// `open` answered the failure.
    NotOpened,
    /// The store stopped, and each call says why.
    Stopped,
    /// All went on.
    Healthy,
}

/// Opens the store and changes it, whatever fails. The changes are the same each time.
fn live(world: &World, oracle: &mut Oracle) -> (End, Option<Store>) {
    let store = match world.open() {
        Ok(store) => store,
        Err(error) => {
            check_refusal(&error);
            // The same failure, or a later part of it, may meet the next try.
            match world.open() {
                Ok(store) => store,
                Err(error) => {
                    check_refusal(&error);
                    return (End::NotOpened, None);
                }
            }
        }
    };
    let found = state(&store);
    assert!(oracle.allows(&found), "opened with other counts: {found:#?}");
    let mut random = Random(7);
    for step in 0..40 {
        let done = change(world, &store, oracle, &mut random, step);
        oracle.ask();
        match done {
            Ok(()) => {}
            // The store tries again by itself, after a while.
            Err(Error::StorageFull { .. }) => world.clock.advance(LONG),
            Err(error) => match store.existing_counters("likes") {
                Err(Error::Poisoned { .. }) => {
                    check_stopped(&store, oracle);
                    return (End::Stopped, Some(store));
                }
                Ok(_) | Err(Error::NoSuchNamespace { .. }) => check_refusal(&error),
                Err(other) => panic!("step {step}: {other:?}"),
            },
        }
    }
    (End::Healthy, Some(store))
}

fn check_refusal(error: &Error) {
    assert!(matches!(error, Error::Io { .. } | Error::StorageFull { .. }), "not what happened: {error:?}");
}

/// Every call answers why the store stopped.
fn check_stopped(store: &Store, oracle: &mut Oracle) {
    let answers = [store.sync(), store.compact(), store.batch().commit().map(drop), store.clone().close()];
    assert!(answers.iter().all(|answer| matches!(answer, Err(Error::Poisoned { .. }))), "{answers:?}");
    oracle.ask();
    let poisoned = |receipt: &Receipt<'_>| matches!(receipt.wait(), Err(Error::Poisoned { .. }));
    assert!(oracle.pending.iter().all(|(_, receipt)| poisoned(receipt)));
}

fn change(world: &World, store: &Store, oracle: &mut Oracle, random: &mut Random, step: u64) -> Result<()> {
    let name = if random.below(4) == 0 { "beside" } else { "likes" };
    match step {
        0 | 1 | 30 => return create(store, oracle, ["likes", "beside"][step as usize % 2]),
        2 | 21 => return likes::create(store, oracle),
        20 => return drop_namespace(store, oracle, likes::NAME),
        25 => return drop_namespace(store, oracle, "beside"),
        12 | 22 | 36 => {
            oracle.sealed();
            store.compact()?;
            oracle.acknowledged(oracle.changes);
            return Ok(());
        }
        _ => {}
    }
    if !oracle.now.contains_key(name) {
        return create(store, oracle, name);
    }
    if random.below(3) == 0 {
        return likes::change(store, oracle, random, name);
    }
    let counters = store.existing_counters(name)?;
    let (key, delta) = (format!("{:->300}", random.below(12)), random.below(9) as i64 - 4);
    match random.below(8) {
        0 | 1 => {
            let mut batch = store.batch();
            batch.add(&counters, &key, delta).add(&counters, "all", delta).remove(&counters, "gone");
            batch.commit()?;
            let model = oracle.namespace(name);
            *model.entry(key).or_default() += delta;
            *model.entry("all".to_owned()).or_default() += delta;
            model.remove("gone");
            oracle.changes += 1;
        }
        2 => {
            oracle.sealed();
            support::seal(world, store);
        }
        3 | 4 => {
            oracle.sealed();
            store.sync()?;
            oracle.acknowledged(oracle.changes);
        }
        5 => {
            oracle.changed(counters.set("gone", delta)?);
            oracle.namespace(name).insert("gone".to_owned(), delta);
        }
        _ => {
            oracle.changed(counters.add(&key, delta)?);
            *oracle.namespace(name).entry(key).or_default() += delta;
        }
    }
    Ok(())
}

fn create(store: &Store, oracle: &mut Oracle, name: &str) -> Result<()> {
    let insert = |state: &mut State| {
        state.entry(name.to_owned()).or_default();
    };
    oracle.at_once(insert, || store.counters(name).map(drop))
}

fn drop_namespace(store: &Store, oracle: &mut Oracle, name: &str) -> Result<()> {
    if !oracle.now.contains_key(name) {
        return Ok(());
    }
    let remove = |state: &mut State| {
        state.remove(name);
    };
    oracle.at_once(remove, || store.drop_namespace(name))
}

/// A disk to begin with, and the counts on it.
struct Scenario {
    name: &'static str,
    disk: SimDisk,
    found: State,
    /// How many calls there are when none fails.
    calls: u64,
}

impl Scenario {
    fn new(name: &'static str, disk: SimDisk, found: State) -> Self {
        let world = World::on(disk.power_cut(Survival::Everything, 0));
        let (end, store) = live(&world, &mut Oracle::of(found.clone()));
        assert_eq!(end, End::Healthy);
        store.unwrap().close().unwrap();
        Self { name, disk, found, calls: world.disk.calls() }
    }
}

/// A store that has lived and was closed, or crashed within its last frame.
fn lived(close: bool) -> (World, State) {
    let world = World::new();
    let mut oracle = Oracle::of(State::new());
    let store = live(&world, &mut oracle).1.unwrap();
    store.sync().unwrap();
    if close {
        store.close().unwrap();
    } else {
        world.disk.fail(fault(Operation::Write, "/log/", ErrorKind::Other));
        store.counters("likes").unwrap().add("torn", 1).unwrap();
        store.sync().unwrap_err();
        std::mem::forget(store);
    }
    (World::on(world.disk.power_cut(Survival::Everything, 0)), oracle.now)
}

/// One life in which a call fails, and what is found after it.
fn fail_and_recover(scenario: &Scenario, call: u64, failure: Failure, on: bool) -> (End, u64) {
    let world = World::on(scenario.disk.power_cut(Survival::Everything, 0));
    let mut oracle = Oracle::of(scenario.found.clone());
    if on {
        failure.strike(&world.disk, call..);
    } else {
        failure.strike(&world.disk, call..=call);
    }
    let (mut end, store) = live(&world, &mut oracle);
    let mut closed = false;
    if let (End::Healthy, Some(store)) = (end, &store) {
        oracle.sealed();
        closed = store.clone().close().is_ok();
        if closed {
            oracle.acknowledged(oracle.changes);
        }
        oracle.ask();
    }
    let cut = World::on(world.disk.power_cut(Survival::Nothing, call));
    check_found(&cut, &oracle);

    world.disk.clear_faults();
    world.clock.advance(LONG);
    if let (End::Healthy, false, Some(store)) = (end, closed, &store) {
        match store.sync() {
            Ok(()) => oracle.acknowledged(oracle.changes),
            Err(Error::Poisoned { .. } | Error::Closed) => end = End::Stopped,
            Err(error) => panic!("neither healthy nor stopped: {error:?}"),
        }
        oracle.ask();
    }
    drop(store);
    check_found(&world, &oracle);
    (end, oracle.waits)
}

/// Opens on a healthy disk: right counts, which a power cut no longer takes away, and which can be built on.
fn check_found(world: &World, oracle: &Oracle) {
    let store = world.open().unwrap();
    let mut found = state(&store);
    assert!(oracle.allows(&found), "found {found:#?}\nof {:#?}", oracle.possible);
    let cut = World::on(world.disk.power_cut(Survival::Nothing, 0));
    assert_eq!(state(&cut.open().unwrap()), found, "what was shown is durable");
    store.counters("after").unwrap().add("key", 1).unwrap();
    store.close().unwrap();
    found.entry("after".to_owned()).or_default().insert("key".to_owned(), 1);
    assert_eq!(state(&world.open().unwrap()), found, "built on");
}

/// Lets every call of a life fail, in every way.
fn any_call_may_fail(scenario: &Scenario) {
    let only = std::env::var("PLAUDIT_CALL").ok();
    let mut ends = BTreeMap::<_, u64>::new();
    let (mut lives, mut waits) = (0, 0);
    for (failure, on) in FAILURES.into_iter().flat_map(|failure| [(failure, false), (failure, true)]) {
        for call in 0.. {
            let id = format!("{}:{failure:?}:{on}:{call}", scenario.name);
            let _command = OnPanic(format!("PLAUDIT_CALL={id} cargo test --test failing_calls {}", scenario.name));
            if only.as_ref().is_none_or(|only| *only == id) {
                let (end, asked) = fail_and_recover(scenario, call, failure, on);
                lives += 1;
                waits += asked;
                *ends.entry(end).or_default() += 1;
            }
            if call == scenario.calls {
                break;
            }
        }
    }
    println!("{}: {lives} lives with a failing call: {ends:?}; who waited asked {waits} times", scenario.name);
    assert!(only.is_some() || (lives > 1_000 && ends.len() == 3), "{lives} {ends:?}");
}

#[test]
fn any_call_may_fail_in_a_new_store() {
    any_call_may_fail(&Scenario::new("new", SimDisk::new(), State::new()));
}

#[test]
fn any_call_may_fail_in_a_store_that_was_closed() {
    let (world, found) = lived(true);
    any_call_may_fail(&Scenario::new("closed", world.disk, found));
}

#[test]
fn any_call_may_fail_in_a_store_that_crashed() {
    let (world, found) = lived(false);
    any_call_may_fail(&Scenario::new("crashed", world.disk, found));
}

#[test]
fn any_call_may_fail_in_the_fallback_to_an_older_snapshot() {
    let (world, found) = lived(true);
    world.disk.flip_bit(world.snapshots().last().unwrap(), 99, 1).unwrap();
    any_call_may_fail(&Scenario::new("fallback", world.disk, found));
}

/// Says which command repeats what panicked.
struct OnPanic(String);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}
