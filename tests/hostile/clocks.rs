//! Clocks that jump, stand still, or come to their end: times are only recorded, windows end, and counts are exact.

use std::sync::Arc;
use std::time::Duration;

use plaudit::storage::sim::{SimClock, Survival};
use plaudit::{Clock, Delivery, Driver, Durability, Environment, Options, Stepped, Store};

use crate::support::{self, World, options, state, step_until_quiet};

#[test]
fn a_wall_clock_that_jumps_is_recorded_and_nothing_else() {
    let world = World::new();
    let mut expected = 0;
    for life in [[5_000, 0, u64::MAX], [1, u64::MAX, 2]] {
        let store = world.open().unwrap();
        let likes = store.counters("likes").unwrap();
        let subscription = store.subscribe(100);
        for time_ms in life {
            world.clock.set_wall_ms(time_ms);
            likes.add("a", 1).unwrap();
            expected += 1;
            assert_eq!(step_until_quiet(&store), Stepped::Pause(options().group_window), "the window is what it was");
            // Letting time pass moves the wall clock too, as far as it goes.
            world.clock.advance(options().group_window);
            world.clock.set_wall_ms(time_ms);
            assert_eq!(step_until_quiet(&store), Stepped::Idle);
            let Some(Delivery::Epoch(epoch)) = subscription.try_next() else { panic!("{time_ms}") };
            assert_eq!((epoch.time_ms, epoch.epoch), (time_ms, store.durable_epoch()), "ordered by epoch, not by time");
        }
        let after = World::on(world.disk.power_cut(Survival::Nothing, 0)).open().unwrap();
        assert_eq!(after.recovery().last_time_ms, Some(life[2]));
        assert_eq!(after.counters("likes").unwrap().get("a").unwrap(), expected);
        store.compact().unwrap();
        store.close().unwrap();
    }
    assert_eq!(state(&world.open().unwrap())["likes"]["a"], expected);
}

#[test]
fn the_end_of_time_ends_no_store() {
    let world = World::new();
    let store = world.open().unwrap();
    let likes = store.counters("likes").unwrap();
    world.clock.advance(Duration::MAX);
    let receipt = likes.add("a", 1).unwrap();
    assert_eq!(step_until_quiet(&store), Stepped::Idle, "no window can end later");
    assert!(receipt.is_durable());
    world.disk.set_capacity(Some(0));
    likes.add([b'x'; 1_000], 1).unwrap();
    likes.add([b'y'; 1_000], 1).unwrap();
    likes.add([b'z'; 1_000], 1).unwrap();
    likes.add([b'0'; 1_000], 1).unwrap();
    assert!(store.sync().unwrap_err().is_storage_full());
    assert!(store.compact().is_err());
    world.disk.set_capacity(None);
    store.sync().unwrap();
    store.close().unwrap();
    assert_eq!(state(&world.open().unwrap())["likes"].len(), 5);
}

/// A clock that breaks its promise: monotonic time is what a test says.
#[derive(Debug)]
struct Broken(parking_lot::Mutex<Duration>);

impl Clock for Broken {
    fn wall_ms(&self) -> u64 {
        0
    }

    fn monotonic(&self) -> Duration {
        *self.0.lock()
    }
}

#[test]
fn a_monotonic_clock_that_goes_back_makes_nobody_wait_longer_than_a_window() {
    let (world, hour) = (World::new(), Duration::from_secs(3_600));
    let clock = Arc::new(Broken(parking_lot::Mutex::new(hour)));
    let environment = Environment { clock: clock.clone(), ..world.environment(Driver::Caller) };
    let store = Store::open_in(environment, support::ROOT, options()).unwrap();
    let likes = store.counters("likes").unwrap();
    let window = options().group_window;
    let receipt = likes.add("a", 1).unwrap();
    assert_eq!(store.step(), Stepped::Pause(window));
    *clock.0.lock() = Duration::ZERO;
    assert_eq!(store.step(), Stepped::Pause(window));
    *clock.0.lock() = window;
    assert_eq!(step_until_quiet(&store), Stepped::Idle);
    receipt.wait().unwrap();
    store.close().unwrap();
}

#[test]
fn a_clock_that_stands_still_stops_nobody_who_asks() {
    for durability in [Durability::Group, Durability::Manual, Durability::Immediate] {
        let world = World::new();
        let environment = Environment { clock: Arc::new(SimClock::new()), ..world.environment(Driver::Threads) };
        let store = Store::open_in(environment, support::ROOT, Options { durability, ..options() }).unwrap();
        let likes = store.counters("likes").unwrap();
        for n in 1..=50 {
            let receipt = likes.add("a", 1).unwrap();
            store.sync().unwrap();
            assert!(receipt.is_durable());
            assert_eq!(receipt.value(), n);
        }
        store.compact().unwrap();
        store.close().unwrap();
    }
}
