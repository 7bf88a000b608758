//! What survives a power cut and a kill, of bytes, lengths and names.

mod damage;
mod faults;

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
fn the_clock_moves_only_when_it_is_told_to() {
    let clock = SimClock::new();
    let start = clock.wall_ms();
    let same = clock.clone();
    same.advance(Duration::from_millis(1500));
    assert_eq!((clock.wall_ms(), clock.monotonic()), (start + 1500, Duration::from_millis(1500)));
    clock.set_wall_ms(7);
    assert_eq!((same.wall_ms(), same.monotonic()), (7, Duration::from_millis(1500)));
}
