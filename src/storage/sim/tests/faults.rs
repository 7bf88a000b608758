//! A full disk, calls that fail, and power that is cut in a chosen operation.

use super::*;

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
