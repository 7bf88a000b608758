//! A log that is not the newest of this store is named and touched by nobody; a damaged newest snapshot costs
//! nothing and is replaced; and what is no store, or of a newer version, is refused as it was found.
//!
//! That no damage of the files goes unnoticed is shown by `tests/corruption.rs`, exhaustively.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use plaudit::storage::sim::{Operation, Survival};
use plaudit::storage::{Storage, StorageFile};
use plaudit::{Driver, Error, Options, Store};
use support::{ROOT, State, World, fault, options, path, state};

/// A store with a log of several segments and no snapshot.
fn logged() -> (World, State) {
    logged_in(World::new())
}

fn logged_in(world: World) -> (World, State) {
    let store = world.open().unwrap();
    fill(&store, 0..40);
    let expected = state(&store);
    store.close().unwrap();
    assert!(world.segments().len() >= 4, "{:?}", world.segments());
    (copy(&world), expected)
}

fn fill(store: &Store, range: std::ops::Range<u64>) {
    let likes = store.counters("likes").unwrap();
    for n in range {
        likes.add(format!("key-{n:->300}"), n as i64 + 1).unwrap();
        likes.add("all", 1).unwrap();
        store.sync().unwrap();
    }
}

/// A store with two snapshots that has changed since both.
fn snapshotted(options: Options) -> (World, State) {
    let world = World::new();
    let store = world.open_with(options).unwrap();
    for n in 0..3 {
        fill(&store, n * 20..n * 20 + 20);
        if n < 2 {
            store.compact().unwrap();
        }
    }
    let expected = state(&store);
    store.close().unwrap();
    assert_eq!(world.snapshots().len(), 2);
    (copy(&world), expected)
}

fn copy(world: &World) -> World {
    World::on(world.disk.power_cut(Survival::Nothing, 0))
}

fn write(world: &World, path: &Path, bytes: &[u8]) {
    let file: Box<dyn StorageFile> = world.disk.create(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync().unwrap();
    world.disk.sync_dir(path.parent().unwrap()).unwrap();
}

/// Opens a damaged store that must be refused, by opening and by verifying, and left as it was.
fn refused(world: &World, context: &str) -> Error {
    let before = world.files();
    let error = match world.open() {
        Err(error) => error,
        Ok(store) => panic!("{context} was not noticed: {:?}", store.recovery()),
    };
    if let Ok(report) = Store::verify_in(world.environment(Driver::Caller), ROOT) {
        assert!(!report.problems.is_empty(), "{context} was not noticed by verify: {error:?}");
    }
    assert!(world.files() == before, "{context}: the disk was changed");
    error
}

fn corrupt_file(error: Error) -> (PathBuf, u64) {
    match error {
        Error::Corrupt { file, offset, .. } => (file, offset),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_older_state_of_the_last_segment_that_does_not_reach_a_snapshot_is_refused() {
    // The log as of an earlier moment is a sound log, but it does not reach what the snapshot needs.
    let world = World::new();
    let store = world.open().unwrap();
    fill(&store, 0..3);
    let older = world.disk.read_file(&world.segments()[0]).unwrap();
    fill(&store, 3..5);
    store.compact().unwrap();
    let segment = world.segments().pop().unwrap();
    std::mem::forget(store);
    let damaged = copy(&world);
    write(&damaged, &segment, &older);
    corrupt_file(refused(&damaged, "an older segment"));
}

/// A store in which every state of the last segment before its close was kept, oldest first: without a snapshot, or
/// with one from before all of them.
struct Closed {
    world: World,
    segment: PathBuf,
    older: Vec<Vec<u8>>,
    /// What the segment has at last, up to the end of its seal.
    newest: Vec<u8>,
}

impl Closed {
    fn new(compact: bool) -> Self {
        let world = World::new();
        let store = world.open().unwrap();
        fill(&store, 0..3);
        if compact {
            store.compact().unwrap();
        }
        let segments = || world.segments().len();
        let (before, mut older) = (segments(), Vec::new());
        for n in 3..7 {
            fill(&store, n..n + 1);
            older.push(world.disk.read_file(&world.segments().pop().unwrap()).unwrap());
        }
        store.close().unwrap();
        assert_eq!((segments(), world.snapshots().len()), (before, usize::from(compact)));
        let segment = world.segments().pop().unwrap();
        let mut newest = world.disk.read_file(&segment).unwrap();
        newest.truncate(*frames(&newest).last().unwrap());
        Self { world: copy(&world), segment, older, newest }
    }

    /// The store with other bytes as its last segment must be refused, by opening and by verifying.
    fn refuses(&self, bytes: &[u8], context: &str) -> (u64, String) {
        let damaged = copy(&self.world);
        write(&damaged, &self.segment, bytes);
        let problems = Store::verify_in(damaged.environment(Driver::Caller), ROOT).unwrap().problems;
        assert!(matches!(&problems[..], [Error::Corrupt { file, .. }] if *file == self.segment), "{problems:?}");
        match refused(&damaged, context) {
            Error::Corrupt { file, offset, what } if file == self.segment => (offset, what),
            other => panic!("{context}: {other:?}"),
        }
    }
}

/// Where the frames of a segment begin, and where the last of them ends.
fn frames(segment: &[u8]) -> Vec<usize> {
    let mut ends = vec![64];
    while let Some(header) = segment.get(ends[ends.len() - 1]..).filter(|rest| rest.starts_with(b"\xf7EPO")) {
        let body = u64::from_le_bytes(header[8..16].try_into().unwrap()) as usize;
        ends.push(ends[ends.len() - 1] + 48 + body.next_multiple_of(8));
    }
    ends
}

#[test]
fn an_older_state_of_the_last_segment_of_a_closed_store_is_refused() {
    for compact in [false, true] {
        let closed = Closed::new(compact);
        for (older, n) in closed.older.iter().zip(0..) {
            let (offset, what) = closed.refuses(older, &format!("state {n}"));
            assert_eq!(offset, *frames(older).last().unwrap() as u64);
            assert!(what.contains("the store was closed with epoch"), "{what}");
            assert!(what.ends_with(&format!("at byte {}", closed.newest.len())), "{what}");
        }
    }
}

#[test]
fn the_last_segment_of_a_closed_store_ends_with_its_seal_or_is_refused() {
    for compact in [false, true] {
        let closed = Closed::new(compact);
        let newest = &closed.newest;
        let full = closed.older[0].len();
        let ends = frames(newest);
        assert!(ends.len() >= 6, "{ends:?}");
        for &end in &ends[..ends.len() - 1] {
            closed.refuses(&newest[..end], "a segment that was cut at a frame's end");
            let zeros = |end: usize| [&newest[..end], &vec![0; full - end]].concat();
            closed.refuses(&zeros(end), "a tail that has turned into zeros");
            closed.refuses(&zeros(end + 24), "half of a header");
        }
        let deleted = copy(&closed.world);
        deleted.disk.remove(&closed.segment).unwrap();
        assert_eq!(corrupt_file(refused(&deleted, "a deleted segment")).0, closed.segment);
        // The same seal with the room behind it that a crash within the close leaves.
        let whole = copy(&closed.world);
        write(&whole, &closed.segment, &[&newest[..], &vec![0; full - newest.len()]].concat());
        assert_eq!(state(&whole.open().unwrap()), state(&closed.world.open().unwrap()));
    }
}

#[test]
fn an_older_state_of_the_last_segment_of_a_store_that_was_not_closed_is_taken_for_the_newest() {
    let world = World::new();
    let store = world.open().unwrap();
    fill(&store, 0..2);
    let (expected, segment) = (state(&store), world.segments().pop().unwrap());
    let older = world.disk.read_file(&segment).unwrap();
    fill(&store, 2..4);
    assert_eq!(world.segments().len(), 1);
    std::mem::forget(store);
    let damaged = copy(&world);
    write(&damaged, &segment, &older);
    // Nothing on the disk tells it from a crash after the second change.
    assert!(Store::verify_in(damaged.environment(Driver::Caller), ROOT).unwrap().problems.is_empty());
    let store = damaged.open().unwrap();
    assert_eq!((state(&store), store.recovery().closed_cleanly), (expected, false));
}

#[test]
fn a_closed_store_is_closed_until_its_log_goes_on() {
    let closed = Closed::new(false);
    let world = &closed.world;
    let before = world.files();
    world.open().unwrap().close().unwrap();
    assert!(world.files() == before, "a store that was opened and closed is as it was");

    // Neither a namespace nor a snapshot changes the log.
    let store = world.open().unwrap();
    store.counters("another").unwrap();
    let world = killed(world, store);
    let older = World::on(world.disk.process_kill());
    write(&older, &closed.segment, &closed.older[3]);
    corrupt_file(refused(&older, "an older segment of a store that was opened"));
    let store = world.open().unwrap();
    store.compact().unwrap();
    let expected = state(&store);
    let world = killed(&world, store);

    // Its next segment is there before the manifest names it.
    let store = world.open().unwrap();
    fill_one(&store);
    world.disk.fail(fault(Operation::Create, "MANIFEST", ErrorKind::Other));
    store.sync().unwrap_err();
    world.disk.clear_faults();
    let world = killed(&world, store);
    assert_eq!(world.segments().len(), 2);
    let store = world.open().unwrap();
    assert_eq!((state(&store), store.recovery().closed_cleanly), (expected, true));

    fill_one(&store);
    store.sync().unwrap();
    let expected = state(&store);
    let store = killed(&world, store).open().unwrap();
    assert_eq!((state(&store), store.recovery().closed_cleanly), (expected, false));
}

/// What the process leaves when it dies now.
fn killed(world: &World, store: Store) -> World {
    std::mem::forget(store);
    World::on(world.disk.process_kill())
}

fn fill_one(store: &Store) {
    store.counters("another").unwrap().add("one", 1).unwrap();
}

#[test]
fn a_close_that_failed_before_the_manifest_had_the_seal_left_a_store_that_was_not_closed() {
    let world = World::new();
    let store = world.open().unwrap();
    fill(&store, 0..3);
    let expected = state(&store);
    world.disk.fail(fault(Operation::Create, "MANIFEST", ErrorKind::Other));
    store.close().unwrap_err();
    world.disk.clear_faults();
    let world = copy(&world);
    let store = world.open().unwrap();
    assert_eq!(state(&store), expected);
    let manifest = world.disk.read_file(&path("MANIFEST")).unwrap();
    store.close().unwrap();
    assert_eq!(world.disk.read_file(&path("MANIFEST")).unwrap().len(), manifest.len() + SEAL_BYTES);
    assert_eq!(state(&world.open().unwrap()), expected);
}

/// The seal is the manifest's last field.
const SEAL_BYTES: usize = 20;

#[test]
fn a_manifest_of_a_closed_store_from_before_it_kept_the_seal_opens() {
    let (world, expected) = logged();
    let mut bytes = world.disk.read_file(&path("MANIFEST")).unwrap();
    bytes.truncate(bytes.len() - 4 - SEAL_BYTES);
    let body = (bytes.len() - 16) as u32;
    bytes[12..16].copy_from_slice(&body.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes);
    bytes.extend(checksum.to_le_bytes());
    write(&world, &path("MANIFEST"), &bytes);
    assert!(Store::verify_in(world.environment(Driver::Caller), ROOT).unwrap().problems.is_empty());
    let store = world.open().unwrap();
    assert_eq!((state(&store), store.recovery().closed_cleanly), (expected, true));
}

#[test]
fn a_segment_of_another_store_is_refused() {
    let (world, _) = logged();
    let (other, _) = logged_in(World { seed: 1, ..World::new() });
    for segment in world.segments() {
        let damaged = copy(&world);
        write(&damaged, &segment, &other.disk.read_file(&segment).unwrap());
        assert_eq!(corrupt_file(refused(&damaged, "a foreign segment")).0, segment);
    }
}

type Damage = Box<dyn Fn(&World)>;

#[test]
fn a_damaged_newest_snapshot_costs_nothing_and_is_replaced() {
    let (world, expected) = snapshotted(options());
    let newest = world.snapshots().pop().unwrap();
    let len = world.disk.read_file(&newest).unwrap().len() as u64;
    let mut damages: Vec<Damage> = vec![
        Box::new(|world| world.disk.remove(&world.snapshots()[1]).unwrap()),
        Box::new(move |world| world.disk.truncate_file(&world.snapshots()[1], len / 2).unwrap()),
        Box::new(|world| world.disk.copy_file(&world.snapshots()[0], &world.snapshots()[1]).unwrap()),
    ];
    for offset in (0..len).step_by(97).chain([len - 1]) {
        damages.push(Box::new(move |world| world.disk.flip_bit(&world.snapshots()[1], offset, 3).unwrap()));
    }
    for (damage, n) in damages.iter().zip(0..) {
        let damaged = copy(&world);
        damage(&damaged);
        let store = damaged.open().unwrap_or_else(|error| panic!("damage {n}: {error:?}"));
        assert_eq!(state(&store), expected, "damage {n}");
        let report = store.recovery();
        assert_eq!((report.generation, report.damaged_generations.len()), (Some(1), 1), "damage {n}");
        assert!(matches!(&report.damaged_generations[0], (2, Error::Corrupt { file, .. }) if *file == newest));
        assert!(store.is_compaction_due());
        store.compact().unwrap();
        assert_eq!(store.stats().generations, [1, 3]);
        assert!(!store.is_compaction_due());
        store.close().unwrap();
        let store = damaged.open().unwrap();
        assert_eq!((store.recovery().generation, state(&store)), (Some(3), expected.clone()));
        assert!(store.recovery().damaged_generations.is_empty());
        assert!(!damaged.disk.files().contains(&newest));
    }
}

#[test]
fn a_store_with_threads_replaces_a_damaged_snapshot_by_itself() {
    let (world, expected) = snapshotted(options());
    world.disk.flip_bit(&world.snapshots()[1], 100, 0).unwrap();
    let store = world.open_threaded(options()).unwrap();
    assert_eq!(state(&store), expected);
    while store.stats().generations != [1, 3] {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    store.close().unwrap();
    assert!(Store::verify_in(world.environment(Driver::Caller), ROOT).unwrap().problems.is_empty());
}

#[test]
fn when_all_snapshots_are_damaged_the_whole_log_serves_as_well() {
    let (world, expected) = snapshotted(Options { generations_kept: 3, ..options() });
    for snapshot in world.snapshots() {
        world.disk.flip_bit(&snapshot, 50, 1).unwrap();
    }
    let store = world.open_with(Options { generations_kept: 3, ..options() }).unwrap();
    assert_eq!(state(&store), expected);
    assert_eq!((store.recovery().generation, store.recovery().damaged_generations.len()), (None, 2));
    store.compact().unwrap();
    assert_eq!(store.stats().generations, [3]);
    store.close().unwrap();
    assert_eq!(state(&world.open().unwrap()), expected);
}

#[test]
fn when_nothing_is_left_to_restore_from_nothing_is_touched() {
    let (world, _) = snapshotted(options());
    let snapshots = world.snapshots();
    for snapshot in &snapshots {
        world.disk.flip_bit(snapshot, 50, 1).unwrap();
    }
    let (file, _) = corrupt_file(refused(&world, "two damaged snapshots"));
    assert_eq!(file, snapshots[1], "the newest is the one to mend");
}

#[test]
fn a_snapshot_that_cannot_be_opened_for_now_is_not_taken_for_damaged() {
    for kind in [ErrorKind::PermissionDenied, ErrorKind::OutOfMemory, ErrorKind::StorageFull] {
        let (world, expected) = snapshotted(options());
        let before = world.files();
        world.disk.fail(fault(Operation::Open, ".snap", kind));
        assert!(!world.open().unwrap_err().is_corrupt());
        assert!(!Store::verify_in(world.environment(Driver::Caller), ROOT).unwrap_err().is_corrupt());
        assert!(world.files() == before);
        world.disk.clear_faults();
        let store = world.open().unwrap();
        assert!(store.recovery().damaged_generations.is_empty());
        assert_eq!(state(&store), expected);
    }
}

#[test]
fn a_backup_without_empty_directories_is_as_safe() {
    let world = World::new();
    let store = world.open().unwrap();
    fill(&store, 0..20);
    let expected = state(&store);
    store.close().unwrap();
    world.disk.remove_dir_all(&path("snapshot")).unwrap();
    let world = copy(&world);
    let store = world.open().unwrap();
    store.compact().unwrap();
    std::mem::forget(store);
    let world = World::on(world.disk.power_cut(Survival::Nothing, 0));
    assert_eq!(state(&world.open().unwrap()), expected);
}

#[test]
fn verify_finds_every_damage_in_one_run_and_changes_nothing() {
    let (world, _) = snapshotted(options());
    let verify = |world: &World| Store::verify_in(world.environment(Driver::Caller), ROOT).unwrap();
    let sound = verify(&world);
    assert!(sound.problems.is_empty(), "{sound:?}");
    assert_eq!(sound.generations.len(), 2);
    let segments = world.segments();
    world.disk.flip_bit(&world.snapshots()[0], 60, 1).unwrap();
    world.disk.flip_bit(&segments[0], 80, 1).unwrap();
    world.disk.flip_bit(&segments[2], 80, 1).unwrap();
    let before = world.files();
    let report = verify(&world);
    assert_eq!(report.problems.len(), 3, "{:#?}", report.problems);
    assert!(world.files() == before);
}

#[test]
fn what_is_no_store_is_refused_untouched() {
    let (store, _) = logged();
    let without_manifest = copy(&store);
    without_manifest.disk.remove(&path("MANIFEST")).unwrap();
    let with = |name: &str| {
        let world = World::new();
        let file = if name.is_empty() { PathBuf::from(ROOT) } else { path(name) };
        world.disk.create_dir_all(file.parent().unwrap()).unwrap();
        write(&world, &file, b"somebody's");
        world
    };
    let cases = ["", "notes.txt", "log", "log/notes.txt", "snapshot/00000000000000000001.snap", "LOCK/a"];
    for (world, n) in cases.into_iter().map(with).chain([without_manifest]).zip(0..) {
        match refused(&world, &format!("case {n}")) {
            Error::NotAStore { path, what } => assert!(path == Path::new(ROOT) && !what.is_empty()),
            other => panic!("case {n}: {other:?}"),
        }
        let verified = Store::verify_in(world.environment(Driver::Caller), ROOT);
        assert!(matches!(verified, Err(Error::NotAStore { .. })));
    }
}

#[test]
fn files_of_others_beside_a_store_are_left_alone() {
    let (world, expected) = logged();
    let foreign: BTreeMap<PathBuf, Vec<u8>> =
        ["README", "log/notes.txt", "snapshot/notes", "log/1.log"].map(|name| (path(name), vec![1, 2])).into();
    foreign.iter().for_each(|(path, bytes)| write(&world, path, bytes));
    let store = world.open().unwrap();
    assert_eq!(state(&store), expected);
    store.compact().unwrap();
    store.close().unwrap();
    world.open().unwrap().close().unwrap();
    foreign.iter().for_each(|(path, bytes)| assert_eq!(&world.disk.read_file(path).unwrap(), bytes));
}

/// Sets a version, and the checksum behind the first `covered` bytes.
fn set_version(world: &World, path: &Path, version: u32, covered: Option<usize>) {
    let mut bytes = world.disk.read_file(path).unwrap();
    let covered = covered.unwrap_or(bytes.len() - 4);
    bytes[8..12].copy_from_slice(&version.to_le_bytes());
    let checksum = crc32c::crc32c(&bytes[..covered]);
    bytes[covered..covered + 4].copy_from_slice(&checksum.to_le_bytes());
    write(world, path, &bytes);
}

#[test]
fn a_newer_version_is_refused_untouched() {
    let (world, _) = snapshotted(options());
    let cases = [
        (path("MANIFEST"), None),
        (world.segments().pop().unwrap(), Some(60)),
        (world.snapshots().pop().unwrap(), Some(20)),
    ];
    for (file, covered) in cases {
        let newer = copy(&world);
        set_version(&newer, &file, 2, covered);
        match refused(&newer, &format!("{file:?}")) {
            Error::UnsupportedVersion { file: named, found: 2, supported: 1 } => assert_eq!(named, file),
            other => panic!("{file:?}: {other:?}"),
        }
    }
}

#[cfg(feature = "sled")]
#[test]
fn a_damaged_snapshot_in_sled_costs_nothing_and_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let expected = {
        let store = Store::open(dir.path()).unwrap();
        for n in 0..3 {
            fill(&store, n * 10..n * 10 + 10);
            if n < 2 {
                store.compact().unwrap();
            }
        }
        let expected = state(&store);
        store.close().unwrap();
        expected
    };
    let newest = dir.path().join("snapshot/00000000000000000002/db");
    let mut bytes = std::fs::read(&newest).unwrap();
    let middle = bytes.iter().position(|&byte| byte == b'k').unwrap();
    bytes[middle] ^= 1;
    std::fs::write(&newest, bytes).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(state(&store), expected);
    assert_eq!(store.recovery().damaged_generations.len(), 1);
    while store.stats().generations != [1, 3] {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    store.close().unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert_eq!((store.recovery().generation, state(&store)), (Some(3), expected));
    assert!(!newest.exists());
}

/// Rewrites the bytes before a checksum, so that only their meaning is wrong.
fn forge(world: &World, path: &Path, change: impl Fn(&mut Vec<u8>), checked: impl Fn(&[u8]) -> (u32, usize)) {
    let mut bytes = world.disk.read_file(path).unwrap();
    change(&mut bytes);
    let (checksum, at) = checked(&bytes);
    bytes[at..at + 4].copy_from_slice(&checksum.to_le_bytes());
    write(world, path, &bytes);
}

#[test]
fn numbers_that_only_an_enemy_writes_make_nobody_panic() {
    let manifest = path("MANIFEST");
    let whole = |bytes: &[u8]| (crc32c::crc32c(&bytes[..bytes.len() - 4]), bytes.len() - 4);

    // The newest generation's meta is the last but for two words, the seal and the checksum; its third word counts the
    // counters.
    let (world, expected) = snapshotted(options());
    forge(
        &world,
        &manifest,
        |bytes| {
            let at = bytes.len() - 4 - SEAL_BYTES - 16 - 65 + 16;
            bytes[at..at + 8].fill(0x7f);
        },
        whole,
    );
    assert_eq!(state(&world.open().unwrap()), expected, "a count is only a hint");

    // The fifth word after the preamble is the number of the next generation.
    let (world, _) = snapshotted(options());
    forge(&world, &manifest, |bytes| bytes[16 + 32..16 + 40].fill(0xff), whole);
    assert_eq!(corrupt_file(refused(&world, "a number without a next one")).0, manifest);

    let world = World::new();
    let store = world.open().unwrap();
    store.counters("likes").unwrap().add("a", 1).unwrap();
    store.sync().unwrap();
    std::mem::forget(store);
    let world = copy(&world);
    let segment = world.segments().pop().unwrap();
    let frame = 64;
    let checked = |bytes: &[u8]| {
        let place = [&bytes[16..32], &64u64.to_le_bytes(), &bytes[frame..frame + 44]].concat();
        (crc32c::crc32c(&place), frame + 44)
    };
    for epoch in [u64::MAX, u64::MAX - 1, 1 << 63, 1 << 62, (1 << 62) - 1] {
        let forged = copy(&world);
        let change = |bytes: &mut Vec<u8>| bytes[frame + 16..frame + 24].copy_from_slice(&u64::to_le_bytes(epoch));
        forge(&forged, &segment, change, checked);
        assert_eq!(corrupt_file(refused(&forged, "an epoch that no store reaches")).0, segment, "{epoch}");
    }
}
