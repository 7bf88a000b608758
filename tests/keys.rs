//! A key is 1 to 1,024 bytes, any bytes; every other length is refused by every call that takes a key.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;

use plaudit::{Error, MAX_KEY_BYTES, Options, Store};
use support::{Random, World, options, state};

#[test]
fn every_call_refuses_what_is_no_key() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    for key in [vec![], vec![b'x'; MAX_KEY_BYTES + 1], vec![0; 1 << 20]] {
        let answers = [
            likes.add(&key, 1).map(drop),
            likes.set(&key, 1).map(drop),
            likes.remove(&key).map(drop),
            likes.compare_and_set(&key, 0, 1).map(drop),
            likes.get(&key).map(drop),
            likes.contains(&key).map(drop),
            likes.get_many(&[b"fine".to_vec(), key.clone()]).map(drop),
            store.batch().add(&likes, &key, 1).commit().map(drop),
            store.batch().set(&likes, &key, 1).commit().map(drop),
            store.batch().remove(&likes, &key).commit().map(drop),
        ];
        for (answer, n) in answers.into_iter().zip(0..) {
            match answer.unwrap_err() {
                Error::KeyEmpty => assert!(key.is_empty(), "call {n}"),
                Error::KeyTooLong { len } => assert_eq!(len, key.len(), "call {n}"),
                error => panic!("call {n}: {error:?}"),
            }
        }
    }
    assert!(likes.is_empty().unwrap());
}

#[test]
fn keys_of_every_length_survive_log_and_snapshot() {
    for compact in [false, true] {
        let world = World::new();
        let store = world.open().unwrap();
        let likes = store.counters("likes").unwrap();
        for len in 1..=MAX_KEY_BYTES {
            likes.add(vec![0xf7; len], len as i64).unwrap();
        }
        if compact {
            store.compact().unwrap();
        }
        for len in (1..=MAX_KEY_BYTES).step_by(3) {
            likes.remove(vec![0xf7; len]).unwrap();
        }
        store.close().unwrap();
        let store = world.open_with(Options { shards: 1, ..options() }).unwrap();
        let likes = store.counters("likes").unwrap();
        for len in 1..=MAX_KEY_BYTES {
            let expected = if len % 3 == 1 { 0 } else { len as i64 };
            assert_eq!(likes.get(vec![0xf7; len]).unwrap(), expected, "length {len}");
        }
        assert_eq!(likes.len().unwrap(), 682);
    }
}

#[test]
fn keys_are_bytes_and_nothing_is_made_of_them() {
    let keys: [&[u8]; 12] = [
        b"\0",
        b"\0\0",
        b"\xff",
        b"\xff\xff",
        b"a",
        b"A",
        b"a ",
        b"a\0",
        b"\xf7EPO",
        b"PLAUDLOG",
        "é".as_bytes(),
        b"e\xcc\x81",
    ];
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    for (key, n) in keys.into_iter().zip(1..) {
        likes.add(key, n).unwrap();
    }
    store.close().unwrap();
    let likes = world.open().unwrap().counters("likes").unwrap();
    assert_eq!(likes.get_many(&keys).unwrap(), (1..=12).collect::<Vec<i64>>());
    assert_eq!(likes.len().unwrap(), 12);
    // Whatever can be seen as bytes is a key.
    likes.add("a", 1).unwrap();
    likes.add(String::from("a"), 1).unwrap();
    likes.add(vec![b'a'], 1).unwrap();
    likes.add([b'a'], 1).unwrap();
    likes.add(7u64.to_le_bytes(), 1).unwrap();
    assert_eq!(likes.get(b"a").unwrap(), 9);
}

#[test]
fn random_keys_come_back_after_any_mix_of_logs_snapshots_and_shards() {
    for seed in 0..12 {
        let (world, mut random) = (World::new(), Random(seed));
        let mut model = BTreeMap::new();
        for _ in 0..5 {
            let shards = 1 << random.below(6);
            let store = world.open_with(Options { shards, ..options() }).unwrap();
            check(&store, &model, seed);
            let likes = store.counters("likes").unwrap();
            for _ in 0..300 {
                let longest = if random.below(10) == 0 { 1_024 } else { 24 };
                let len = 1 + random.below(longest) as usize;
                let key: Vec<u8> = (0..len).map(|_| (random.below(3) * 127) as u8).collect();
                match random.below(4) {
                    0 => {
                        likes.remove(&key).unwrap();
                        model.remove(&key);
                    }
                    _ => {
                        let value = random.word() as i64;
                        likes.set(&key, value).unwrap();
                        model.insert(key, value);
                    }
                }
                match random.below(100) {
                    0 => store.compact().unwrap(),
                    1..5 => store.sync().unwrap(),
                    _ => {}
                }
            }
            check(&store, &model, seed);
            store.close().unwrap();
        }
    }
}

fn check(store: &Store, model: &BTreeMap<Vec<u8>, i64>, seed: u64) {
    let escaped: BTreeMap<String, i64> =
        model.iter().map(|(key, value)| (key.escape_ascii().to_string(), *value)).collect();
    assert!(state(store).get("likes").cloned().unwrap_or_default() == escaped, "seed {seed}");
}
