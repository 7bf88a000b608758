//! Overflow and bounds are refused, or clamped, visibly; what is refused changes nothing and logs nothing.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use plaudit::{AtBound, CounterOptions, Counters, Error, Stepped, Store};
use support::{LONG, Random, World, state};

const FREE: CounterOptions = CounterOptions { min: i64::MIN, max: i64::MAX, at_bound: AtBound::Reject };

fn bounded(min: i64, max: i64, at_bound: AtBound) -> CounterOptions {
    CounterOptions { min, max, at_bound }
}

/// Checks that what `refuse` does leaves neither a trace in memory nor an epoch.
fn leaves_no_trace(world: &World, store: &Store, refuse: impl Fn()) {
    store.sync().unwrap();
    let (before, files, stats) = (state(store), world.files(), store.stats());
    refuse();
    world.clock.advance(LONG);
    assert_eq!(store.step(), Stepped::Idle);
    assert!(state(store) == before && world.files() == files);
    assert_eq!((store.stats().open_epoch, store.stats().counters), (stats.open_epoch, stats.counters));
}

#[test]
fn a_sum_that_does_not_fit_is_refused() {
    let world = World::new();
    let store = world.open().unwrap();
    let free = store.counters_with("free", FREE).unwrap();
    free.set("max", i64::MAX).unwrap();
    free.set("min", i64::MIN).unwrap();
    leaves_no_trace(&world, &store, || {
        for (name, delta) in [("max", 1), ("max", i64::MAX), ("min", -1), ("min", i64::MIN)] {
            match free.add(name, delta).unwrap_err() {
                Error::Overflow { key, value, delta: refused } => {
                    assert_eq!((&key[..], refused), (name.as_bytes(), delta));
                    assert_eq!(value, free.get(name).unwrap());
                }
                error => panic!("{error:?}"),
            }
        }
    });
    assert_eq!(free.add("max", i64::MIN).unwrap().value(), -1);
    assert_eq!(free.add("min", i64::MAX).unwrap().value(), -1);
    assert_eq!(free.add("new", i64::MIN).unwrap().value(), i64::MIN, "an absent counter reads 0");
}

#[test]
fn a_value_outside_the_bounds_is_refused() {
    let world = World::new();
    let store = world.open().unwrap();
    let low = store.counters_with("low", bounded(-3, 10, AtBound::Reject)).unwrap();
    low.set("a", 10).unwrap();
    let refused = |answer: plaudit::Result<()>, refused: i64| match answer.unwrap_err() {
        Error::OutOfBounds { key, value, min: -3, max: 10 } => assert_eq!((&key[..], value), (&b"a"[..], refused)),
        error => panic!("{error:?}"),
    };
    leaves_no_trace(&world, &store, || {
        refused(low.add("a", 1).map(drop), 11);
        refused(low.add("a", -14).map(drop), -4);
        refused(low.set("a", 11).map(drop), 11);
        refused(low.set("a", i64::MIN).map(drop), i64::MIN);
        refused(low.compare_and_set("a", 10, -4).map(drop), -4);
        assert!(low.compare_and_set("a", 9, 99).is_ok_and(|answer| !answer.is_set()), "it was not to be set");
        assert!(matches!(low.add("new", 11), Err(Error::OutOfBounds { .. })));
        assert!(!low.contains("new").unwrap(), "a refused change creates nothing");
        assert!(matches!(low.add("a", i64::MAX), Err(Error::Overflow { .. })), "the sum comes first");
    });
    assert_eq!(low.add("a", -13).unwrap().value(), -3);
}

#[test]
fn a_clamp_stops_at_the_bound_and_says_so() {
    let world = World::new();
    let store = world.open().unwrap();
    let clamped = store.counters_with("clamped", bounded(0, 10, AtBound::Clamp)).unwrap();
    let told = |answer: plaudit::Result<plaudit::Receipt<'_>>| {
        let receipt = answer.unwrap();
        (receipt.value(), receipt.delta(), receipt.changed())
    };
    assert_eq!(told(clamped.add("a", 7)), (7, 7, true));
    assert_eq!(told(clamped.add("a", 7)), (10, 3, true));
    assert_eq!(told(clamped.add("a", 7)), (10, 0, false));
    assert_eq!(told(clamped.add("a", i64::MAX)), (10, 0, false));
    assert_eq!(told(clamped.add("a", i64::MIN)), (0, -10, true));
    assert_eq!(told(clamped.set("a", 99)), (10, 10, true));
    assert!(clamped.compare_and_set("a", 10, -1).unwrap().is_set());
    assert_eq!(clamped.get("a").unwrap(), 0);
    leaves_no_trace(&world, &store, || assert_eq!(told(clamped.add("a", -1)), (0, 0, false)));
    let whole = store.counters_with("whole", CounterOptions { at_bound: AtBound::Clamp, ..FREE }).unwrap();
    whole.set("a", i64::MAX - 1).unwrap();
    assert_eq!(told(whole.add("a", 5)), (i64::MAX, 1, true));
    assert_eq!(told(whole.add("a", 5)), (i64::MAX, 0, false));
}

#[test]
fn any_sequence_keeps_to_the_model() {
    let world = World::new();
    let store = world.open().unwrap();
    let kinds = [
        FREE,
        CounterOptions { at_bound: AtBound::Clamp, ..FREE },
        bounded(-100, 100, AtBound::Reject),
        bounded(-100, 100, AtBound::Clamp),
        bounded(0, 0, AtBound::Clamp),
        bounded(0, i64::MAX, AtBound::Reject),
    ];
    for (options, n) in kinds.into_iter().zip(0..) {
        let counters = store.counters_with(&format!("ns-{n}"), options).unwrap();
        let mut random = Random(n);
        let mut model = 0i128;
        for step in 0..4_000 {
            check_one(&counters, options, &mut random, &mut model, &format!("seed {n}, step {step}"));
        }
    }
    let expected = state(&store);
    store.close().unwrap();
    assert_eq!(state(&world.open().unwrap()), expected);
}

fn check_one(counters: &Counters, options: CounterOptions, random: &mut Random, model: &mut i128, context: &str) {
    let delta = match random.below(4) {
        0 => random.word() as i64,
        1 => [i64::MIN, i64::MAX, 0][random.below(3) as usize],
        _ => random.below(61) as i64 - 30,
    };
    let (add, answer) = match random.below(3) {
        0 => (false, counters.set("a", delta)),
        _ => (true, counters.add("a", delta)),
    };
    let wanted = i128::from(delta) + if add { *model } else { 0 };
    let (min, max) = (i128::from(options.min), i128::from(options.max));
    let expected = match options.at_bound {
        AtBound::Clamp => Some(wanted.clamp(min, max)),
        _ => (min..=max).contains(&wanted).then_some(wanted),
    };
    match (expected, answer) {
        (Some(expected), Ok(receipt)) => {
            assert_eq!(i128::from(receipt.value()), expected, "{context}");
            assert_eq!(receipt.delta(), expected - *model, "{context}");
            *model = expected;
        }
        (None, Err(Error::Overflow { .. } | Error::OutOfBounds { .. })) => {}
        (_, answer) => panic!("{context}: {expected:?}, {answer:?}"),
    }
    assert_eq!(i128::from(counters.get("a").unwrap()), *model, "{context}");
}
