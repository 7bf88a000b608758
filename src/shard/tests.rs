use std::collections::BTreeMap;

use bytes::BytesMut;

use super::*;
use crate::options::AtBound;

const FREE: CounterOptions = CounterOptions { min: i64::MIN, max: i64::MAX, at_bound: AtBound::Reject };
const LOW: CounterOptions = CounterOptions { min: 0, max: 5, at_bound: AtBound::Reject };

fn shards(count: usize) -> Shards {
    let shards = Shards::new(count, 42);
    shards.add_namespace(0, None);
    shards.add_namespace(1, None);
    shards
}

type State = BTreeMap<(NamespaceId, Vec<u8>), i64>;

fn state(shards: &Shards) -> State {
    let mut state = State::new();
    for namespace in [0, 1] {
        let mut next = Some(Chunk::default());
        while let Some(chunk) = next {
            let visit = &mut |key: &[u8], value| assert_eq!(state.insert((namespace, key.to_vec()), value), None);
            next = shards.visit(namespace, chunk, visit).unwrap();
        }
    }
    state
}

fn no_changes(shards: &Shards) -> Vec<Changes> {
    (0..shards.count()).map(|_| Changes::default()).collect()
}

/// What the committer does with an epoch: takes it, reads the keys, releases removed slots. Applies it to `state` as
/// replay does.
fn commit(shards: &Shards, state: &mut State) -> u64 {
    let epoch = shards.advance();
    let mut collected = no_changes(shards);
    shards.collect(epoch, &mut collected);
    for (stripe, Changes { counters: changes, .. }) in collected.iter().enumerate() {
        for change in changes {
            let (mut arena, mut ends) = (BytesMut::new(), Vec::new());
            assert!(shards.copy_keys(stripe, change.namespace, &[change.slot], &mut arena, &mut ends));
            let key = (change.namespace, arena.to_vec());
            let before = state.get(&key).copied().unwrap_or(0);
            assert_eq!(change.delta(), i128::from(change.value().unwrap_or(0)) - i128::from(before));
            match change.value() {
                Some(value) => state.insert(key, value),
                None => state.remove(&key),
            };
        }
        for change in changes.iter().filter(|change| change.value().is_none()) {
            shards.release_removed(stripe, change.namespace, std::iter::once(change.slot));
        }
    }
    epoch
}

fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}

fn random_change(seed: &mut u64) -> Change {
    match random(seed) % 8 {
        0 => Change::Remove,
        1 => Change::Set(random(seed) as i64 % 100),
        2 => Change::CompareAndSet { expected: 0, new: 7 },
        3 => Change::Add(0),
        _ => Change::Add(random(seed) as i64 % 9 - 4),
    }
}

#[test]
fn replaying_the_epochs_gives_what_is_in_memory() {
    let shards = shards(4);
    let (mut replayed, mut seed) = (State::new(), 5);
    for step in 0..20_000 {
        let key = format!("a key that may be long or not {}", random(&mut seed) % 60);
        let key = &key.as_bytes()[(random(&mut seed) % 2 * 28) as usize..];
        let namespace = (random(&mut seed) % 2) as NamespaceId;
        let applied = shards.apply(namespace, key, random_change(&mut seed), &FREE).unwrap();
        assert!(applied.epoch == shards.open_epoch() || !applied.changed);
        assert_eq!(shards.get(namespace, key).unwrap().unwrap_or(0), applied.value);
        if random(&mut seed).is_multiple_of(50) || step == 19_999 {
            commit(&shards, &mut replayed);
            assert_eq!(state(&shards), replayed);
        }
    }
    let (_, slots) = (0..4).fold((0, 0), |(live, slots), n| {
        let shard = shards.lock(n);
        let table = shard.table(0).unwrap();
        (live + table.len(), slots + table.slots())
    });
    assert!(slots <= 180, "removed counters give their slots back: {slots}");
}

#[test]
fn an_unchanged_counter_waits_for_the_epoch_that_it_was_seen_in() {
    let shards = shards(1);
    let set = |value| shards.apply(0, b"key", Change::Set(value), &FREE).unwrap();
    let first = set(1);
    assert_eq!((first.epoch, first.first), (1, true));
    assert_eq!((set(1).epoch, set(1).changed), (1, false));
    assert_eq!(shards.newest_epoch(), 1);
    commit(&shards, &mut State::new());
    assert_eq!((set(1).epoch, shards.newest_epoch()), (1, 1));
    let second = set(2);
    assert_eq!((second.epoch, second.first), (2, true));
    assert!(!shards.apply(0, b"other", Change::Set(2), &FREE).unwrap().first);
}

#[test]
fn an_epoch_keeps_its_values_when_the_next_one_changes_them() {
    let shards = shards(1);
    shards.apply(0, b"key", Change::Add(1), &FREE).unwrap();
    let epoch = shards.advance();
    shards.apply(0, b"key", Change::Add(1), &FREE).unwrap();
    shards.apply(0, b"new", Change::Add(1), &FREE).unwrap();
    let mut collected = no_changes(&shards);
    assert_eq!(shards.collect(epoch, &mut collected), 1);
    assert_eq!(collected[0].counters[0].value(), Some(1));
    assert_eq!(shards.collect(shards.advance(), &mut collected), 2);
    assert_eq!(collected[0].counters[0].value(), Some(2));
}

#[test]
fn a_removed_slot_is_used_again_only_once_its_removal_is_collected() {
    let shards = shards(1);
    let mut replayed = State::new();
    shards.apply(0, b"old", Change::Set(1), &FREE).unwrap();
    commit(&shards, &mut replayed);
    shards.apply(0, b"old", Change::Remove, &FREE).unwrap();
    shards.apply(0, b"new", Change::Set(1), &FREE).unwrap();
    assert_eq!(shards.lock(0).table(0).unwrap().slots(), 2);
    commit(&shards, &mut replayed);
    shards.apply(0, b"newer", Change::Set(1), &FREE).unwrap();
    assert_eq!(shards.lock(0).table(0).unwrap().slots(), 2);
    commit(&shards, &mut replayed);
    assert_eq!(state(&shards), replayed);
}

#[test]
fn the_slot_of_a_counter_that_was_removed_while_hot_is_given_back_with_its_last_handle() {
    let shards = shards(1);
    let mut replayed = State::new();
    for round in 0..20 {
        let key = format!("stream-{round}");
        let (hot, _) = shards.hot(0, key.as_bytes(), &FREE, false).unwrap();
        shards.apply(0, key.as_bytes(), Change::Remove, &FREE).unwrap();
        commit(&shards, &mut replayed);
        assert!(shards.drop_hot(&hot), "the committer may be asleep, and has the slot to give back");
        commit(&shards, &mut replayed);
        assert_eq!(state(&shards), replayed);
    }
    assert_eq!(shards.lock(0).table(0).unwrap().slots(), 1);
}

#[test]
fn a_batch_is_in_one_epoch_or_changes_nothing() {
    let shards = shards(8);
    let mut replayed = State::new();
    let mut seed = 9;
    for _ in 0..500 {
        let keys: Vec<String> = (0..random(&mut seed) % 30).map(|_| (random(&mut seed) % 40).to_string()).collect();
        let changes: Vec<BatchChange<'_>> = keys
            .iter()
            .map(|key| {
                let namespace = (random(&mut seed) % 2) as NamespaceId;
                let bounds = if namespace == 0 { &FREE } else { &LOW };
                let operation = Operation::Count { change: random_change(&mut seed), bounds };
                BatchChange { namespace, key: key.as_bytes(), operation }
            })
            .collect();
        let before = state(&shards);
        let mut outcomes = Vec::new();
        match shards.apply_batch(&changes, &mut outcomes) {
            Ok((epoch, _)) => {
                assert_eq!(outcomes.len(), changes.len());
                assert!(epoch <= shards.open_epoch());
                let mut expected = before;
                for (change, outcome) in changes.iter().zip(&outcomes) {
                    let key = (change.namespace, change.key.to_vec());
                    let old = expected.get(&key).copied();
                    assert_eq!(outcome.previous, old.unwrap_or(0));
                    let Operation::Count { change, bounds } = change.operation else { unreachable!() };
                    match evaluate(old, change, bounds).unwrap() {
                        Some(value) => expected.insert(key, value),
                        None => expected.remove(&key),
                    };
                }
                assert_eq!(state(&shards), expected);
            }
            Err((index, refusal)) => {
                assert!(matches!(refusal, Refusal::OutOfBounds { .. }) && index < changes.len());
                assert_eq!(state(&shards), before);
            }
        }
        if random(&mut seed).is_multiple_of(4) {
            commit(&shards, &mut replayed);
            assert_eq!(state(&shards), replayed);
        }
    }
}

#[test]
fn a_halted_store_refuses_and_a_dropped_namespace_is_gone() {
    let shards = shards(2);
    shards.apply(1, b"key", Change::Add(1), &FREE).unwrap();
    shards.drop_namespace(1);
    assert_eq!(shards.apply(1, b"key", Change::Add(1), &FREE), Err(Refusal::NoNamespace));
    assert_eq!(shards.get(1, b"key"), Err(Refusal::NoNamespace));
    assert_eq!(shards.len(1), Err(Refusal::NoNamespace));
    shards.halt();
    assert_eq!(shards.apply(0, b"key", Change::Add(1), &FREE), Err(Refusal::Halted));
    assert_eq!(shards.get(0, b"key"), Err(Refusal::Halted));
    let operation = Operation::Count { change: Change::Add(1), bounds: &FREE };
    let changes = [BatchChange { namespace: 0, key: b"key", operation }];
    assert_eq!(shards.apply_batch(&changes, &mut Vec::new()), Err((0, Refusal::Halted)));
}
