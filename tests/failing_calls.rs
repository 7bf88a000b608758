//! Every call on the disk fails in its turn, once or from then on, with each kind of error: whoever waits gets an
//! answer, `Ok` only for what is durable; the store goes on or says why not; and on a healthy disk every acknowledged
//! change is there exactly once, the others at most once, and batches whole.
//!
//! The same life (open, changes, commits, new segments, compactions, namespaces made and dropped, close) runs on a new
//! disk, on a closed store, on a crashed one with a torn frame, and on one whose newest snapshot is damaged, so that
//! calls of creation, of recovery and of the fallback fail too. Reading calls are among them. A failed write leaves the
//! first half of its bytes, which makes [`ErrorKind::WriteZero`] the short write; a failed sync drops what it was to
//! write. Threads of the store's own get a sample of the same, with threads that wait and a limit to how long.
//!
//! `tests/failed_sync.rs` and `tests/full_disk.rs` say what each failure must lead to; here is that none is left out.
//! A failure of the test prints the command that repeats it alone.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::future::Future;
use std::io::ErrorKind;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use plaudit::storage::sim::{Operation, SimDisk, Survival};
use plaudit::{Error, Options, Receipt, Result, Store};
use support::{LONG, Random, State, World, fault, options, state};

/// EIO, ENOSPC, a short write, EINTR.
const KINDS: [ErrorKind; 4] = [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::WriteZero, ErrorKind::Interrupted];

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
}

impl Oracle {
    fn of(found: State) -> Self {
        Self { possible: vec![(0, found.clone())], now: found, ..Self::default() }
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
fn fail_and_recover(scenario: &Scenario, call: u64, kind: ErrorKind, on: bool) -> (End, u64) {
    let world = World::on(scenario.disk.power_cut(Survival::Everything, 0));
    let mut oracle = Oracle::of(scenario.found.clone());
    if on {
        world.disk.fail_calls(call.., kind);
    } else {
        world.disk.fail_calls(call..=call, kind);
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
    for (kind, on) in KINDS.into_iter().flat_map(|kind| [(kind, false), (kind, true)]) {
        for call in 0.. {
            let id = format!("{}:{kind:?}:{on}:{call}", scenario.name);
            let _command = OnPanic(format!("PLAUDIT_CALL={id} cargo test --test failing_calls {}", scenario.name));
            if only.as_ref().is_none_or(|only| *only == id) {
                let (end, asked) = fail_and_recover(scenario, call, kind, on);
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

/// What a thread knows of its counter: how often it added 1, and how many of these were acknowledged.
type Known = (String, i64, i64);

/// Adds and waits, until the store has stopped.
fn add_and_wait(store: &Store, key: String, how: impl Fn(Receipt<'_>) -> Result<()>) -> Known {
    let (mut added, mut acknowledged) = (0, 0);
    let Ok(likes) = store.existing_counters("likes") else { return (key, 0, 0) };
    for _ in 0..25 {
        match likes.add(&key, 1) {
            Ok(receipt) => {
                added += 1;
                match how(receipt) {
                    Ok(()) => acknowledged = added,
                    Err(Error::StorageFull { .. }) => {}
                    Err(error) => assert!(matches!(error, Error::Poisoned { .. }), "{error:?}"),
                }
            }
            Err(Error::Poisoned { .. }) => break,
            Err(error) => panic!("{error:?}"),
        }
    }
    (key, added, acknowledged)
}

/// Awaits without a runtime.
fn block_on(receipt: Receipt<'_>) -> Result<()> {
    struct Unpark(std::thread::Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut receipt = std::pin::pin!(receipt);
    loop {
        match receipt.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(answer) => return answer,
            Poll::Pending => std::thread::park(),
        }
    }
}

/// Far longer than anything takes: whoever has no answer by then never gets one.
const FOR_EVER: Duration = Duration::from_secs(60);

/// Runs each on a thread of its own, and answers what they answered.
fn on_threads<T: Send + 'static>(bodies: Vec<Box<dyn FnOnce() -> T + Send>>) -> Vec<T> {
    let (answer, answers) = mpsc::channel();
    let count = bodies.len();
    for body in bodies {
        let answer = answer.clone();
        std::thread::spawn(move || answer.send(body()));
    }
    (0..count).map(|_| answers.recv_timeout(FOR_EVER).expect("a thread waits for ever, or has panicked")).collect()
}

#[test]
fn threads_that_wait_are_answered_whatever_fails() {
    let (mut reached, mut stopped, mut all) = (0, 0, 0);
    for seed in 0..120 {
        let _seed = OnPanic(format!("seed {seed}: cargo test --test failing_calls threads_that_wait"));
        let mut random = Random(seed);
        let (world, call) = (World::new(), random.below(150));
        let kind = KINDS[random.below(4) as usize];
        if random.below(2) == 0 {
            world.disk.fail_calls(call.., kind);
        } else {
            world.disk.fail_calls(call..=call, kind);
        }
        let window = Duration::from_millis(random.below(2));
        let options = Options { group_window: window, compaction_threshold_bytes: 4_096, ..options() };
        let store = match world.open_threaded(options) {
            Ok(store) => store,
            Err(error) => {
                check_refusal(&error);
                continue;
            }
        };
        let _ = store.counters("likes");
        let mut bodies: Vec<Box<dyn FnOnce() -> Vec<Known> + Send>> = Vec::new();
        for thread in 0..4 {
            let (store, key) = (store.clone(), format!("{thread:->200}"));
            bodies.push(Box::new(move || {
                let wait = |receipt: Receipt<'_>| receipt.wait();
                vec![if thread % 2 == 0 {
                    add_and_wait(&store, key, wait)
                } else {
                    add_and_wait(&store, key, block_on)
                }]
            }));
        }
        let compacting = store.clone();
        bodies.push(Box::new(move || {
            (0..3).for_each(|_| drop(compacting.compact()));
            Vec::new()
        }));
        let known: Vec<Known> = on_threads(bodies).into_iter().flatten().collect();
        reached += u64::from(world.disk.calls() > call);
        stopped += u64::from(matches!(store.sync(), Err(Error::Poisoned { .. })));
        let cut = World::on(world.disk.power_cut(Survival::Nothing, seed));
        on_threads(vec![Box::new(move || drop(store.close()))]);
        world.disk.clear_faults();
        for world in [cut, World::on(world.disk.power_cut(Survival::Nothing, seed))] {
            let found = state(&world.open().unwrap());
            for (key, added, acknowledged) in &known {
                let found = found.get("likes").and_then(|likes| likes.get(key)).copied().unwrap_or(0);
                assert!((*acknowledged..=*added).contains(&found), "{key}: {acknowledged} <= {found} <= {added}");
                all += found;
            }
        }
    }
    println!("{reached} stores with threads met a failing call, {stopped} of them stopped; {all} likes compared");
    assert!(reached > 40 && stopped > 20, "{reached} {stopped}");
}
