//! A disk without room, files that may not grow, no more file descriptors, and directories that cannot be written:
//! every call is answered, what was acknowledged is found again, and what could not be opened opens once the limit is
//! gone.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::Duration;

use plaudit::storage::sim::Operation;
use plaudit::{Error, Options, SnapshotHome, Store};

use crate::child;
use crate::support::{self, World, fault};

fn small() -> Options {
    Options { shards: 4, segment_bytes: 64 << 10, group_window: Duration::ZERO, ..Options::default() }
}

/// Counts, and compacts now and then, until a change fails or there were enough of them, and prints what was
/// acknowledged and why it ended. Distinct long keys, so that log and snapshots grow.
fn count(store: &Store, enough: i64) -> (i64, Option<Error>) {
    let likes = store.counters("likes").unwrap();
    let (mut acknowledged, mut compactions, mut failure) = (0, Vec::new(), None);
    while acknowledged < enough && failure.is_none() {
        let counted = likes.add(format!("{acknowledged:->500}"), 1).and_then(|receipt| receipt.wait());
        acknowledged += i64::from(counted.is_ok());
        failure = counted.err();
        if acknowledged % 100 == 99 {
            compactions.push(store.compact());
        }
    }
    let failed = compactions.iter().filter(|compacted| compacted.is_err()).count();
    println!("\nacknowledged {acknowledged}\nended {failure:?}, {failed} of {} compactions failed", compactions.len());
    (acknowledged, failure)
}

/// The store tries again by itself; until then it says why it waits.
fn sync_when_there_is_room(store: &Store) {
    while let Err(error) = store.sync() {
        assert!(error.is_temporary(), "{error:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The store must have what was acknowledged, and at most the change that failed beside it.
fn check(path: &Path, acknowledged: i64) {
    let store = Store::open_with(path, small()).unwrap();
    let likes = store.counters("likes").unwrap();
    for n in 0..acknowledged {
        assert_eq!(likes.get(format!("{n:->500}")).unwrap(), 1, "of {acknowledged} acknowledged, {n} is lost");
    }
    let found = likes.len().unwrap() as i64;
    assert!((acknowledged..=acknowledged + 1).contains(&found), "{found} of {acknowledged}");
    likes.add("and on", 1).unwrap().wait().unwrap();
    store.close().unwrap();
}

fn acknowledged(output: &str) -> i64 {
    child::said(output, "acknowledged ").parse().unwrap()
}

#[test]
fn counts_on_a_small_disk() {
    let Some(disk) = child::store_for("limits::counts_on_a_small_disk") else { return };
    let path = disk.join("store");
    // Something else takes the room, and gives it back.
    fs::write(disk.join("ballast"), vec![1; 200 << 10]).unwrap();
    let store = Store::open_with(&path, small()).unwrap();
    let (acknowledged, failure) = count(&store, i64::MAX);
    assert!(failure.as_ref().is_some_and(Error::is_storage_full), "{failure:?}");
    assert_eq!(store.counters("likes").unwrap().len().unwrap() as i64, acknowledged + 1, "nothing is forgotten");
    fs::remove_file(disk.join("ballast")).unwrap();
    sync_when_there_is_room(&store);
    store.close().unwrap();
    check(&path, acknowledged + 1);
    println!("goes on");
}

#[test]
fn a_full_disk_stops_nothing_for_good() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs -o size=2m none '{}' && exec \"$@\"", dir.path().display());
    let flags = ["--user", "--map-root-user", "--mount"];
    let Some(command) = child::unshared(&flags, &script, "limits::counts_on_a_small_disk", dir.path()) else { return };
    let output = child::run(command);
    assert!(output.contains("goes on"));
    println!("a disk of 2 MB: {} changes acknowledged", acknowledged(&output));
}

#[test]
fn counts_with_a_limit() {
    let Some(path) = child::store_for("limits::counts_with_a_limit") else { return };
    let store = Store::open_with(&path, small()).unwrap();
    count(&store, 500);
    // Whoever asks now is answered too, whatever it is.
    let _ = (store.counters("likes"), store.sync(), store.compact(), store.stats());
    let closed = store.close();
    println!("closed {closed:?}");
}

#[test]
fn a_limit_on_the_size_of_files_loses_nothing() {
    // In blocks of 512 bytes: in one a segment fits and a snapshot soon does not, in the other only segments that
    // reserve no more than they need.
    for blocks in [300, 40] {
        let dir = tempfile::tempdir().unwrap();
        // Without the trap the process would be killed.
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$@\"");
        let output = child::run(child::in_shell(&script, "limits::counts_with_a_limit", dir.path()));
        let acknowledged = acknowledged(&output);
        println!("files of {} KiB: {acknowledged} acknowledged, then {}", blocks / 2, child::said(&output, "ended "));
        assert_eq!(acknowledged, 500);
        check(dir.path(), acknowledged);
    }
}

#[test]
fn counts_without_descriptors() {
    let Some(path) = child::store_for("limits::counts_without_descriptors") else { return };
    let take_all = || -> Vec<File> { std::iter::from_fn(|| File::open("/dev/null").ok()).collect() };
    let held = take_all();
    let refused = Store::open_with(&path, small()).unwrap_err();
    println!("\nopening {refused:?}");
    assert!(matches!(refused, Error::NoDescriptor { .. }));
    assert_eq!(fs::read_dir(&path).map_or(0, Iterator::count), 0, "nothing was created");
    drop(held);
    let store = Store::open_with(&path, small()).unwrap();
    let likes = store.counters("likes").unwrap();
    likes.add("first", 1).unwrap().wait().unwrap();
    let held = take_all();
    likes.add("second", 1).unwrap().wait().unwrap();
    let (acknowledged, failure) = count(&store, i64::MAX);
    assert!(acknowledged > 0);
    assert!(failure.as_ref().is_some_and(Error::is_temporary), "{failure:?}");
    assert_eq!(likes.len().unwrap() as i64, acknowledged + 3, "nothing is forgotten");
    drop(held);
    sync_when_there_is_room(&store);
    // With one left, a new segment can be created and its directory not be synced.
    let mut held = take_all();
    held.pop();
    let add = |n: u32| likes.add(format!("one-{n:->500}"), 1).and_then(|receipt| receipt.wait());
    let failure = (0..1_000).find_map(|n| add(n).err());
    assert!(matches!(failure, Some(Error::NoDescriptor { .. })), "{failure:?}");
    drop(held);
    sync_when_there_is_room(&store);
    store.close().unwrap();
}

#[test]
fn a_process_without_file_descriptors_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    fs::create_dir(&path).unwrap();
    let script = "ulimit -n 64; exec \"$@\"";
    let output = child::run(child::in_shell(script, "limits::counts_without_descriptors", &path));
    println!("no descriptors: {} acknowledged, then {}", acknowledged(&output), child::said(&output, "ended "));
    let store = Store::open_with(&path, small()).unwrap();
    let likes = store.counters("likes").unwrap();
    assert_eq!(likes.get_many(&["first", "second"]).unwrap(), [1, 1]);
    let acknowledged = acknowledged(&output);
    assert!((0..=acknowledged).all(|n| likes.get(format!("{n:->500}")).unwrap() == 1), "also what had to wait");
}

/// Opens a store that cannot be written, in a process that the system's permissions count for.
#[test]
fn reads_only() {
    let Some(dir) = child::store_for("limits::reads_only") else { return };
    assert!(File::create(dir.join("here")).is_err(), "the directory can be written, so this shows nothing");
    for name in ["store", "empty", "absent"] {
        let opened = Store::open_with(dir.join(name), small());
        let Err(Error::Io { path, source, .. }) = opened else { panic!("{name}: {opened:?}") };
        assert!(path.starts_with(&dir));
        let kind = source.kind();
        let refusals = [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
        assert!(refusals.contains(&kind), "{name}: {source:?}");
    }
    let report = Store::verify(dir.join("store")).unwrap();
    assert!(report.problems.is_empty(), "{report:?}");
    println!("verified");
}

fn store_and_empty(dir: &Path) {
    // In sled, a generation cannot even be read without writing to it.
    let options = Options { snapshot_home: SnapshotHome::File, ..small() };
    let store = Store::open_with(dir.join("store"), options).unwrap();
    store.counters("likes").unwrap().add("a", 1).unwrap();
    store.compact().unwrap();
    store.close().unwrap();
    fs::create_dir(dir.join("empty")).unwrap();
}

#[test]
fn a_read_only_file_system_is_refused_and_can_be_verified() {
    let dir = tempfile::tempdir().unwrap();
    store_and_empty(dir.path());
    let files = tree(dir.path());
    let path = dir.path().display();
    let script = format!("mount --bind '{path}' '{path}' && mount -o remount,bind,ro '{path}' && exec \"$@\"");
    let flags = ["--user", "--map-root-user", "--mount"];
    let Some(command) = child::unshared(&flags, &script, "limits::reads_only", dir.path()) else { return };
    let output = child::run(command);
    assert!(output.contains("verified"));
    assert_eq!(tree(dir.path()), files);
    check_one(&dir.path().join("store"));
}

#[test]
fn directories_without_permission_are_refused_and_can_be_verified() {
    let dir = tempfile::tempdir().unwrap();
    store_and_empty(dir.path());
    let files = tree(dir.path());
    let chmod = |mode: &str| {
        assert!(std::process::Command::new("chmod").args(["-R", mode]).arg(dir.path()).status().unwrap().success());
    };
    chmod("a-w");
    // For root, permissions count only where it is somebody else.
    let is_root = File::create(dir.path().join("here")).is_ok();
    let role = "limits::reads_only";
    let command = match is_root {
        false => Some(child::command(role, dir.path())),
        true => {
            fs::remove_file(dir.path().join("here")).unwrap();
            child::unshared(&["--user"], "exec \"$@\"", role, dir.path())
        }
    };
    let output = command.map(child::run);
    chmod("u+w");
    assert!(output.is_none_or(|output| output.contains("verified")));
    assert_eq!(tree(dir.path()), files);
    check_one(&dir.path().join("store"));
}

fn check_one(path: &Path) {
    let store = Store::open(path).unwrap();
    assert_eq!(store.counters("likes").unwrap().get("a").unwrap(), 1);
    assert!(store.recovery().closed_cleanly && store.recovery().damaged_generations.is_empty());
}

/// Every file below a directory, with its length.
fn tree(dir: &Path) -> Vec<(std::path::PathBuf, u64)> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(tree(&path));
        }
        files.push((
            path.clone(),
            path.metadata().map_or(0, |metadata| if metadata.is_dir() { 0 } else { metadata.len() }),
        ));
    }
    files.sort();
    files
}

#[test]
fn a_refused_permission_of_any_kind_is_an_answer_and_loses_nothing() {
    let operations =
        [Operation::Create, Operation::Open, Operation::Write, Operation::Allocate, Operation::Rename, Operation::List];
    for kind in [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem] {
        for operation in operations {
            let world = World::new();
            let store = world.open_with(Options { snapshot_home: SnapshotHome::File, ..small() }).unwrap();
            store.counters("likes").unwrap().add("a", 1).unwrap();
            store.sync().unwrap();
            world.disk.fail(fault(operation, support::ROOT, kind));
            let likes = store.counters("likes").unwrap();
            let _ =
                (likes.add("a", 1), store.sync(), store.compact(), store.counters("other").map(drop), store.close());
            drop(likes);
            if let Err(error) = world.open() {
                assert!(matches!(error, Error::Io { .. }), "{operation:?}: {error:?}");
            }
            world.disk.clear_faults();
            let found = world.open().unwrap().counters("likes").unwrap().get("a").unwrap();
            assert!((1..=2).contains(&found), "{operation:?}: {found}");
        }
    }
}
