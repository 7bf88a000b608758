//! Power cut at any operation, also inside recovery: every acknowledged change is there exactly once, every batch is
//! whole or absent, and what was not acknowledged is there once or not at all.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use plaudit::storage::sim::Survival;
use plaudit::{Result, Stepped, Store};
use support::{Random, State, World, options, state};

/// Each is a workload of its own.
const SEEDS: [u64; 3] = [1, 2, 3];

const SURVIVALS: [Survival; 4] = [Survival::Nothing, Survival::Everything, Survival::Prefix, Survival::Random];

/// What the disk may hold: the state that was acknowledged last, and those of epochs that are on their way to it.
struct Oracle {
    now: State,
    possible: Vec<State>,
}

impl Oracle {
    fn new() -> Self {
        Self { now: State::new(), possible: vec![State::new()] }
    }

    /// The state may be on the disk from here on.
    fn sealed(&mut self) {
        self.possible.push(self.now.clone());
    }

    /// Everything done so far was acknowledged.
    fn acknowledged(&mut self) {
        self.possible = vec![self.now.clone()];
    }

    /// A call that takes its place on the disk at once, beside the epochs.
    fn at_once(&mut self, change: impl Fn(&mut State), call: impl FnOnce() -> Result<()>) -> Result<()> {
        let after: Vec<State> = self
            .possible
            .iter()
            .map(|state| {
                let mut state = state.clone();
                change(&mut state);
                state
            })
            .collect();
        self.possible.extend(after.clone());
        call()?;
        self.possible = after;
        change(&mut self.now);
        Ok(())
    }
}

/// Runs until the power goes, or to the end. The changes depend on the seed alone.
fn run(world: &World, oracle: &mut Oracle, seed: u64) -> Result<()> {
    let mut random = Random(seed);
    for life in 0..3 {
        let store = world.open()?;
        for step in 0..30 {
            match random.below(14) {
                _ if oracle.now.is_empty() => create(&store, oracle, &mut random)?,
                0 => create(&store, oracle, &mut random)?,
                1 if step > 10 => drop_one(&store, oracle, &mut random)?,
                2 => compact(&store, oracle)?,
                3 | 4 => batch(&store, oracle, &mut random)?,
                5 | 6 => sync(&store, oracle)?,
                7 => seal(world, &store, oracle),
                _ => change(&store, oracle, &mut random)?,
            }
        }
        match life {
            0 => {
                oracle.sealed();
                store.close()?;
                oracle.acknowledged();
            }
            // Dropping closes too, and says nothing.
            _ => {
                oracle.sealed();
                drop(store);
            }
        }
    }
    Ok(())
}

fn create(store: &Store, oracle: &mut Oracle, random: &mut Random) -> Result<()> {
    let name = format!("ns-{}", random.below(4));
    if oracle.now.contains_key(&name) {
        return Ok(());
    }
    let created = name.clone();
    let insert = move |state: &mut State| {
        state.insert(created.clone(), Default::default());
    };
    oracle.at_once(insert, || store.counters(&name).map(drop))
}

fn drop_one(store: &Store, oracle: &mut Oracle, random: &mut Random) -> Result<()> {
    let Some(name) = pick(oracle, random) else { return Ok(()) };
    let dropped = name.clone();
    let remove = move |state: &mut State| {
        state.remove(&dropped);
    };
    oracle.at_once(remove, || store.drop_namespace(&name))
}

fn pick(oracle: &Oracle, random: &mut Random) -> Option<String> {
    let at = random.below(oracle.now.len().max(1) as u64) as usize;
    oracle.now.keys().nth(at).cloned()
}

fn key(random: &mut Random) -> String {
    let key = random.below(20);
    // Some are so long that a few of them fill a segment.
    if key < 8 { format!("{key:->900}") } else { format!("key-{key}") }
}

fn change(store: &Store, oracle: &mut Oracle, random: &mut Random) -> Result<()> {
    let Some(name) = pick(oracle, random) else { return Ok(()) };
    let counters = store.existing_counters(&name)?;
    let (key, delta) = (key(random), random.below(9) as i64 - 4);
    let model = oracle.now.get_mut(&name).unwrap();
    match random.below(5) {
        0 => {
            counters.remove(&key)?;
            model.remove(&key);
        }
        1 => {
            counters.set(&key, delta)?;
            model.insert(key, delta);
        }
        _ => {
            let receipt = counters.add(&key, delta)?;
            let value = model.entry(key).or_default();
            *value += delta;
            assert_eq!(receipt.value(), *value);
        }
    }
    Ok(())
}

fn batch(store: &Store, oracle: &mut Oracle, random: &mut Random) -> Result<()> {
    let mut batch = store.batch();
    for _ in 0..random.below(12) {
        let Some(name) = pick(oracle, random) else { break };
        let (key, delta) = (key(random), random.below(9) as i64 - 4);
        batch.add(&store.existing_counters(&name)?, &key, delta);
        *oracle.now.get_mut(&name).unwrap().entry(key).or_default() += delta;
    }
    batch.commit().map(drop)
}

fn seal(world: &World, store: &Store, oracle: &mut Oracle) {
    oracle.sealed();
    if support::seal(world, store) == Stepped::Idle {
        oracle.acknowledged();
    }
}

fn sync(store: &Store, oracle: &mut Oracle) -> Result<()> {
    oracle.sealed();
    store.sync()?;
    oracle.acknowledged();
    Ok(())
}

fn compact(store: &Store, oracle: &mut Oracle) -> Result<()> {
    oracle.sealed();
    store.compact()?;
    oracle.acknowledged();
    Ok(())
}

/// The disk after the power went at an operation of the workload; `None` when the workload ended before.
fn cut_at(operation: u64, survival: Survival, seed: u64) -> Option<(World, Oracle)> {
    let (world, mut oracle) = (World::new(), Oracle::new());
    world.disk.cut_power_at(operation, survival, seed);
    let done = run(&world, &mut oracle, seed);
    let cut = world.disk.is_powered_off();
    assert!(cut || done.is_ok(), "without a power cut all goes well: {done:?}");
    cut.then(|| (World::on(world.disk.power_cut(survival, seed)), oracle))
}

fn restored(world: &World, oracle: &Oracle, context: &str) -> State {
    let store = world.open().unwrap_or_else(|error| panic!("{context}: {error:?}\n{:#?}", world.disk.files()));
    let found = state(&store);
    assert!(oracle.possible.contains(&found), "{context}: found {found:#?}\nof {:#?}", oracle.possible);
    // As if the process was killed: no close.
    std::mem::forget(store);
    found
}

/// Goes on with a store that was cut, in ways that build on what was recovered.
fn go_on(world: &World, expected: &State, context: &str) {
    let mut expected = expected.clone();
    for life in 0..2 {
        let store = world.open().unwrap_or_else(|error| panic!("{context}, life {life}: {error:?}"));
        assert_eq!(state(&store), expected, "{context}, life {life}");
        store.counters("after").unwrap().add("key", 1).unwrap();
        *expected.entry("after".to_owned()).or_default().entry("key".to_owned()).or_default() += 1;
        if life == 0 {
            store.sync().unwrap();
        } else {
            store.compact().unwrap();
        }
        store.close().unwrap();
    }
    assert_eq!(state(&world.open_with(plaudit::Options { shards: 1, ..options() }).unwrap()), expected, "{context}");
}

/// A copy of a disk that has nothing unsynced.
fn copy(world: &World) -> World {
    World::on(world.disk.power_cut(Survival::Nothing, 0))
}

/// Cuts the power at every operation of every workload.
fn cut_everywhere(survival: Survival) {
    let mut images = 0;
    for seed in SEEDS {
        for operation in 0.. {
            let Some((world, oracle)) = cut_at(operation, survival, seed) else { break };
            let context = format!("{survival:?}, seed {seed}, operation {operation}");
            let found = restored(&copy(&world), &oracle, &context);
            go_on(&world, &found, &context);
            images += 1;
        }
    }
    assert!(images > 400, "{images}");
}

#[test]
fn a_power_cut_that_takes_all_that_was_not_synced_loses_and_doubles_nothing() {
    cut_everywhere(Survival::Nothing);
}

#[test]
fn a_power_cut_that_leaves_all_that_was_not_synced_loses_and_doubles_nothing() {
    cut_everywhere(Survival::Everything);
}

#[test]
fn a_power_cut_that_leaves_what_was_written_first_loses_and_doubles_nothing() {
    cut_everywhere(Survival::Prefix);
}

#[test]
fn a_power_cut_that_leaves_torn_pieces_in_any_order_loses_and_doubles_nothing() {
    cut_everywhere(Survival::Random);
}

#[test]
fn a_power_cut_inside_recovery_changes_nothing() {
    let mut images = 0;
    for (survival, seed) in SURVIVALS.into_iter().zip(SEEDS) {
        for operation in (0..).step_by(9) {
            let Some((world, oracle)) = cut_at(operation, survival, seed) else { break };
            let context = format!("{survival:?}, seed {seed}, operation {operation}");
            let expected = restored(&copy(&world), &oracle, &context);
            for inner in 0.. {
                let context = format!("{context}, then {inner} of recovery");
                let again = copy(&world);
                again.disk.cut_power_at(inner, survival, seed ^ inner);
                let opened = again.open();
                if !again.disk.is_powered_off() {
                    std::mem::forget(opened.unwrap());
                    break;
                }
                drop(opened);
                let after = World::on(again.disk.power_cut(survival, seed ^ inner));
                assert_eq!(restored(&copy(&after), &oracle, &context), expected, "{context}");
                images += 1;
                if inner % 3 == 0 {
                    go_on(&after, &expected, &context);
                }
            }
        }
    }
    assert!(images > 200, "{images}");
}

#[test]
fn the_power_may_go_again_and_again() {
    for seed in 0..60 {
        let mut random = Random(seed);
        let (mut world, mut oracle) = (World::new(), Oracle::new());
        for _ in 0..12 {
            let survival = SURVIVALS[random.below(4) as usize];
            let from = world.disk.operations();
            world.disk.cut_power_at(from + random.below(80), survival, random.word());
            let _ = run(&world, &mut oracle, random.word());
            world = World::on(world.disk.power_cut(survival, random.word()));
            let found = restored(&copy(&world), &oracle, &format!("seed {seed}"));
            oracle = Oracle { now: found.clone(), possible: vec![found] };
        }
    }
}

#[test]
fn the_workload_meets_everything_that_it_is_meant_to_cut() {
    for seed in SEEDS {
        let (world, mut oracle) = (World::new(), Oracle::new());
        run(&world, &mut oracle, seed).unwrap();
        let newest = world.segments().pop().unwrap();
        assert!(newest >= support::path("log/00000000000000000006.log"), "seed {seed} rotates segments: {newest:?}");
        assert!(world.segments().len() > 1 || world.snapshots().len() > 1, "seed {seed}: {:?}", world.disk.files());
        assert!(!world.snapshots().is_empty(), "seed {seed} compacts");
        assert!(oracle.possible.contains(&state(&world.open().unwrap())), "seed {seed}");
    }
}

#[test]
fn the_same_seed_writes_the_same_bytes() {
    let files = || {
        let (world, mut oracle) = (World::new(), Oracle::new());
        run(&world, &mut oracle, 1).unwrap();
        world.files()
    };
    assert!(files() == files());
}
