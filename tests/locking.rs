//! One opener at a time, on the real file system: the second one is told at once, in this process and in another, and
//! the lock is free after a close and after the death of its holder.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use plaudit::{Error, Store};

const CHILD_DIR: &str = "PLAUDIT_TEST_LOCKING_DIR";

/// Not a test of its own: the other process. It opens the store and holds it until it is killed.
#[test]
fn other_process() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    match Store::open(dir) {
        Ok(store) => {
            store.counters("likes").unwrap().add("a", 1).unwrap().wait().unwrap();
            println!("\nopened");
            std::thread::sleep(Duration::from_secs(600));
        }
        Err(Error::Locked { .. }) => println!("\nlocked"),
        Err(error) => println!("\n{error}"),
    }
}

/// Starts the other process and waits for what it has to say. Its output must be held for as long as it
/// writes, and the caller waits for its end.
#[allow(clippy::zombie_processes)]
fn start(dir: &Path) -> (Child, BufReader<ChildStdout>, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "other_process", "--nocapture"])
        .env(CHILD_DIR, dir)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    loop {
        let mut line = String::new();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the other process says how it went");
        if let "opened" | "locked" = line.trim() {
            return (child, output, line.trim().to_owned());
        }
    }
}

fn is_locked(dir: &Path) -> bool {
    let started = Instant::now();
    let opened = Store::open(dir);
    assert!(started.elapsed() < Duration::from_secs(2), "nobody waits for a lock");
    match opened {
        Ok(_) => false,
        Err(Error::Locked { path }) => {
            assert_eq!(path, dir);
            true
        }
        Err(error) => panic!("{error:?}"),
    }
}

#[test]
fn a_second_opener_in_the_process_is_refused_until_the_store_is_closed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let (clone, likes) = (store.clone(), store.counters("likes").unwrap());
    assert!(is_locked(dir.path()));
    assert!(matches!(Store::verify(dir.path()), Err(Error::Locked { .. })));
    store.close().unwrap();
    assert!(!is_locked(dir.path()), "although handles are alive");
    assert!(matches!(likes.add("a", 1), Err(Error::Closed)));
    assert!(matches!(clone.counters("likes"), Err(Error::Closed)));
    clone.close().unwrap();
}

#[test]
fn a_close_answers_only_when_the_store_is_free() {
    let dir = tempfile::tempdir().unwrap();
    for round in 0..100 {
        let store = Store::open(dir.path()).unwrap();
        store.counters("likes").unwrap().add("a", 1).unwrap();
        let (first, second) = (store.clone(), store);
        std::thread::scope(|scope| {
            scope.spawn(|| first.close().unwrap());
            second.close().unwrap();
            let store = Store::open(dir.path()).unwrap();
            assert_eq!(store.counters("likes").unwrap().get("a").unwrap(), round + 1);
        });
    }
}

#[test]
fn dropping_the_last_handle_frees_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let likes = Store::open(dir.path()).unwrap().counters("likes").unwrap();
    assert!(is_locked(dir.path()), "a handle keeps the store open");
    likes.add("a", 1).unwrap();
    drop(likes);
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.counters("likes").unwrap().get("a").unwrap(), 1);
    assert!(store.recovery().closed_cleanly);
}

#[test]
fn another_process_is_refused_and_a_killed_one_frees_the_lock() {
    let dir = tempfile::tempdir().unwrap();
    let (mut holder, _output, said) = start(dir.path());
    assert_eq!(said, "opened");
    assert!(is_locked(dir.path()));
    let (mut second, _output, said) = start(dir.path());
    assert_eq!(said, "locked");
    second.wait().unwrap();
    holder.kill().unwrap();
    holder.wait().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(store.counters("likes").unwrap().get("a").unwrap(), 1);
    assert!(!store.recovery().closed_cleanly);
    let (mut third, _output, said) = start(dir.path());
    assert_eq!(said, "locked");
    third.wait().unwrap();
    store.close().unwrap();
}

#[test]
fn of_many_openers_at_once_one_wins() {
    let dir = tempfile::tempdir().unwrap();
    for _ in 0..5 {
        let opened: Vec<_> = std::thread::scope(|scope| {
            let openers: Vec<_> = (0..8).map(|_| scope.spawn(|| Store::open(dir.path()))).collect();
            openers.into_iter().map(|opener| opener.join().unwrap()).collect()
        });
        let won = opened.iter().filter(|opened| opened.is_ok()).count();
        assert_eq!(won, 1, "{opened:?}");
        assert!(opened.iter().flat_map(|opened| opened.as_ref().err()).all(|e| matches!(e, Error::Locked { .. })));
    }
}
