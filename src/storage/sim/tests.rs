use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use super::*;
use crate::clock::Clock;

const ALL: [Survival; 4] = [Survival::Nothing, Survival::Everything, Survival::Prefix, Survival::Random];

fn path(text: &str) -> &Path {
    Path::new(text)
}

/// A disk with a durable, synced file `/f`.
fn disk_with(bytes: &[u8]) -> (SimDisk, Box<dyn StorageFile>) {
    let disk = SimDisk::new();
    let file = disk.create(path("/f")).unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file.sync().unwrap();
    disk.sync_dir(path("/")).unwrap();
    (disk, file)
}

fn contents(disk: &SimDisk) -> Vec<u8> {
    disk.read_file(path("/f")).unwrap()
}

fn fault(operation: Operation) -> Fault {
    Fault { operation, path_contains: None, skip: 0, times: Some(1), kind: ErrorKind::Other, done: false }
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("the call fails").kind()
}

#[test]
fn what_was_synced_survives_every_cut() {
    let (disk, file) = disk_with(b"durable");
    file.write_all_at(b" and more", 7).unwrap();
    for survival in ALL {
        for seed in 0..50 {
            assert_eq!(contents(&disk.power_cut(survival, seed))[..7], *b"durable", "{survival:?}, seed {seed}");
        }
    }
}

#[test]
fn nothing_and_everything_are_the_two_ends() {
    let (disk, file) = disk_with(b"old");
    file.write_all_at(b"newer", 0).unwrap();
    file.truncate(4).unwrap();
    disk.create(path("/g")).unwrap();
    let before = disk.power_cut(Survival::Nothing, 0);
    assert_eq!((contents(&before), before.files()), (b"old".to_vec(), vec![PathBuf::from("/f")]));
    let after = disk.power_cut(Survival::Everything, 0);
    assert_eq!((contents(&after), after.files()), (b"newe".to_vec(), vec!["/f".into(), "/g".into()]));
    assert_eq!(contents(&disk), b"newe", "the old disk stays as it is");
}

#[test]
fn a_prefix_keeps_operations_up_to_one_moment_over_all_files() {
    let (disk, file) = disk_with(b"....");
    let second = disk.create(path("/g")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    file.write_all_at(b"1", 0).unwrap();
    second.write_all_at(b"2", 0).unwrap();
    file.write_all_at(b"3", 1).unwrap();
    disk.create(path("/h")).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let after = disk.power_cut(Survival::Prefix, seed);
        let two = after.read_file(path("/g")).unwrap();
        seen.insert((contents(&after), two, after.files().len()));
    }
    let moment = |f: &[u8], g: &[u8], files| (f.to_vec(), g.to_vec(), files);
    let expected = [
        moment(b"....", b"", 2),
        moment(b"1...", b"", 2),
        moment(b"1...", b"2", 2),
        moment(b"13..", b"2", 2),
        moment(b"13..", b"2", 3),
    ];
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn a_prefix_may_end_within_a_write() {
    let (disk, file) = disk_with(b"....");
    file.write_all_at(b"123", 0).unwrap();
    let seen: BTreeSet<_> = (0..100).map(|seed| contents(&disk.power_cut(Survival::Prefix, seed))).collect();
    assert_eq!(seen, [&b"...."[..], b"1...", b"12..", b"123."].map(<[u8]>::to_vec).into());
}

#[test]
fn a_killed_process_leaves_what_it_wrote_and_nothing_more_durable() {
    let (disk, file) = disk_with(b"old");
    file.write_all_at(b"new", 0).unwrap();
    let removed = disk.create(path("/removed")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    disk.remove_file(path("/removed")).unwrap();
    disk.set_capacity(Some(3));
    let lock = disk.try_lock(path("/f")).unwrap();
    disk.cut_power_at(0, Survival::Nothing, 0);
    let next = disk.process_kill();
    assert_eq!((contents(&next), next.files(), next.operations()), (b"new".to_vec(), vec!["/f".into()], 0));
    assert!(next.try_lock(path("/f")).unwrap().is_some());
    let after = next.power_cut(Survival::Nothing, 0);
    assert_eq!((contents(&after), after.files().len()), (b"old".to_vec(), 2), "nothing became durable");
    next.open(path("/f")).unwrap().write_all_at(b"next", 0).unwrap_err();
    assert_eq!(contents(&disk), b"new", "the old disk stays as it is");
    drop((removed, lock));
}

#[test]
fn a_random_cut_tears_writes_at_sectors() {
    let (disk, file) = disk_with(&[0; 4096]);
    file.write_all_at(&[1; 2000], 100).unwrap();
    let mut torn = false;
    for seed in 0..100 {
        let bytes = contents(&disk.power_cut(Survival::Random, seed));
        assert_eq!(bytes.len(), 4096);
        for (from, to) in [(100, 512), (512, 1024), (1024, 1536), (1536, 2048), (2048, 2100)] {
            let sector = &bytes[from..to];
            assert!(sector.iter().all(|byte| *byte == sector[0]), "seed {seed}: a sector is old or new");
        }
        assert!(bytes[..100].iter().chain(&bytes[2100..]).all(|byte| *byte == 0));
        torn |= bytes[100] != bytes[2000] && bytes[600] != bytes[1100];
    }
    assert!(torn);
}

#[test]
fn a_random_cut_may_keep_a_length_without_its_bytes() {
    let (disk, file) = disk_with(b"");
    file.write_all_at(&[1; 512], 0).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let bytes = contents(&disk.power_cut(Survival::Random, seed));
        seen.insert(match (bytes.len(), bytes.first()) {
            (0, _) => "short",
            (512, Some(1)) if bytes == [1; 512] => "whole",
            (512, _) if bytes == [0; 512] => "zeros",
            (512, _) => "stale",
            _ => "wrong",
        });
    }
    assert_eq!(seen, BTreeSet::from(["short", "stale", "whole", "zeros"]));
}

#[test]
fn allocated_room_never_shows_stale_bytes() {
    let (disk, file) = disk_with(b"");
    file.allocate(100_000).unwrap();
    for seed in 0..50 {
        let bytes = contents(&disk.power_cut(Survival::Random, seed));
        assert!(bytes.iter().all(|byte| *byte == 0) && [0, 100_000].contains(&bytes.len()));
    }
}

#[test]
fn a_cut_depends_on_its_seed_alone() {
    let (disk, file) = disk_with(&[0; 5000]);
    for n in 0..20 {
        file.write_all_at(&[n; 700], u64::from(n) * 400).unwrap();
    }
    let cut = |seed| contents(&disk.power_cut(Survival::Random, seed));
    assert_eq!(cut(3), cut(3));
    assert_ne!(cut(3), cut(4));
}

#[test]
fn a_file_without_a_durable_name_is_gone_though_it_was_synced() {
    let disk = SimDisk::new();
    disk.create_dir_all(path("/a/b")).unwrap();
    let file = disk.create(path("/a/b/f")).unwrap();
    file.write_all_at(b"x", 0).unwrap();
    file.sync().unwrap();
    for synced in ["/a/b", "/a"] {
        disk.sync_dir(path(synced)).unwrap();
        assert!(disk.power_cut(Survival::Nothing, 0).files().is_empty(), "/ is not synced");
    }
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(disk.power_cut(Survival::Nothing, 0).files(), [PathBuf::from("/a/b/f")]);
}

#[test]
fn a_durable_name_of_a_file_that_was_not_synced_is_an_empty_file() {
    let disk = SimDisk::new();
    disk.create(path("/f")).unwrap().write_all_at(b"x", 0).unwrap();
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(contents(&disk.power_cut(Survival::Nothing, 0)), b"");
}

#[test]
fn a_rename_that_was_not_synced_leaves_the_old_file_or_the_new() {
    let (disk, _file) = disk_with(b"old");
    let new = disk.create(path("/tmp")).unwrap();
    new.write_all_at(b"new", 0).unwrap();
    new.sync().unwrap();
    disk.rename(path("/tmp"), path("/f")).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..100 {
        let after = disk.power_cut(Survival::Random, seed);
        seen.insert((contents(&after), after.files().len()));
    }
    // The new name of /tmp may have been lost with the rename, or be there beside the old file.
    assert_eq!(seen, BTreeSet::from([(b"old".to_vec(), 1), (b"old".to_vec(), 2), (b"new".to_vec(), 1)]));
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(contents(&disk.power_cut(Survival::Nothing, 0)), b"new");
}

#[test]
fn a_rename_between_directories_is_never_half_durable() {
    let (disk, _file) = disk_with(b"x");
    disk.create_dir_all(path("/d")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    disk.create(path("/g")).unwrap();
    disk.rename(path("/g"), path("/d/g")).unwrap();
    disk.rename(path("/f"), path("/d/f")).unwrap();
    disk.sync_dir(path("/d")).unwrap();
    let both = [PathBuf::from("/d/f"), PathBuf::from("/d/g")];
    assert_eq!(disk.power_cut(Survival::Nothing, 0).files(), both);
    disk.sync_dir(path("/")).unwrap();
    assert_eq!(disk.power_cut(Survival::Everything, 0).files(), both);
}

#[test]
fn a_file_has_one_name_whichever_of_its_renames_survive() {
    let (disk, _file) = disk_with(b"x");
    disk.rename(path("/f"), path("/g")).unwrap();
    disk.rename(path("/g"), path("/h")).unwrap();
    let after = |seed| disk.power_cut(Survival::Random, seed).files();
    let seen: BTreeSet<_> = (0..50).map(after).collect();
    assert_eq!(seen, ["/f", "/g", "/h"].map(|name| vec![PathBuf::from(name)]).into());
}

#[test]
fn syncing_one_directory_leaves_the_changes_of_another_in_order() {
    let (disk, _file) = disk_with(b"x");
    disk.create_dir_all(path("/d")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    disk.create(path("/f2")).unwrap();
    disk.rename(path("/f2"), path("/f3")).unwrap();
    disk.remove_file(path("/f")).unwrap();
    disk.rename(path("/f3"), path("/f")).unwrap();
    disk.sync_dir(path("/d")).unwrap();
    let after = disk.power_cut(Survival::Everything, 0);
    assert_eq!((contents(&after), after.files()), (Vec::new(), vec![PathBuf::from("/f")]));
}

#[test]
fn a_random_cut_may_keep_part_of_a_length() {
    let (disk, file) = disk_with(b"");
    file.write_all_at(&[1; 2048], 0).unwrap();
    let cut = |seed| contents(&disk.power_cut(Survival::Random, seed)).len();
    let seen: BTreeSet<_> = (0..200).map(cut).collect();
    assert_eq!(seen, BTreeSet::from([0, 512, 1024, 1536, 2048]));
}

#[test]
fn a_removal_that_was_not_synced_may_be_undone() {
    let (disk, file) = disk_with(b"x");
    disk.create_dir_all(path("/d")).unwrap();
    disk.create(path("/d/g")).unwrap();
    disk.sync_dir(path("/d")).unwrap();
    disk.sync_dir(path("/")).unwrap();
    drop(file);
    disk.remove_file(path("/f")).unwrap();
    disk.remove_dir_all(path("/d")).unwrap();
    assert!(disk.files().is_empty());
    assert_eq!(disk.power_cut(Survival::Nothing, 0).files(), [PathBuf::from("/d/g"), "/f".into()]);
    disk.sync_dir(path("/")).unwrap();
    assert!(disk.power_cut(Survival::Nothing, 0).files().is_empty());
}

#[test]
fn a_full_disk_refuses_growth_and_takes_overwrites() {
    let disk = SimDisk::with_capacity(1000);
    let file = disk.create(path("/f")).unwrap();
    file.allocate(600).unwrap();
    let other = disk.create(path("/g")).unwrap();
    let error = other.allocate(401).unwrap_err();
    assert_eq!((error.kind(), error.raw_os_error()), (ErrorKind::StorageFull, Some(28)));
    assert_eq!(other.len().unwrap(), 0);
    assert_eq!(kind(other.write_all_at(&[1; 500], 0)), ErrorKind::StorageFull);
    assert_eq!(disk.read_file(path("/g")).unwrap(), [1; 400], "what fits is written");
    assert_eq!(kind(other.write_all_at(&[1], 5000)), ErrorKind::StorageFull);
    assert_eq!(other.len().unwrap(), 400);
    file.write_all_at(&[2; 600], 0).unwrap();
    disk.rename(path("/f"), path("/h")).unwrap();
    other.truncate(0).unwrap();
    file.write_all_at(&[3; 400], 600).unwrap();
    disk.set_capacity(None);
    other.write_all_at(&[4; 400], 0).unwrap();
}

#[test]
fn a_removed_file_gives_its_room_back_when_its_last_handle_is_dropped() {
    let disk = SimDisk::with_capacity(10);
    let first = disk.create(path("/f")).unwrap();
    first.allocate(10).unwrap();
    disk.remove_file(path("/f")).unwrap();
    let second = disk.create(path("/g")).unwrap();
    assert_eq!(kind(second.allocate(10)), ErrorKind::StorageFull);
    drop(first);
    second.allocate(10).unwrap();
}

#[test]
fn a_fault_strikes_the_calls_it_names() {
    let (disk, file) = disk_with(b"ab");
    disk.fail(Fault { skip: 1, times: Some(2), kind: ErrorKind::StorageFull, ..fault(Operation::Allocate) });
    let answers: Vec<_> = (3..8).map(|len| file.allocate(len).map_err(|error| error.kind())).collect();
    let full = Err(ErrorKind::StorageFull);
    assert_eq!(answers, [Ok(()), full, full, Ok(()), Ok(())]);

    disk.fail(Fault { path_contains: Some("g".to_owned()), times: None, ..fault(Operation::Create) });
    for _ in 0..3 {
        assert_eq!(kind(disk.create(path("/g"))), ErrorKind::Other);
    }
    disk.create(path("/h")).unwrap();
    disk.clear_faults();
    disk.create(path("/g")).unwrap();
}

#[test]
fn every_operation_can_be_made_to_fail_and_then_changes_nothing_but_half_a_write() {
    let (disk, file) = disk_with(b"abcd");
    let (f, g) = (path("/f"), path("/g"));
    let mut buf = [0; 1];
    let fails = |operation, call: &mut dyn FnMut() -> io::Result<()>| {
        disk.fail(fault(operation));
        assert_eq!(kind(call()), ErrorKind::Other, "{operation:?}");
    };
    fails(Operation::Create, &mut || disk.create(g).map(drop));
    fails(Operation::Create, &mut || disk.create_dir_all(g));
    fails(Operation::Open, &mut || disk.open(f).map(drop));
    fails(Operation::Read, &mut || file.read_at(&mut buf, 0).map(drop));
    fails(Operation::Allocate, &mut || file.allocate(100));
    fails(Operation::Truncate, &mut || file.truncate(1));
    fails(Operation::Sync, &mut || file.sync());
    fails(Operation::Rename, &mut || disk.rename(f, g));
    fails(Operation::Remove, &mut || disk.remove_file(f));
    fails(Operation::SyncDir, &mut || disk.sync_dir(path("/")));
    fails(Operation::List, &mut || disk.list(path("/")).map(drop));
    fails(Operation::Lock, &mut || disk.try_lock(g).map(drop));
    assert_eq!((contents(&disk), disk.files()), (b"abcd".to_vec(), vec![f.to_owned()]));
    fails(Operation::Write, &mut || file.write_all_at(b"ABCD", 0));
    assert_eq!(contents(&disk), b"ABcd");
}

#[test]
fn a_call_that_fails_although_it_was_done_changes_all_that_it_was_to() {
    let (disk, file) = disk_with(b"abcd");
    let (f, g, h) = (path("/f"), path("/g"), path("/h"));
    let fails = |operation, call: &mut dyn FnMut() -> io::Result<()>| {
        disk.fail(Fault { done: true, ..fault(operation) });
        assert_eq!(kind(call()), ErrorKind::Other, "{operation:?}");
    };
    fails(Operation::Write, &mut || file.write_all_at(b"ABCDE", 0));
    fails(Operation::Allocate, &mut || file.allocate(7));
    fails(Operation::Truncate, &mut || file.truncate(6));
    assert_eq!(contents(&disk), b"ABCDE\0");
    fails(Operation::Sync, &mut || file.sync());
    assert_eq!(contents(&disk.power_cut(Survival::Nothing, 0)), b"ABCDE\0");
    fails(Operation::Create, &mut || disk.create(g).map(drop));
    fails(Operation::Create, &mut || disk.create_dir_all(h));
    fails(Operation::Rename, &mut || disk.rename(g, path("/h/g")));
    fails(Operation::Remove, &mut || disk.remove_file(f));
    fails(Operation::SyncDir, &mut || disk.sync_dir(path("/")));
    assert_eq!(disk.power_cut(Survival::Nothing, 0).files(), [path("/h/g")]);
    fails(Operation::Lock, &mut || disk.try_lock(g).map(drop));
    assert!(disk.try_lock(g).unwrap().is_some());
}

#[test]
fn bytes_of_a_failed_sync_stay_readable_and_no_later_sync_saves_them() {
    let (disk, file) = disk_with(b"old");
    file.write_all_at(b"newer", 0).unwrap();
    disk.fail(fault(Operation::Sync));
    file.sync().unwrap_err();
    assert_eq!(contents(&disk), b"newer");
    file.sync().unwrap();
    assert_eq!(contents(&disk), b"newer");
    assert_eq!(contents(&disk.power_cut(Survival::Everything, 0)), b"old\0\0", "the length survives");
    file.write_all_at(b"newer", 0).unwrap();
    file.sync().unwrap();
    assert_eq!(contents(&disk.power_cut(Survival::Nothing, 0)), b"newer", "written again, they are saved");
}

/// Three writes and syncs, then a rename; returns how many syncs were acknowledged.
fn work(disk: &SimDisk) -> (u8, io::Result<()>) {
    let mut acknowledged = 0;
    let mut run = || {
        let file = disk.create(path("/tmp"))?;
        disk.sync_dir(path("/"))?;
        for n in 1..=3 {
            file.write_all_at(&[n; 1000], u64::from(n - 1) * 1000)?;
            file.sync()?;
            acknowledged = n;
        }
        disk.rename(path("/tmp"), path("/f"))?;
        disk.sync_dir(path("/"))
    };
    let result = run();
    (acknowledged, result)
}

#[test]
fn a_scheduled_cut_fails_that_operation_and_all_after_it() {
    let whole = SimDisk::new();
    work(&whole).1.unwrap();
    assert_eq!(whole.operations(), 10);
    for survival in ALL {
        for at in 0..10 {
            for seed in 0..20 {
                let disk = SimDisk::new();
                disk.cut_power_at(at, survival, seed);
                let (acknowledged, result) = work(&disk);
                assert_eq!(kind(result), ErrorKind::Other);
                assert!(disk.is_powered_off());
                assert_eq!(disk.operations(), at);
                assert_eq!(kind(disk.list(path("/"))), ErrorKind::Other);
                assert_eq!(kind(disk.create(path("/x"))), ErrorKind::Other);
                let after = disk.power_cut(survival, seed);
                let name = after.files().pop();
                let bytes = name.map_or_else(Vec::new, |name| after.read_file(&name).unwrap());
                for n in 1..=acknowledged {
                    assert_eq!(bytes[usize::from(n - 1) * 1000..][..1000], [n; 1000], "{survival:?} at {at}");
                }
                work(&after).1.unwrap();
            }
        }
    }
}

#[test]
fn the_operation_of_a_scheduled_cut_may_happen_in_part() {
    let mut lengths = BTreeSet::new();
    for seed in 0..50 {
        let (disk, file) = disk_with(b"");
        disk.cut_power_at(disk.operations(), Survival::Random, seed);
        file.write_all_at(&[1; 1024], 0).unwrap_err();
        assert_eq!(kind(file.len()), ErrorKind::Other);
        lengths.insert(contents(&disk).len());
    }
    assert!(lengths.contains(&0) && lengths.contains(&1024) && lengths.len() > 5, "{lengths:?}");
}

#[test]
fn a_disk_after_a_cut_is_free_of_locks_faults_and_the_old_handles() {
    let (disk, file) = disk_with(b"old");
    let held = disk.try_lock(path("/f")).unwrap();
    assert!(held.is_some());
    disk.fail(Fault { times: None, ..fault(Operation::Open) });
    let after = disk.power_cut(Survival::Everything, 0);
    assert!(after.try_lock(path("/f")).unwrap().is_some());
    assert_eq!(after.operations(), 0);
    file.write_all_at(b"OLD", 0).unwrap();
    let reopened = after.open(path("/f")).unwrap();
    reopened.write_all_at(b"n", 0).unwrap();
    assert_eq!((contents(&disk), contents(&after)), (b"OLD".to_vec(), b"nld".to_vec()));
}

#[test]
fn damage_is_seen_by_calls_and_after_every_cut() {
    for survival in [Survival::Nothing, Survival::Everything] {
        let (disk, file) = disk_with(b"abcd");
        file.write_all_at(b"BC", 1).unwrap();
        disk.copy_file(path("/f"), path("/g")).unwrap();
        disk.flip_bit(path("/f"), 0, 1).unwrap();
        disk.flip_bit(path("/f"), 1, 0).unwrap();
        disk.truncate_file(path("/f"), 2).unwrap();
        assert_eq!(contents(&disk), b"cC");
        let after = disk.power_cut(survival, 0);
        let (cut, copy): (&[u8], &[u8]) =
            if survival == Survival::Nothing { (b"cc", b"abcd") } else { (b"cC", b"aBCd") };
        assert_eq!(contents(&after), cut);
        assert_eq!(after.read_file(path("/g")).unwrap(), copy);
        disk.remove(path("/f")).unwrap();
        assert_eq!(disk.power_cut(survival, 0).files(), [PathBuf::from("/g")]);
    }
}

#[test]
fn damage_outside_a_file_is_refused() {
    let (disk, _file) = disk_with(b"a");
    assert_eq!(kind(disk.flip_bit(path("/f"), 1, 0)), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.flip_bit(path("/f"), 0, 8)), ErrorKind::InvalidInput);
    assert_eq!(kind(disk.flip_bit(path("/g"), 0, 0)), ErrorKind::NotFound);
    assert_eq!(kind(disk.copy_file(path("/f"), path("/d/f"))), ErrorKind::NotFound);
    assert_eq!(kind(disk.copy_file(path("/f"), path("/"))), ErrorKind::ResourceBusy);
    assert_eq!(kind(disk.remove(path("/"))), ErrorKind::IsADirectory);
    disk.truncate_file(path("/f"), 5).unwrap();
    disk.copy_file(path("/f"), path("/f")).unwrap();
    assert_eq!(contents(&disk), b"a");
}

#[test]
fn cutting_off_unsynced_growth_leaves_one_length_in_both_views() {
    let (disk, file) = disk_with(b"ab");
    file.write_all_at(b"xyz", 100).unwrap();
    disk.truncate_file(path("/f"), 50).unwrap();
    let expected = contents(&disk);
    assert_eq!(expected.len(), 50);
    assert_eq!(contents(&disk.power_cut(Survival::Everything, 0)), expected);
}

#[test]
fn offsets_beyond_what_a_file_can_have_are_refused() {
    let (disk, file) = disk_with(b"a");
    assert_eq!(kind(file.write_all_at(b"x", u64::MAX)), ErrorKind::FileTooLarge);
    assert_eq!(kind(file.write_all_at(b"x", i64::MAX as u64)), ErrorKind::FileTooLarge);
    assert_eq!(kind(file.allocate(u64::MAX)), ErrorKind::FileTooLarge);
    file.write_all_at(b"x", i64::MAX as u64 - 1).unwrap();
    let _after = disk.power_cut(Survival::Random, 0);
    assert_eq!(kind(disk.read_file(path("/f"))), ErrorKind::OutOfMemory);
    let mut buf = [0; 2];
    assert_eq!(file.read_at(&mut buf, i64::MAX as u64 - 1).unwrap(), 1);
    assert_eq!(file.read_at(&mut buf, u64::MAX).unwrap(), 0);
}

#[test]
fn the_clock_moves_only_when_it_is_told_to() {
    let clock = SimClock::new();
    let start = clock.wall_ms();
    let same = clock.clone();
    same.advance(Duration::from_millis(1500));
    assert_eq!((clock.wall_ms(), clock.monotonic()), (start + 1500, Duration::from_millis(1500)));
    clock.set_wall_ms(7);
    assert_eq!((same.wall_ms(), same.monotonic()), (7, Duration::from_millis(1500)));
}
