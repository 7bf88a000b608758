//! Processes that race to create and to open a store, and children that outlive the one that opened it.

use std::io::{BufRead, BufReader, Write as _};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use plaudit::{Error, Options, SnapshotHome, Store};

use crate::child;

const RACERS: usize = 8;
const ROUNDS: i64 = 4;

fn small() -> Options {
    Options { shards: 4, segment_bytes: 4_096, snapshot_home: SnapshotHome::File, ..Options::default() }
}

/// A process of the races: opens the store whenever it is free, until it had it often enough.
#[test]
fn racer() {
    let Some(path) = child::store_for("processes::racer") else { return };
    let (mut won, mut locked) = (0, 0);
    // The processes start one after another, so each waits for the word that all are there.
    std::io::stdin().read_line(&mut String::new()).unwrap();
    while won < ROUNDS {
        match Store::open_with(&path, small()) {
            Ok(store) => {
                let likes = store.counters("likes").unwrap();
                let before = likes.get("races").unwrap();
                // Not an add: whoever else had the store at the same time would be overwritten.
                likes.set("races", before + 1).unwrap().wait().unwrap();
                if won % 2 == 0 {
                    store.compact().unwrap();
                }
                won += 1;
                if won % 2 == 0 {
                    store.close().unwrap();
                }
            }
            Err(Error::Locked { .. }) => {
                locked += 1;
                std::thread::yield_now();
            }
            Err(error) => panic!("{error:?}"),
        }
    }
    println!("\nlocked {locked}");
}

#[test]
fn processes_that_race_to_create_and_open_have_the_store_one_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/new/store");
    let mut racers: Vec<_> = (0..RACERS)
        .map(|_| {
            let mut command = child::command("processes::racer", &path);
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let starters: Vec<ChildStdin> = racers.iter_mut().map(|racer| racer.stdin.take().unwrap()).collect();
    for mut starter in starters {
        starter.write_all(b"go\n").unwrap();
    }
    let mut locked = 0;
    for racer in racers {
        let output = racer.wait_with_output().unwrap();
        let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(output.status.success(), "{out}\n{err}");
        locked += child::said(&out, "locked ").parse::<u64>().unwrap();
    }
    let store = Store::open(&path).unwrap();
    assert_eq!(store.counters("likes").unwrap().get("races").unwrap(), RACERS as i64 * ROUNDS);
    store.close().unwrap();
    assert!(Store::verify(&path).unwrap().problems.is_empty());
    println!("{RACERS} processes opened {ROUNDS} times each, and were told {locked} times that the store is locked");
}

#[test]
fn a_store_can_be_opened_again_at_once_whatever_else_the_process_starts() {
    // A process that is being started has, for a moment, every file that its parent has open.
    for (home, opens) in [(SnapshotHome::File, 50), (SnapshotHome::default(), 8)] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { snapshot_home: home, ..small() };
        let reopen = |n: i64| -> Result<(), Error> {
            let store = Store::open_with(dir.path(), options.clone())?;
            if let Some((_, damage)) = store.recovery().damaged_generations.first() {
                return Err(damage.clone());
            }
            let likes = store.counters("likes")?;
            likes.add("a", 1)?;
            if n % 8 == 1 {
                store.compact()?;
            }
            store.close()
        };
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    Command::new("true").status().unwrap();
                }
            });
            let failed = (1..=opens).find_map(|n| reopen(n).err().map(|error| (n, error)));
            done.store(true, Ordering::Release);
            assert!(failed.is_none(), "{home:?}: {failed:?}");
        });
    }
}

/// A process that opens the store, starts another that outlives it, and dies.
#[test]
fn parent() {
    let Some(path) = child::store_for("processes::parent") else { return };
    let store = Store::open(path).unwrap();
    store.counters("likes").unwrap().add("a", 1).unwrap().wait().unwrap();
    // Its standard input is the one of this process, so it lives until the test ends that.
    let orphan = Command::new("cat").stdin(Stdio::inherit()).stdout(Stdio::null()).spawn().unwrap();
    println!("\norphan {}", orphan.id());
    std::process::abort();
}

#[test]
fn a_child_that_outlives_the_process_does_not_keep_the_store_locked() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = child::command("processes::parent", dir.path());
    let mut parent = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let keeps_alive = parent.stdin.take().unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines().map(Result::unwrap);
    let orphan = lines.find_map(|line| line.strip_prefix("orphan ").map(str::to_owned)).unwrap();
    assert!(!parent.wait().unwrap().success(), "it was killed");
    let is_alive = || Command::new("kill").args(["-0", &orphan]).status().unwrap().success();
    assert!(is_alive());
    let store = Store::open(dir.path()).unwrap();
    assert!(is_alive(), "the lock was not free because everybody is gone");
    assert!(!store.recovery().closed_cleanly);
    assert_eq!(store.counters("likes").unwrap().get("a").unwrap(), 1);
    drop(keeps_alive);
}
