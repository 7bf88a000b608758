//! The same with threads: the store's own, and those that add, wait and compact. Each is answered in time.

use std::future::Future;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use plaudit::storage::sim::Survival;
use plaudit::{Error, Options, Receipt, Result, Store};

use super::support::{Random, World, options, state};
use super::{FAILURES, OnPanic, check_refusal};

/// What a thread knows of its counter: how often it added 1, and how many of these were acknowledged.
type Known = (String, i64, i64);

/// Adds and waits, until the store has stopped.
fn add_and_wait(store: &Store, key: String, how: impl Fn(Receipt<'_>) -> Result<()>) -> Known {
    let Ok(counters) = store.existing_counters("likes") else { return (key, 0, 0) };
    change_and_wait(key.clone(), |_| counters.add(&key, 1), how)
}

/// Each like is another viewer's.
fn like_and_wait(store: &Store, item: String, how: impl Fn(Receipt<'_>) -> Result<()>) -> Known {
    let Ok(likes) = store.existing_likes("liked") else { return (item, 0, 0) };
    change_and_wait(item.clone(), |viewer| likes.like(&item, viewer), how)
}

fn change_and_wait<'a>(
    key: String,
    change: impl Fn(u64) -> Result<Receipt<'a>>,
    how: impl Fn(Receipt<'a>) -> Result<()>,
) -> Known {
    let (mut added, mut acknowledged) = (0, 0);
    for n in 0..25 {
        match change(n) {
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
        let failure = FAILURES[random.below(FAILURES.len() as u64) as usize];
        if random.below(2) == 0 {
            failure.strike(&world.disk, call..);
        } else {
            failure.strike(&world.disk, call..=call);
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
        let _ = (store.counters("likes"), store.likes("liked"));
        let mut bodies: Vec<Box<dyn FnOnce() -> Vec<Known> + Send>> = Vec::new();
        for thread in 0..5 {
            let (store, key) = (store.clone(), format!("{thread:->200}"));
            bodies.push(Box::new(move || {
                let wait = |receipt: Receipt<'_>| receipt.wait();
                vec![match thread {
                    0 | 2 => add_and_wait(&store, key, wait),
                    1 | 3 => add_and_wait(&store, key, block_on),
                    _ => like_and_wait(&store, key, wait),
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
                let of = |name: &str| found.get(name)?.get(key).copied();
                let found = of("likes").or(of("liked")).unwrap_or(0);
                assert!((*acknowledged..=*added).contains(&found), "{key}: {acknowledged} <= {found} <= {added}");
                all += found;
            }
        }
    }
    println!("{reached} stores with threads met a failing call, {stopped} of them stopped; {all} likes compared");
    assert!(reached > 40 && stopped > 20, "{reached} {stopped}");
}
